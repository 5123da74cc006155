"""Terms, and the objectives that are their sums."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from fdistill.divergences import Divergence, divergence
from fdistill.errors import ObjectiveError, closest
from fdistill.objectives.options import is_schedule, value_at
from fdistill.prefix import Prefix

if TYPE_CHECKING:
    from torch import Tensor

PrefixFunction = Callable[[Prefix], "Tensor"]

#: Who wrote the tokens of a batch. Later sources ("mixed", "replay") register themselves here.
SOURCES: dict[str, str] = {
    "data": "the reference completions of the training set",
    "teacher": "completions the teacher wrote",
    "student": "completions the student wrote just now",
}


@dataclass(frozen=True)
class Term:
    """One summand of an objective.

    Attributes:
        source: who wrote the prefixes, a name of `SOURCES`.
        divergence: a name of `fdistill.DIVERGENCES`, or a function ``(log_p, log_q, **row_values) -> values``.
        weight: a constant factor.
        prefix_weight: a function of `Prefix` to a factor per step, [B, T]; None for 1.
        log_odds: the middle's log odds for divergences that take ``log_odds``: a number, or a function of `Prefix` to
            a value per step, [B, T].
    """

    source: str
    divergence: str | Callable[..., Tensor] | Divergence
    weight: float = 1.0
    prefix_weight: PrefixFunction | None = None
    log_odds: PrefixFunction | float | None = None

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise ObjectiveError(
                f"unknown source {self.source!r}.{closest(self.source, SOURCES)} Known: {', '.join(SOURCES)}."
            )
        if not math.isfinite(self.weight):
            raise ObjectiveError(f"a term's weight must be finite, not {self.weight}.")
        object.__setattr__(self, "divergence", divergence(self.divergence))
        if "log_odds" in self.function.row_values and self.log_odds is None:
            raise ObjectiveError(
                f"{self.function.name} mixes teacher and student, so its term needs log_odds=, the middle's log "
                "odds: a number (0 for equal weights) or a function of Prefix."
            )

    @property
    def function(self) -> Divergence:
        """The divergence, looked up."""
        return self.divergence  # type: ignore[return-value]

    @property
    def name(self) -> str:
        return f"{self.source}/{self.function.name}"

    @property
    def needs_prefix(self) -> bool:
        """Whether the step's value depends on the prefix ratio, and so on both models' token log-probabilities."""
        return self.prefix_weight is not None or callable(self.log_odds) or "log_ratio" in self.function.row_values

    @property
    def needs_teacher(self) -> bool:
        return self.function.needs_teacher or self.needs_prefix


@dataclass(frozen=True)
class Objective:
    """A sum of terms, and which gradient it is trained with.

    Attributes:
        terms: the summands.
        gradient: "stepwise" (functions of the prefix alone are constants, as published) or "full" (they are live, and
            student prefixes add the score-function part).
        name: what `objective` was asked for; "custom" for one of the user's own.
        options: the options it was made with.
        teacher_draws: which draws of the teacher it reads, "sample" or "beam".
    """

    terms: tuple[Term, ...]
    gradient: str = "stepwise"
    name: str = "custom"
    options: Mapping[str, Any] = field(default_factory=dict)
    teacher_draws: str = "sample"

    def __post_init__(self) -> None:
        object.__setattr__(self, "terms", tuple(self.terms))
        if not self.terms:
            raise ObjectiveError("an objective needs at least one term.")
        if self.gradient not in ("stepwise", "full"):
            raise ObjectiveError(f"gradient is 'stepwise' or 'full', not {self.gradient!r}.")
        if self.teacher_draws not in ("sample", "beam"):
            raise ObjectiveError(f"teacher_draws is 'sample' or 'beam', not {self.teacher_draws!r}.")

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources its terms read, each once, in order."""
        return tuple(dict.fromkeys(term.source for term in self.terms))

    def terms_of(self, source: str) -> tuple[Term, ...]:
        return tuple(term for term in self.terms if term.source == source)

    def needs_teacher(self, source: str) -> bool:
        """Whether prefixes of that source need the teacher's next-token distributions."""
        return any(term.needs_teacher for term in self.terms_of(source))

    def needs_prefix(self, source: str) -> bool:
        """Whether prefixes of that source need the ratio of both models' probabilities."""
        return any(term.needs_prefix for term in self.terms_of(source))

    def at(self, progress: float) -> Objective:
        """Return the objective at that share of training: options that are a (start, end) pair move linearly."""
        if not any(is_schedule(value) for value in self.options.values()):
            return self
        from fdistill.objectives.table import objective

        progress = min(max(progress, 0.0), 1.0)
        options = {key: value_at(value, progress) for key, value in self.options.items()}
        return replace(objective(self.name, **options), options=self.options)

    def state_dict(self) -> dict[str, Any]:
        """Name and options as plain data, from which `objective` makes the same again.

        Raises:
            ObjectiveError: the objective is one of the user's own, which no name describes.
        """
        if self.name == "custom":
            raise ObjectiveError("a custom objective is code and has no state_dict; keep the code that made it.")
        code = [key for key, value in self.options.items() if callable(value)]
        if code:
            raise ObjectiveError(f"option {code[0]} is a function and has no state_dict; keep the code that made it.")
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in self.options.items()}
        return {"name": self.name, "options": plain}
