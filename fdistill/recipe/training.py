"""The keys and values of `training` sections, checked against FDistillConfig before any work starts."""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from fdistill.errors import FDistillError, RecipeError
from fdistill.recipe.schema import Recipe

# What a run sets itself, and where it takes it from.
SET_BY_RUN = {
    "output_dir": "the run's folder (output)",
    "objective": "the entries of objectives",
    "objective_options": "the entries of objectives",
}

# What all rows must share.
ONE_FOR_ALL = {
    "max_prompt_length": "one for all rows: teacher and students are sampled and scored by it",
    "max_completion_length": "one for all rows: teacher and students are sampled and scored by it",
    "use_cpu": "one for the whole run",
}


def check_training(section: Mapping[str, Any] | None, where: str = "training") -> None:
    """Refuse a `training` section that FDistillConfig would not take. Imports transformers.

    Args:
        section: the section's keys and values.
        where: its path in the recipe, for the error.
    """
    from fdistill.trainer import FDistillConfig

    known = {field.name: field for field in fields(FDistillConfig) if field.init}
    for key, value in (section or {}).items():
        if key in SET_BY_RUN:
            raise RecipeError(f"{where}.{key} is set by the run, from {SET_BY_RUN[key]}. Remove it.")
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f" Did you mean {where}.{near[0]}?" if near else ""
            raise RecipeError(
                f"unknown key {where}.{key}.{hint} Known are the arguments of FDistillConfig, "
                "which are transformers.TrainingArguments and this library's own."
            )
        _check_kind(value, known[key].default, f"{where}.{key}")
    _construct(FDistillConfig, section or {}, where)


def check_all_training(recipe: Recipe) -> None:
    """Check every `training` section of a recipe."""
    check_training(recipe.teacher.training, "teacher.training")
    if recipe.predistill is not None:
        check_training(recipe.predistill.training, "predistill.training")
    check_training(recipe.training, "training")
    for entry in recipe.objectives:
        where = f"objectives: training of {entry.name}"
        for key, reason in ONE_FOR_ALL.items():
            if key in entry.training:
                raise RecipeError(f"{where}: {key} is {reason}. Set training.{key}.")
        if "num_train_epochs" in entry.training and recipe.training_of(entry).get("max_steps", -1) > 0:
            raise RecipeError(f"{where}: num_train_epochs says nothing beside training.max_steps. Set max_steps here.")
        if entry.training:
            check_training(recipe.training_of(entry), where)


def _check_kind(value: Any, default: Any, where: str) -> None:
    """A number stays a number and a switch a switch, judged by the default."""
    if isinstance(default, bool):
        good, what = isinstance(value, bool), "true or false"
    elif isinstance(default, int | float):
        good, what = isinstance(value, int | float) and not isinstance(value, bool), "a number"
    else:
        return
    if not good and value is not None:
        raise RecipeError(f"{where} must be {what}, not {value!r}.")


def _construct(config: Any, section: Mapping[str, Any], where: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            config(output_dir=folder, **section)
        except FDistillError as error:
            raise RecipeError(f"{where}: {error}") from None
        except Exception as error:  # whatever TrainingArguments raises, a person gets one line
            reason = " ".join(str(error).split()) or type(error).__name__
            raise RecipeError(f"{where}: {reason.rstrip('.')}.") from None
