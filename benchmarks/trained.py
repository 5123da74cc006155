"""A teacher that was really trained: the built-in restaurants recipe, run once into runs/bench and kept there."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RUN = ROOT / "runs" / "bench"


def run_recipe(folder: Path, stage: str, *, quick: bool, **settings: Any) -> Path:
    """Run the restaurants recipe up to a stage (a command of `fdistill`); stages that are there are skipped.

    Args:
        folder: of the run.
        stage: "predistill" or "run".
        quick: few examples and steps, so that it takes seconds; the teacher is then hardly trained.
        settings: of the recipe, keys with "__" for ".".
    """
    small = {
        "data__train": 96,
        "data__test": 24,
        "teacher__training__max_steps": 8,
        "predistill__training__max_steps": 4,
        "training__max_steps": 4,
        "evaluation__num_beams": 1,
        "evaluation__draws": 2,
    }
    chosen = {"output": folder, "objectives": "kl", **(small if quick else {}), **settings}
    options = [part for key, value in chosen.items() for part in ("--set", f"{key.replace('__', '.')}={value}")]
    command = [sys.executable, "-m", "fdistill", stage, "restaurants", *options, "--no-verify"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.strip()[-500:]}")
    return folder


def base_run(quick: bool) -> Path:
    """The run with teacher and pre-distilled student; what is there already is used again."""
    return run_recipe(RUN / ("quick" if quick else "full") / "base", "predistill", quick=quick)


def branch(base: Path, name: str) -> Path:
    """A new run folder that starts from the teacher and the pre-distilled student of another."""
    folder = base.parent / name
    shutil.rmtree(folder, ignore_errors=True)
    for part in ("teacher", "predistilled", "checkpoints/teacher", "checkpoints/predistilled"):
        shutil.copytree(base / part, folder / part)
    return folder


def load(folder: Path) -> tuple[Any, Any, Any]:
    """Teacher, student and tokenizer of a run."""
    from fdistill.models import load_model, load_tokenizer

    return load_model(folder / "teacher"), load_model(folder / "predistilled"), load_tokenizer(folder / "teacher")


def prompts(count: int) -> list[str]:
    """Prompts of the built-in task, those that the teacher was trained on first."""
    from fdistill.tasks import load_split

    examples = load_split({"format": "restaurants", "train": count, "validation": 1, "test": 1}, "train")
    return [str(example.prompt) for example in examples]
