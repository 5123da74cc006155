"""Where a run stands, read from its folder alone: neither models nor torch are needed."""

from pathlib import Path
from typing import Any

from fdistill.errors import FDistillError
from fdistill.pipeline.folder import WHOLE, RunFolder, read_json
from fdistill.pipeline.plan import rows_of


def run_status(root: Path) -> dict[str, Any]:
    """Return {"run", "steps": [{"step", "state", "progress", "seconds"}], "complete", "working", "next"} of a run's folder.

    Raises:
        FDistillError: no run lies there.
    """
    from fdistill.recipe import load_recipe

    folder = RunFolder(root)
    if not folder.recipe.exists():
        raise FDistillError(
            f"there is no run in {root} (no recipe.yaml). Name the output folder of a run, such as runs/demo."
        )
    recipe = load_recipe(folder.recipe)
    timing = read_json(folder.timing, {})
    steps = [_stage(folder, stage, output) for stage, output in _stages(recipe, folder)]
    for name in rows_of(recipe):
        done = (folder.checkpoints / "evaluate" / f"{name}.json").exists()
        steps.append({"step": f"evaluate/{name}", "state": "complete" if done else "to do", "progress": ""})
    steps.append({"step": "report", "state": "complete" if folder.report.exists() else "to do", "progress": ""})
    for step in steps:
        step["seconds"] = timing.get(step["step"], {}).get("seconds", "")
    complete = sum(step["state"] == "complete" for step in steps)
    ended = complete == len(steps)
    return {
        "run": str(root),
        "steps": steps,
        "complete": complete,
        "working": "; a process is working on it" if _is_locked(folder) else "",
        "next": f"report: {folder.report}" if ended else f"to go on: fdistill run {folder.recipe}",
    }


def _stages(recipe: Any, folder: RunFolder) -> list[tuple[str, Path]]:
    stages = [("teacher", folder.teacher)]
    if recipe.needs_store:
        stages.append(("store", folder.store))
    if recipe.predistill is not None:
        stages.append(("predistilled", folder.predistilled))
    return [*stages, *((f"students/{entry.name}", folder.students / entry.name) for entry in recipe.objectives)]


def _stage(folder: RunFolder, stage: str, output: Path) -> dict[str, Any]:
    if folder.is_complete(stage, output):
        return {"step": stage, "state": "complete", "progress": ""}
    if not folder.record(stage):
        return {"step": stage, "state": "to do", "progress": ""}
    saved = [
        int(path.name.rpartition("-")[2])
        for path in (folder.checkpoints / stage).glob("checkpoint-*")
        if (path / WHOLE).exists()
    ]
    return {"step": stage, "state": "begun", "progress": f"step {max(saved)} saved" if saved else ""}


def _is_locked(folder: RunFolder) -> bool:
    try:
        with folder.locked():
            return False
    except FDistillError:
        return True
