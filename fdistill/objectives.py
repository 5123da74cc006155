"""An objective is a sum of terms: (prefix source, word-level divergence, weight, prefix weight). This file is the table.

| objective     | terms                                                                    | Wen et al. (2023) |
| ------------- | ------------------------------------------------------------------------ | ----------------- |
| mle           | data · nll                                                               |                   |
| kd            | data · kl                                                                | Eqn. 1            |
| seqkd         | teacher (beam) · nll                                                     | Eqns. 2-3         |
| kl            | teacher · kl                                                             | Eqns. 5-6         |
| engine        | student · cross_entropy_to_teacher                                       | section 2         |
| rkl           | student · reverse_kl                                                     | Eqn. 7            |
| js            | teacher · π kl_to_middle + student · (1-π) reverse_kl_to_middle          | Eqn. 8            |
| tvd           | teacher · ½ tvd + student · ½ tvd                                        | Eqns. 9-10        |
| f_divergence  | teacher or student · the shifted generator f_r                           | Eqn. 4            |
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from fdistill.divergences import DIVERGENCES, Divergence, divergence
from fdistill.errors import ObjectiveError, closest
from fdistill.generators import GENERATORS, generator, shifted_divergence
from fdistill.prefix import Prefix, log_inverse_posterior, log_overlap_share

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
        if not any(_is_schedule(value) for value in self.options.values()):
            return self
        progress = min(max(progress, 0.0), 1.0)
        options = {key: _value_at(value, progress) for key, value in self.options.items()}
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


def _is_schedule(value: object) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 2


def _value_at(value: Any, progress: float) -> Any:
    return (1 - progress) * float(value[0]) + progress * float(value[1]) if _is_schedule(value) else value


# --- checks of options -------------------------------------------------------------------------------------------------


def _share(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ObjectiveError(f"{name} is a number from 0 to 1, not {value!r}.")
    return float(value)


def _teacher_weight(value: Any) -> float:
    weight = _share("teacher_weight", value)
    if weight in (0.0, 1.0):
        raise ObjectiveError(
            f"teacher_weight {weight:g} leaves one model alone, and the divergence is 0 whatever the student does; "
            "its limits, divided by the weight that vanishes, are objectives of their own: use kl (teacher_weight near "
            "0) or rkl (near 1)."
        )
    return weight


def _choice(name: str, value: Any, words: Mapping[str, float | None]) -> float | str:
    """A word, as itself or as the number it stands for, or a number from 0 to 1."""
    if isinstance(value, str):
        if value not in words:
            known = ", ".join(repr(word) for word in words)
            raise ObjectiveError(f"{name} is {known} or a number from 0 to 1, not {value!r}.{closest(value, words)}")
        number = words[value]
        return value if number is None else number
    return _share(name, value)


def _estimator(value: str, allowed: Mapping[str, bool], why: Mapping[str, str]) -> str:
    if value not in why and value != "halves":
        raise ObjectiveError(
            f"estimator is 'halves', 'balance', 'teacher' or 'student', not {value!r}.{closest(value, ['halves', *why])}"
        )
    if not allowed.get(value, False):
        raise ObjectiveError(f"estimator {value!r} is refused here: {why.get(value, 'it has no such form')}.")
    return value


# --- the table -----------------------------------------------------------------------------------------------------------


def _simple(source: str, name: str, teacher_draws: str = "sample") -> Callable[..., Objective]:
    def build(*, gradient: str = "stepwise") -> Objective:
        return Objective((Term(source, name),), gradient, teacher_draws=teacher_draws)

    return build


def _js(
    *,
    teacher_weight: float = 0.5,
    middle: str | float = "token",
    memory: float = 1.0,
    clip: float | None = None,
    estimator: str = "halves",
    gradient: str = "stepwise",
) -> Objective:
    pi = _teacher_weight(teacher_weight)
    tau = float(_choice("middle", middle, {"token": 0.0, "sequence": 1.0}))
    gamma = _share("memory", memory)
    if clip is not None and not (isinstance(clip, (int, float)) and clip >= 0):
        raise ObjectiveError(f"clip is a bound in nats on |log r|, at least 0, or none, not {clip!r}.")
    exact = tau == 1.0 and gamma == 1.0 and clip is None
    why = "its value is an estimate of the exact JS only, so it needs middle 'sequence'"
    reason = {
        "balance": why + " (with memory below 1 it is a heuristic and allowed)",
        "teacher": why + ", memory 1 and no clip",
        "student": why + ", memory 1 and no clip",
    }
    balanced = tau == 1.0 and clip is None
    _estimator(estimator, {"halves": True, "balance": balanced, "teacher": exact, "student": exact}, reason)
    prior = math.log(pi) - math.log1p(-pi)

    def tempered_log_odds(prefix: Prefix) -> Tensor:
        log_ratio = prefix.decayed(gamma)
        return prior + tau * (log_ratio if clip is None else log_ratio.clamp(-clip, clip))

    log_odds = tempered_log_odds if tau > 0 else prior

    terms: tuple[Term, ...]
    if estimator == "halves":
        terms = (
            Term("teacher", "kl_to_middle", pi, log_odds=log_odds),
            Term("student", "reverse_kl_to_middle", 1 - pi, log_odds=log_odds),
        )
    elif estimator == "balance":
        terms = (Term("teacher", "js", pi, log_odds=log_odds), Term("student", "js", 1 - pi, log_odds=log_odds))
    elif estimator == "teacher":
        terms = (Term("teacher", "js", 1.0, lambda s: log_inverse_posterior(s.log_ratio, pi).exp(), log_odds),)
    else:
        terms = (Term("student", "js", 1.0, lambda s: log_inverse_posterior(-s.log_ratio, 1 - pi).exp(), log_odds),)
    return Objective(terms, gradient)


def _tvd(
    *,
    teacher_weight: float = 0.5,
    bound: str | float = "paper",
    estimator: str = "halves",
    gradient: str = "stepwise",
) -> Objective:
    pi = _teacher_weight(teacher_weight)
    tau = _choice("bound", bound, {"paper": 0.0, "overlap": 1.0, "product": None})
    overlap, product = tau == 1.0, tau == "product"
    reason = {
        "balance": "it averages the overlap of the two models over both, so it needs bound 'overlap'",
        "teacher": "teacher prefixes alone give the bound only where it is 'overlap' or 'product'",
        "student": "student prefixes alone give the bound only where it is 'overlap' or 'product'",
    }
    one_sided = overlap or product
    _estimator(estimator, {"halves": True, "balance": overlap, "teacher": one_sided, "student": one_sided}, reason)
    if estimator == "balance":

        def share(prefix: Prefix) -> Tensor:
            return log_overlap_share(prefix.log_ratio, pi).exp()

        return Objective((Term("teacher", "tvd", pi, share), Term("student", "tvd", 1 - pi, share)), gradient)
    teacher_prefix, student_prefix = _tvd_weights(tau)
    terms = {
        "halves": (Term("teacher", "tvd", pi, teacher_prefix), Term("student", "tvd", 1 - pi, student_prefix)),
        "teacher": (Term("teacher", "tvd", 1.0, teacher_prefix),),
        "student": (Term("student", "tvd", 1.0, student_prefix),),
    }
    return Objective(terms[estimator], gradient)


def _tvd_weights(tau: float | str) -> tuple[PrefixFunction | None, PrefixFunction | None]:
    """Weights of teacher and student prefixes: products over the tokens, or min(1, u)^τ and min(1, r)^τ."""
    if tau == "product":
        return lambda s: s.log_overlap_teacher.exp(), lambda s: s.log_overlap_student.exp()
    if tau == 0.0:
        return None, None
    power = float(tau)
    return (
        lambda s: (-power * s.log_ratio.relu()).exp(),
        lambda s: (-power * (-s.log_ratio).relu()).exp(),
    )


def _f_divergence(
    *,
    generator: str | Callable[[Tensor], Tensor],
    at_zero: float | None = None,
    slope_at_infinity: float | None = None,
    estimator: str = "student",
    gradient: str = "stepwise",
    **parameters: float,
) -> Objective:
    f = _make_generator(generator, at_zero, slope_at_infinity, **parameters)
    reason = {
        "halves": "an arbitrary f has no form as two halves; use 'student' or 'teacher'",
        "balance": "an arbitrary f has no balanced form; use 'student' or 'teacher'",
        "teacher": "",
        "student": "",
    }
    _estimator(estimator, {"teacher": True, "student": True}, reason)
    step = shifted_divergence(f, over=estimator)
    # An f-divergence of the shifted generator: data processing holds, so a top-k teacher will do.
    entry = Divergence(step.__name__, step, f"f_r of {f.formula}", row_values=("log_ratio",))
    return Objective((Term(estimator, entry),), gradient)


_make_generator = generator  # the option of _f_divergence has the same name


@dataclass(frozen=True)
class ObjectiveEntry:
    """A row of the table: how it is made, and what it says of itself."""

    build: Callable[..., Objective]
    terms: str
    source: str
    options: tuple[str, ...] = ("gradient",)


OBJECTIVES: dict[str, ObjectiveEntry] = {
    "mle": ObjectiveEntry(_simple("data", "nll"), "data · nll", "maximum likelihood"),
    "kd": ObjectiveEntry(_simple("data", "kl"), "data · kl", "Eqn. 1"),
    "seqkd": ObjectiveEntry(_simple("teacher", "nll", "beam"), "teacher (beam) · nll", "Eqns. 2-3"),
    "kl": ObjectiveEntry(_simple("teacher", "kl"), "teacher · kl", "Eqns. 5-6"),
    "engine": ObjectiveEntry(
        _simple("student", "cross_entropy_to_teacher"), "student · cross_entropy_to_teacher", "Tu et al. (2020)"
    ),
    "rkl": ObjectiveEntry(_simple("student", "reverse_kl"), "student · reverse_kl", "Eqn. 7"),
    "js": ObjectiveEntry(
        _js,
        "teacher · π kl_to_middle + student · (1-π) reverse_kl_to_middle",
        "Eqn. 8",
        ("teacher_weight", "middle", "memory", "clip", "estimator", "gradient"),
    ),
    "tvd": ObjectiveEntry(
        _tvd,
        "teacher · ½ tvd + student · ½ tvd",
        "Eqns. 9-10",
        ("teacher_weight", "bound", "estimator", "gradient"),
    ),
    "f_divergence": ObjectiveEntry(
        _f_divergence,
        "student · shifted f, or teacher · the same over r",
        "Eqn. 4",
        ("generator", "at_zero", "slope_at_infinity", "alpha", "teacher_weight", "estimator", "gradient"),
    ),
}

#: Options that may be a (start, end) pair and then move linearly with the progress of training.
SCHEDULED = ("teacher_weight", "middle", "memory", "clip", "bound")


def objective(name: str, **options: Any) -> Objective:
    """Make an objective by name.

    Args:
        name: a name of `OBJECTIVES`.
        options: see the table in the documentation; an option of `SCHEDULED` may be a (start, end) pair.

    Raises:
        ObjectiveError: an unknown name or option, a value out of range, or a combination without a meaning.
    """
    if name not in OBJECTIVES:
        also = " The objective of reverse KL is called rkl." if name in ("reverse_kl", "reverse-kl") else ""
        hint = closest(name, OBJECTIVES)
        if name in DIVERGENCES and name in GENERATORS and not also:
            also = f" It is a divergence: objective('f_divergence', generator={name!r}) trains it."
        raise ObjectiveError(f"unknown objective {name!r}.{also or hint} Known: {', '.join(OBJECTIVES)}.")
    entry = OBJECTIVES[name]
    unknown = [key for key in options if key not in entry.options]
    if unknown:
        raise ObjectiveError(
            f"objective {name!r} has no option {unknown[0]!r}.{closest(unknown[0], entry.options)} "
            f"It takes: {', '.join(entry.options)}."
        )
    if name == "f_divergence" and "generator" not in options:
        raise ObjectiveError(
            f"objective 'f_divergence' needs generator=, a convex function f with f(1) = 0 or one of: {', '.join(GENERATORS)}."
        )
    for key, value in options.items():
        if _is_schedule(value) and key not in SCHEDULED:
            raise ObjectiveError(f"{key} cannot move during training; only {', '.join(SCHEDULED)} can.")
    for progress in (1.0, 0.0):  # both ends of a schedule must mean something
        made = entry.build(**{key: _value_at(value, progress) for key, value in options.items()})
    return replace(made, name=name, options=dict(options))
