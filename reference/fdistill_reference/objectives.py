"""The table of objectives: what a prefix from each source contributes, and how that changes with the student.

A `Row` is one line of that table evaluated at every prefix. The value of an objective is the sum of its rows, each
averaged over the prefixes that its source writes:

    objective                  teacher row                     student row
    kl                         KL(p‖q)
    seqkd                      -Σ p log q
    rkl                                                        KL(q‖p)
    engine                                                     -Σ q log p
    js, halves                 π KL(p‖m)                       (1-π) KL(q‖m)
    js, balance                π JS_w                          (1-π) JS_w
    js, teacher | student      (π/w) JS_w | none               none | ((1-π)/(1-w)) JS_w
    tvd, halves                π min(1,u)^τ tv                 (1-π) min(1,r)^τ tv
    tvd, balance               π (ω/M) tv                      (1-π) (ω/M) tv
    tvd, teacher | student     min(1,u) tv | none              none | min(1,r) tv
    tvd, product               π Π min(1,q/p) tv               (1-π) Π min(1,p/q) tv
    f_divergence               none | u D_{f_r}                D_{f_r} | none

kd and mle are kl and cross-entropy rows on the prefixes of the data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import slopes, words
from .generators import FAMILIES, open_unit, resolve_generator
from .models import TabularModel
from .prefixes import Prefixes, clipped
from .tree import Array
from .words import log_odds_of, log_sigmoid, times


@dataclass(frozen=True)
class Scene:
    """What a row may look at: the next-token tables of both models, and the prefixes.

    The student of the prefixes is another model where prefixes are to be held constant; the data's model writes the
    prefixes and the labels of mle and kd.
    """

    log_p: Array  # [N, V]
    log_q: Array  # [N, V]
    prefixes: Prefixes
    data: TabularModel


@dataclass(frozen=True)
class Row:
    """One source's loss at every prefix, and its derivatives.

    Attributes:
        source: "data", "teacher" or "student", who writes the prefixes.
        losses: [N], the weighted word-level loss.
        token_slopes: [N, V], its derivative by log q(v|s), everything that the prefix decides held.
        ratio_slopes: [N], its derivative by the log ratio of the prefix (with `memory`).
        overlap_slopes: [N], its derivative by the log overlap product of the source.
    """

    source: str
    losses: Array
    token_slopes: Array
    ratio_slopes: Array | float = 0.0
    overlap_slopes: Array | float = 0.0
    memory: float = 1.0


def scaled(weights: Array | float, row: Row, by_ratio: Array | float = 0.0) -> Row:
    """The row times weights(s), whose own derivative by the log ratio is `by_ratio`."""
    weights, by_ratio = np.asarray(weights, float), np.asarray(by_ratio, float)
    with np.errstate(invalid="ignore"):  # where the loss is infinite its slopes mean nothing
        ratio_slopes = times(weights, row.ratio_slopes) + times(by_ratio, row.losses)
    return Row(
        row.source,
        times(weights, row.losses),
        times(weights[..., None], row.token_slopes),
        ratio_slopes,
        times(weights, row.overlap_slopes),
        row.memory,
    )


def _plain(name: str, source: str) -> Callable[[Scene], list[Row]]:
    def rows(scene: Scene) -> list[Row]:
        log_p = scene.data.log_probs if name == "cross_entropy" and source == "data" else scene.log_p
        return [Row(source, getattr(words, name)(log_p, scene.log_q), getattr(slopes, name)(log_p, scene.log_q))]

    return rows


def _js(
    scene: Scene,
    teacher_weight: float = 0.5,
    middle: str | float = "token",
    memory: float = 1.0,
    clip: float = np.inf,
    estimator: str = "halves",
) -> list[Row]:
    pi = open_unit(teacher_weight, "teacher_weight", "use kl (its limit at 0) or rkl (at 1), each up to scale")
    tau = _between("middle", middle, {"token": 0.0, "sequence": 1.0})
    _check_share("memory", memory)
    if estimator != "halves" and (tau < 1 or clip < np.inf or (memory < 1 and estimator != "balance")):
        raise ValueError(
            f'js: estimator="{estimator}" is exact for middle="sequence" only; another middle goes with halves'
        )
    ratio = scene.prefixes.log_ratio(memory)
    odds = log_odds_of(pi) + (tau * clipped(ratio, clip) if tau else np.zeros_like(ratio))
    by_ratio = np.where(abs(ratio) < clip, tau, 0.0)
    if estimator == "halves":
        return [
            scaled(pi, _middle_row("teacher", "kl_to_middle", scene, odds, by_ratio, memory)),
            scaled(1 - pi, _middle_row("student", "reverse_kl_to_middle", scene, odds, by_ratio, memory)),
        ]
    teacher, student = (_middle_row(source, "js", scene, odds, by_ratio, memory) for source in ("teacher", "student"))
    if estimator == "balance":
        return [scaled(pi, teacher), scaled(1 - pi, student)]
    if estimator == "teacher":  # π/w, which falls as the odds rise
        return [_divided(teacher, pi, log_sigmoid(odds), -np.exp(log_sigmoid(-odds)))]
    if estimator == "student":  # (1-π)/(1-w)
        return [_divided(student, 1 - pi, log_sigmoid(-odds), np.exp(log_sigmoid(odds)))]
    raise _unknown("js", estimator)


def _middle_row(source: str, name: str, scene: Scene, odds: Array, by_ratio: Array, memory: float) -> Row:
    pair = scene.log_p, scene.log_q
    by_odds = getattr(slopes, name + "_by_odds")(*pair, log_odds=odds)
    losses, token_slopes = (getattr(room, name)(*pair, log_odds=odds) for room in (words, slopes))
    return Row(source, losses, token_slopes, by_ratio * by_odds, memory=memory)


def _divided(row: Row, numerator: float, log_weight: Array, log_slope: Array) -> Row:
    """numerator/weight times the row, where the weight is not zero (there the source never comes)."""
    factor = np.where(np.isneginf(log_weight), 0.0, numerator * np.exp(-np.maximum(log_weight, -700.0)))
    return scaled(factor, row, by_ratio=factor * log_slope)


def _tvd(
    scene: Scene, teacher_weight: float = 0.5, bound: str | float = "paper", estimator: str = "halves"
) -> list[Row]:
    pi = open_unit(teacher_weight, "teacher_weight", "for one half alone take the estimator teacher or student")
    teacher, student = (_plain("tvd", source)(scene)[0] for source in ("teacher", "student"))
    if estimator not in ("halves", "balance", "teacher", "student"):
        raise _unknown("tvd", estimator)
    if bound == "product":
        halves = _product(scene.prefixes, teacher, student)
        if estimator == "balance":
            raise ValueError('tvd: bound="product" has the estimators halves, teacher and student')
    else:
        tau = _between("bound", bound, {"paper": 0.0, "overlap": 1.0})
        if estimator != "halves" and tau < 1:
            raise ValueError(f'tvd: estimator="{estimator}" needs bound="overlap" or "product", not {bound!r}')
        ratio = scene.prefixes.log_ratio()
        if estimator == "balance":
            weights, by_ratio = _overlap_over_middle(ratio, pi)
            return [scaled(share * weights, row, share * by_ratio) for share, row in ((pi, teacher), (1 - pi, student))]
        halves = _capped(teacher, -ratio, tau, -1.0), _capped(student, ratio, tau, 1.0)
    if estimator == "halves":
        return [scaled(pi, halves[0]), scaled(1 - pi, halves[1])]
    return [halves[0] if estimator == "teacher" else halves[1]]


def _capped(row: Row, log_ratio: Array, tau: float, sign: float) -> Row:
    """min(1, ratio)^τ times the row; the ratio is r to the power of `sign`."""
    if tau == 0:
        return row
    weights = np.exp(tau * np.minimum(0.0, log_ratio))
    return scaled(weights, row, by_ratio=sign * tau * weights * (log_ratio < 0))


def _overlap_over_middle(log_ratio: Array, pi: float) -> tuple[Array, Array]:
    """ω/M = 1/(π max(1, r) + (1-π) max(1, u)) and its derivative by log r."""
    grown = np.exp(np.minimum(abs(log_ratio), 350.0))  # max(r, u)
    above = log_ratio > 0
    share = np.where(above, pi, 1 - pi)
    weights = np.where(np.isfinite(log_ratio), 1 / (share * grown + (1 - share)), 0.0)
    return weights, -np.sign(log_ratio) * weights**2 * share * grown


def _product(prefixes: Prefixes, teacher: Row, student: Row) -> tuple[Row, Row]:
    halves = []
    for row, log_overlap in ((teacher, prefixes.log_overlap_teacher()), (student, prefixes.log_overlap_student())):
        weighted = scaled(np.exp(log_overlap), row)
        halves.append(Row(row.source, weighted.losses, weighted.token_slopes, overlap_slopes=weighted.losses))
    return halves[0], halves[1]


def _f_divergence(scene: Scene, generator: Any, estimator: str = "student", **options: Any) -> list[Row]:
    f = resolve_generator(generator, **options)
    ratio = scene.prefixes.log_ratio()
    given: dict[str, Any] = {"log_ratio": ratio, "generator": f}
    losses, token_slopes = (room.shifted_f_divergence(scene.log_p, scene.log_q, **given) for room in (words, slopes))
    by_ratio = slopes.shifted_f_divergence_by_ratio(scene.log_p, scene.log_q, **given)
    row = Row(estimator, losses, token_slopes, by_ratio)
    if estimator == "student":
        return [row]
    if estimator == "teacher":
        u = np.where(np.isfinite(ratio), np.exp(-np.where(np.isfinite(ratio), ratio, 0.0)), 0.0)
        return [scaled(u, row, by_ratio=-u)]
    raise _unknown("f_divergence", estimator)


def _between(option: str, value: str | float, names: Mapping[str, float]) -> float:
    number = names.get(value) if isinstance(value, str) else float(value)
    if number is None or not 0 <= number <= 1:
        known = ", ".join(repr(name) for name in names)
        raise ValueError(f"{option}={value!r} is not one of {known} or a number in [0, 1]")
    return number


def _check_share(option: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{option}={value!r} is not a number in [0, 1]")


def _unknown(name: str, estimator: str) -> ValueError:
    return ValueError(f"{name} has no estimator {estimator!r}")


OBJECTIVES: Mapping[str, Callable[..., list[Row]]] = {
    "mle": _plain("cross_entropy", "data"),
    "kd": _plain("kl", "data"),
    "seqkd": _plain("cross_entropy", "teacher"),
    "kl": _plain("kl", "teacher"),
    "engine": _plain("cross_entropy_to_teacher", "student"),
    "rkl": _plain("reverse_kl", "student"),
    "js": _js,
    "tvd": _tvd,
    "f_divergence": _f_divergence,
}


def objective_rows(name: str, scene: Scene, **options: Any) -> list[Row]:
    """The rows of an objective; a generator's name stands for f_divergence with that generator."""
    if name == "reverse_kl":
        name = "rkl"
    if name not in OBJECTIVES and name in FAMILIES:
        name, options = "f_divergence", {"generator": name, **options}
    if name not in OBJECTIVES:
        raise ValueError(f"unknown objective {name!r}; known are {', '.join([*OBJECTIVES, *FAMILIES])}")
    try:
        return OBJECTIVES[name](scene, **options)
    except TypeError as error:
        if "unexpected keyword" in str(error) or "missing" in str(error):
            raise ValueError(f"{name}: {error}") from None
        raise
