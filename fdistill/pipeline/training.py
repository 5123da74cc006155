"""What training stages share: arguments from a recipe's section, progress, checkpoints, resuming, the final folder."""

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from fdistill.errors import FDistillError
from fdistill.pipeline.folder import WHOLE, full_disk, replace_folder, write_json
from fdistill.pipeline.progress import Update

logger = logging.getLogger("fdistill")
SECONDS_BETWEEN_CHECKPOINTS = 60.0


def arguments(section: Mapping[str, Any] | None, folder: Path, seed: int, *, kind: Any = None, **more: Any) -> Any:
    """Return the FDistillConfig (or another `kind`) of a recipe's section: quiet, seeded, writing to `folder`.

    Unless the section says how to save, a checkpoint is taken every minute, which no result depends on.
    """
    import torch

    from fdistill.trainer import FDistillConfig

    quiet: dict[str, Any] = {"dataloader_pin_memory": torch.cuda.is_available()}
    quiet |= {"report_to": "none", "disable_tqdm": True, "save_strategy": "no", "save_total_limit": 2}
    if kind is None:  # the pipeline has verified the losses itself, once for all stages
        quiet["verify"] = False
    if section and "save_steps" in section:
        quiet["save_strategy"] = "steps"
    return (kind or FDistillConfig)(output_dir=str(folder), **{"seed": seed, **quiet, **(section or {}), **more})


def train(trainer: Any, folder: Path, update: Update) -> None:
    """Train to the end, from the last whole checkpoint in `folder` if there is one, and keep the log as history.json."""
    trainer.add_callback(_Progress(update))
    trainer.add_callback(_Checkpoints(timed=str(trainer.args.save_strategy).endswith("no")))
    _quiet(trainer)
    checkpoint = last_checkpoint(folder)
    if checkpoint:
        logger.info("continuing from %s", checkpoint)
    with full_disk(folder):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    write_json(folder / "history.json", [_plain(entry) for entry in trainer.state.log_history])


def last_checkpoint(folder: Path) -> Path | None:
    """Return the newest whole checkpoint; what a dying process left half written is removed.

    Raises:
        FDistillError: a file of it is not what was written.
    """
    whole = []
    for path in folder.glob("checkpoint-*"):
        step = path.name.rpartition("-")[2]
        if step.isdigit() and (path / WHOLE).exists():
            whole.append((int(step), path))
        else:
            shutil.rmtree(path, ignore_errors=True)
    if not whole:
        return None
    newest = max(whole)[1]
    damaged = _damaged(newest)
    if damaged:
        before = f"from {sorted(whole)[-2][1].name}" if len(whole) > 1 else "from its beginning"
        raise FDistillError(
            f"{newest / damaged} is damaged or gone: it is not what training wrote. Delete {newest} and run the same "
            f"command again: training goes on {before}."
        )
    return newest


def _checksums(checkpoint: Path) -> dict[str, str]:
    """SHA-256 of every file that this process wrote; other ranks may still be writing their random states."""
    files = [p for p in sorted(checkpoint.iterdir()) if p.is_file() and p.name != WHOLE]
    found = {}
    for path in files:
        if not path.name.startswith("rng_state_"):
            with path.open("rb") as file:
                found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _damaged(checkpoint: Path) -> str | None:
    """The first file of a checkpoint that is not what its list of checksums says, or None."""
    written = (checkpoint / WHOLE).read_text(encoding="utf-8")
    try:
        expected: dict[str, str] = json.loads(written or "{}")
    except ValueError:
        return WHOLE
    found = _checksums(checkpoint)
    return next((name for name, digest in expected.items() if found.get(name) != digest), None)


def save_model(trainer: Any, target: Path) -> None:
    """Write a folder that loads with plain from_pretrained: safetensors, tokenizer, generation config, model card."""
    with full_disk(target):
        replace_folder(target, lambda folder: trainer.save_model(str(folder)))


class _Progress(TrainerCallback):
    """Tells the display after every optimizer step."""

    def __init__(self, update: Update):
        self.update = update

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Show where a resumed training stands."""
        self.update(state.global_step, state.max_steps)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Show the step."""
        self.update(state.global_step, state.max_steps)


class _Checkpoints(TrainerCallback):
    """Asks for a checkpoint every minute, and marks each one that was written to its end."""

    def __init__(self, timed: bool):
        self.timed, self.last = timed, time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ask for one when it is time; the last step needs none, since the model itself is saved then."""
        due = time.monotonic() - self.last >= SECONDS_BETWEEN_CHECKPOINTS
        if self.timed and due and state.global_step < state.max_steps:
            control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Mark the checkpoint just written."""
        self.last = time.monotonic()
        if state.is_world_process_zero:
            checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            write_json(checkpoint / WHOLE, _checksums(checkpoint))


def _quiet(trainer: Any) -> None:
    """Drop Trainer's own printing: the pipeline's display shows progress, history.json keeps the logs."""
    from transformers import PrinterCallback, ProgressCallback

    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)


def _plain(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A log entry without times, which differ from run to run, and without numbers that JSON cannot hold."""
    timed = ("runtime", "per_second", "flos", "seconds", "memory")
    kept = {key: value for key, value in entry.items() if not any(word in key for word in timed)}
    return {
        key: value if not isinstance(value, float) or abs(value) < float("inf") else None for key, value in kept.items()
    }
