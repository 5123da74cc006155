"""What a report reads of a run's folder."""

import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fdistill.errors import FDistillError
from fdistill.report.tables import Metrics


@dataclass(frozen=True)
class Run:
    """A run as it lies in its folder; what is missing but for the metrics is left out."""

    folder: Path

    @cached_property
    def name(self) -> str:
        """Return what the run is called: its folder."""
        return self.folder.resolve().name

    def check(self) -> None:
        """Refuse a folder that holds no evaluated run."""
        if not self.folder.is_dir():
            raise FDistillError(
                f"there is no folder {self.folder}. Name the output folder of a run, such as runs/demo."
            )
        if not (self.folder / "metrics.json").exists():
            raise FDistillError(
                f"there is nothing to report in {self.folder}: it has no metrics.json. Run `fdistill evaluate` first."
            )

    @cached_property
    def metrics(self) -> Metrics:
        """Return {row: {metric: estimate}}."""
        self.check()
        return self._json("metrics.json")

    @cached_property
    def samples(self) -> list[dict[str, Any]]:
        """Return the kept test inputs with every model's outputs."""
        lines = self._text("samples.jsonl").split("\n")
        return [self._parsed(line, "samples.jsonl") for line in lines if line]

    @cached_property
    def curves(self) -> dict[str, Any]:
        """Return {"prefix", "training"}."""
        return self._json("plots/curves.json")

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Return versions, device, seed and fingerprints."""
        return self._json("environment.json")

    @cached_property
    def timing(self) -> dict[str, Any]:
        """Return {step: {"seconds", "attempts"}}."""
        return self._json("timing.json")

    @cached_property
    def recipe_text(self) -> str:
        """Return recipe.yaml."""
        return self._text("recipe.yaml")

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """Return the recipe as plain data."""
        import yaml

        try:
            return yaml.safe_load(self.recipe_text) or {}
        except yaml.YAMLError:
            raise self._damaged("recipe.yaml", "no YAML") from None

    @cached_property
    def objectives(self) -> dict[str, dict[str, Any]]:
        """Return {row: {"objective": name, **options}} as the recipe has them."""
        entries = [e if isinstance(e, dict) else {"objective": e} for e in self.recipe.get("objectives") or []]
        return {str(entry.get("name", entry.get("objective"))): entry for entry in entries}

    def parameters(self, model: str) -> int | None:
        """Return how many parameters a model's folder holds, from the header of its weights, or None without one."""
        path = self.folder / model / "model.safetensors"
        try:
            with path.open("rb") as file:
                header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        except (OSError, ValueError):
            return None
        return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")

    def _json(self, name: str) -> dict[str, Any]:
        return self._parsed(self._text(name) or "{}", name)

    def _text(self, name: str) -> str:
        path = self.folder / name
        try:
            return path.read_text(encoding="utf-8") if path.exists() else ""
        except UnicodeDecodeError:
            raise self._damaged(name, "not UTF-8") from None

    def _parsed(self, text: str, name: str) -> dict[str, Any]:
        try:
            return json.loads(text)
        except ValueError as error:
            raise self._damaged(name, str(error)) from None

    def _damaged(self, name: str, what: str) -> FDistillError:
        return FDistillError(
            f"{self.folder / name} is damaged ({what}). Delete it and run `fdistill evaluate` again: "
            "models and scores that are there stay."
        )
