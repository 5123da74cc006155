"""Errors a person sees: one clear line that says what is wrong, the values seen, and what to do."""

import difflib
from collections.abc import Iterable


class FDistillError(ValueError):
    """Base of every error this library raises on purpose."""


class ObjectiveError(FDistillError):
    """An unknown objective or divergence, or a combination of options that has no meaning."""


class VocabularyError(FDistillError):
    """Teacher and student, or a model and its tokenizer, do not share one vocabulary."""


class DataError(FDistillError):
    """Data that cannot be read, is empty, or lacks a column."""


class RecipeError(FDistillError):
    """A recipe with unknown keys or impossible values."""


class StoreError(FDistillError):
    """A store of teacher samples that is damaged, incomplete or belongs to another run."""


class TrainingError(FDistillError):
    """Training cannot start, or produced numbers that are not finite."""


class CheckError(FDistillError):
    """A property that must hold on this machine does not."""


def closest(word: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the known name nearest to `word`, or an empty string."""
    matches = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean {matches[0]!r}?" if matches else ""
