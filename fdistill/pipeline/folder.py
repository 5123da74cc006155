"""A run's folder: where everything lies, files that appear whole or not at all, and the record of which stages are complete."""

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from fdistill.errors import FDistillError

STAGING = ".writing-"  # a folder that is being filled has this name until it is whole
WHOLE = "whole"  # a file that a checkpoint gets last, so that one without it was cut off: checksums of the others


class RunFolder:
    """Paths and records of one run.

    A stage leaves `checkpoints/<stage>/stage.json`: what it was made from, and whether it is complete. What it was made
    from is a flat dictionary: recipe values, fingerprints of data, and the fingerprints of the stages before it. A stage
    that finds a record of other inputs refuses to go on: training is never thrown away, nor mixed with another's.
    """

    def __init__(self, root: str | Path):
        self.root = Path(root)
        self.recipe = self.root / "recipe.yaml"
        self.environment = self.root / "environment.json"
        self.teacher = self.root / "teacher"
        self.store = self.root / "store"
        self.predistilled = self.root / "predistilled"
        self.students = self.root / "students"
        self.checkpoints = self.root / "checkpoints"
        self.metrics = self.root / "metrics.json"
        self.timing = self.root / "timing.json"
        self.samples = self.root / "samples.jsonl"
        self.scores = self.root / "scores"
        self.report = self.root / "report.html"
        self.plots = self.root / "plots"
        self.curves = self.plots / "curves.json"

    def record(self, stage: str) -> dict[str, Any]:
        """Return what is recorded of a stage: {"inputs", "complete"}, or {} if it never began."""
        path = self.checkpoints / stage / "stage.json"
        try:
            return read_json(path, {})
        except FDistillError:
            output = self.root / stage
            mend = f"both {path.parent} and {output}" if output.exists() else str(path.parent)
            raise FDistillError(
                f"{path} is damaged, and nobody can tell what {output} was made from. Put the file back from a copy, "
                f"or delete {mend} to make it again."
            ) from None

    def is_complete(self, stage: str, output: Path) -> bool:
        """Return whether a stage has run to its end and its output is still there."""
        return bool(self.record(stage).get("complete")) and output.exists()

    def check(self, stage: str, inputs: Mapping[str, Any], output: Path) -> None:
        """Refuse an output, or a checkpoint of it, that was made from other inputs.

        Raises:
            FDistillError: naming what differs, and what to do.
        """
        known, flat = self.record(stage), json.loads(json.dumps(inputs))
        if not known and output.exists() and any(output.iterdir()):
            raise FDistillError(
                f"{output} was not made by this run (checkpoints/{stage} has no record of it). "
                "Give another output folder with --set output=FOLDER, or move it away."
            )
        removed = known.get("complete") and not output.exists()
        if known and not removed and known["inputs"] != flat:
            raise FDistillError(self._changed(stage, known, flat, output))

    def begin(self, stage: str, inputs: Mapping[str, Any], output: Path) -> bool:
        """Return True where the stage must run (from its start or its last checkpoint), False where it is complete."""
        self.check(stage, inputs, output)
        folder = self.checkpoints / stage
        if self.is_complete(stage, output):
            return False
        if self.record(stage).get("complete"):  # its output was removed by hand: start over
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "stage.json", {"complete": False, "inputs": inputs})
        return True

    def reopen(self, stage: str) -> None:
        """Let a complete stage run once more over its own output, to mend it."""
        write_json(self.checkpoints / stage / "stage.json", {**self.record(stage), "complete": False})

    def complete(self, stage: str) -> None:
        """Record that a stage's output is in place, and drop the checkpoints that only served to resume it."""
        folder = self.checkpoints / stage
        write_json(folder / "stage.json", {**self.record(stage), "complete": True})
        for checkpoint in folder.glob("checkpoint-*"):
            shutil.rmtree(checkpoint, ignore_errors=True)

    def _changed(self, stage: str, known: Mapping[str, Any], inputs: Mapping[str, Any], output: Path) -> str:
        keys = [key for key in {**known["inputs"], **inputs} if known["inputs"].get(key) != inputs.get(key)]
        shown = ", ".join(
            f"{key} was {_short(known['inputs'].get(key))} and is {_short(inputs.get(key))}" for key in keys[:3]
        )
        more = f" (and {len(keys) - 3} more)" if len(keys) > 3 else ""
        made = "was made" if known.get("complete") else "was begun"
        remove = output if known.get("complete") else self.checkpoints / stage
        return (
            f"{output} {made} from other settings: {shown}{more}. Undo the change, give another output folder with "
            f"--set output=FOLDER, or delete {remove} to make it again."
        )

    def clean(self) -> None:
        """Remove what a process that died while writing left behind."""
        for path in [*self.root.glob(".*.tmp"), *self.root.glob(f"{STAGING}*")]:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out of the folder; the lock goes with the process, however it ends."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise FDistillError(
                f"the output {self.root} is a file, or lies below one, and a folder is needed. Give another with "
                "--set output=FOLDER."
            ) from None
        with open(self.root / ".lock", "w", encoding="utf-8") as file:
            try:
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except ImportError:  # no such locks on this system
                pass
            except OSError:
                raise FDistillError(
                    f"another process is working in {self.root}. Wait for it, or give another output folder with "
                    "--set output=FOLDER."
                ) from None
            yield

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the seconds spent inside to the stage's time in timing.json, also when it is interrupted by an exception."""
        start = time.perf_counter()
        try:
            yield
        finally:
            timing = read_json(self.timing, {})
            entry = timing.setdefault(stage, {"seconds": 0.0, "attempts": 0})
            entry["seconds"] = round(entry["seconds"] + time.perf_counter() - start, 3)
            entry["attempts"] += 1
            write_json(self.timing, timing)


