"""Recipes: YAML files that say what a run does, validated strictly before anything else is imported."""

from fdistill.recipe.loading import built_in_recipes, load_recipe, make_recipe
from fdistill.recipe.schema import (
    Data,
    Evaluation,
    ObjectiveEntry,
    Predistill,
    Recipe,
    Store,
    Student,
    Teacher,
    Tokenizer,
    json_schema,
)
from fdistill.recipe.training import check_all_training, check_training

__all__ = [
    "Data",
    "Evaluation",
    "ObjectiveEntry",
    "Predistill",
    "Recipe",
    "Store",
    "Student",
    "Teacher",
    "Tokenizer",
    "built_in_recipes",
    "check_all_training",
    "check_training",
    "json_schema",
    "load_recipe",
    "make_recipe",
]
