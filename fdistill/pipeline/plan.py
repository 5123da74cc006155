"""What a run will do, from the recipe alone: its stages, its rows, and roughly how long each step takes beside the others."""

from typing import Any

STAGES = ("teacher", "sample", "predistill", "train", "evaluate")


def rows_of(recipe: Any) -> list[str]:
    """Return the rows of a run's tables: teacher, mle (not distilled), predistilled, then the other objectives."""
    names = [entry.name for entry in recipe.objectives]
    plain = [entry.name for entry in recipe.objectives if entry.objective == "mle"]
    warm = ["predistilled"] if recipe.predistill is not None else []
    return ["teacher", *plain, *warm, *(name for name in names if name not in plain)]


def weights(recipe: Any, until: str) -> dict[str, float]:
    """Return {step: weight} up to a stage, in order; a weight is about the number of forward-backward passes of a teacher."""
    wanted = STAGES[: STAGES.index(until) + 1]
    steps: dict[str, float] = {}
    if "teacher" in wanted:
        steps["teacher"] = _steps(recipe.teacher.training)
    entries = [(entry, entry.build()) for entry in recipe.objectives]
    if "sample" in wanted and recipe.needs_store:
        steps["store"] = 0.15 * _steps(recipe.training)
    if "predistill" in wanted and recipe.predistill is not None:
        steps["predistilled"] = 1.2 * _steps(recipe.predistill.training)
    if "train" in wanted:
        for entry, objective in entries:
            cost = 0.8 * len(objective.sources) + (0.7 if "student" in objective.sources else 0)
            steps[f"students/{entry.name}"] = cost * _steps(recipe.training_of(entry))
    if "evaluate" in wanted:
        for name in rows_of(recipe):
            steps[f"evaluate/{name}"] = 0.25 * _steps(recipe.training)
    return steps


def _steps(training: Any) -> float:
    """The optimizer steps of a section where it says, else a guess: weights only compare."""
    steps = (training or {}).get("max_steps", 0)
    return (
        float(steps if isinstance(steps, int) and steps > 0 else 100 * (training or {}).get("num_train_epochs", 3))
        or 1.0
    )
