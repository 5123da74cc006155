"""Stages of a run, its folder, and what is known of one. Light to import: models and training load when a stage runs."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fdistill.pipeline.stages import Pipeline

__all__ = ["Pipeline"]


def __getattr__(name: str) -> Any:
    if name == "Pipeline":
        return import_module("fdistill.pipeline.stages").Pipeline
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
