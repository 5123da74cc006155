"""The table of objectives: how each is made from its options, and what combinations are refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fdistill.divergences import DIVERGENCES, Divergence
from fdistill.errors import ObjectiveError, closest
from fdistill.generators import GENERATORS, generator, shifted_divergence
from fdistill.objectives.options import (
    SCHEDULED,
    check_estimator,
    choice_of,
    is_schedule,
    share_of,
    teacher_weight_of,
    value_at,
)
from fdistill.objectives.terms import Objective, PrefixFunction, Term
from fdistill.prefix import Prefix, log_inverse_posterior, log_overlap_share

if TYPE_CHECKING:
    from torch import Tensor


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
    pi = teacher_weight_of(teacher_weight)
    tau = float(choice_of("middle", middle, {"token": 0.0, "sequence": 1.0}))
    gamma = share_of("memory", memory)
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
    check_estimator(estimator, {"halves": True, "balance": balanced, "teacher": exact, "student": exact}, reason)
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
    pi = teacher_weight_of(teacher_weight)
    tau = choice_of("bound", bound, {"paper": 0.0, "overlap": 1.0, "product": None})
    overlap, product = tau == 1.0, tau == "product"
    reason = {
        "balance": "it averages the overlap of the two models over both, so it needs bound 'overlap'",
        "teacher": "teacher prefixes alone give the bound only where it is 'overlap' or 'product'",
        "student": "student prefixes alone give the bound only where it is 'overlap' or 'product'",
    }
    one_sided = overlap or product
    check_estimator(estimator, {"halves": True, "balance": overlap, "teacher": one_sided, "student": one_sided}, reason)
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
    check_estimator(estimator, {"teacher": True, "student": True}, reason)
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
        if is_schedule(value) and key not in SCHEDULED:
            raise ObjectiveError(f"{key} cannot move during training; only {', '.join(SCHEDULED)} can.")
    for progress in (1.0, 0.0):  # both ends of a schedule must mean something
        made = entry.build(**{key: value_at(value, progress) for key, value in options.items()})
    return replace(made, name=name, options=dict(options))