@contextmanager
def full_disk(path: Path) -> Iterator[None]:
    """Say in one line what PyTorch and safetensors say in their own words when a file cannot be written."""
    from safetensors import SafetensorError

    try:
        yield
    except (RuntimeError, SafetensorError) as error:
        refused = ("No space left", "os error", "PytorchStreamWriter", "inline_container.cc")
        if not any(words in str(error) for words in refused):
            raise
        raise FDistillError(
            f"cannot write to {path}: the disk is full, or refuses ({str(error).strip().splitlines()[0]}). Free some space "
            "and run the same command again: it goes on where it stopped."
        ) from error


def fingerprint(value: Any) -> str:
    """Return the sha256 of a value's canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested dictionaries as one: {"a": {"b": 1}} -> {"a.b": 1}."""
    if isinstance(value, Mapping):
        return {k: v for key, item in value.items() for k, v in flatten(item, f"{prefix}{key}.").items()}
    return {prefix.rstrip("."): value}


def read_json(path: Path, default: Any) -> Any:
    """Return a JSON file's content, or `default` where there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return default
    except ValueError as error:
        raise FDistillError(f"{path} is damaged ({error}). Delete it and run the same command again.") from None


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that the file is whole or untouched, whenever the process dies."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, sort_keys=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write text so that the file is whole or untouched."""
    with _replacing(path) as file:
        file.write(text.encode("utf-8"))


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write NumPy arrays as .npz so that the file is whole or untouched; nothing in it is pickled."""
    import numpy as np

    with _replacing(path) as file:
        np.savez_compressed(file, **arrays)


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file beside `path` that takes its place once it is written to the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def replace_folder(target: Path, fill: Callable[[Path], None]) -> None:
    """Fill a new folder beside `target` and put it in its place, so that `target` never holds half of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    root = target.parent.parent if target.parent.name == "students" else target.parent
    temporary = Path(tempfile.mkdtemp(dir=root, prefix=STAGING))
    try:
        fill(temporary)
        os.chmod(temporary, 0o755)
        for path in temporary.rglob("*"):  # safetensors keeps its files from other users, who may read the rest
            os.chmod(path, 0o755 if path.is_dir() else 0o644)
        if target.exists():
            shutil.rmtree(target)
        os.replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _short(value: Any) -> str:
    text = "unset" if value is None else str(value)
    return text if len(text) <= 24 else f"{text[:10]}…"
