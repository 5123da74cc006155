"""Step-wise values and gradients: an objective is a sum over prefixes, weighed by who writes them."""

from __future__ import annotations

from typing import Any

import numpy as np

from .models import TabularModel
from .objectives import Row, Scene, objective_rows
from .prefixes import Prefixes
from .slopes import to_logits
from .tree import Array, path_sum_adjoint
from .words import times


def make_scene(
    p: TabularModel, q: TabularModel, data: TabularModel | None = None, prefix_student: TabularModel | None = None
) -> Scene:
    """Both models with the prefixes of p and q, or of p and `prefix_student`; the data's writer is the teacher by default."""
    return Scene(p.log_probs, q.log_probs, Prefixes(p, q if prefix_student is None else prefix_student), data or p)


def source_probs(scene: Scene, source: str) -> Array:
    """[N], how probable it is that the source writes each prefix."""
    if source == "data":
        return np.exp(scene.data.prefix_log_probs())
    return scene.prefixes.teacher if source == "teacher" else scene.prefixes.student


def rows(name: str, p: TabularModel, q: TabularModel, *, data: TabularModel | None = None, **options: Any) -> list[Row]:
    """The objective's rows (see objectives.py) at every prefix."""
    return objective_rows(name, make_scene(p, q, data), **options)


def stepwise_terms(
    name: str, p: TabularModel, q: TabularModel, *, data: TabularModel | None = None, **options: Any
) -> dict[str, Array]:
    """The loss that a prefix of each source carries, {source: [N]}, before weighing by the prefix's probability.

    Along a sequence y of that source, `terms[source][q.rows(y)]` are its losses step by step.
    """
    return {row.source: row.losses for row in rows(name, p, q, data=data, **options)}


def stepwise_divergence(
    name: str,
    p: TabularModel,
    q: TabularModel,
    *,
    data: TabularModel | None = None,
    prefix_student: TabularModel | None = None,
    **options: Any,
) -> float:
    """The value of an objective: Σ over its rows and over all prefixes s of (probability of s) · (loss at s).

    Args:
        name: mle, kd, seqkd, kl, engine, rkl, js, tvd, f_divergence, or the name of a generator.
        p, q: teacher and student.
        data: the writer of the data's prefixes and labels, for mle and kd; the teacher by default.
        prefix_student: the student that prefixes, ratios and weights are made from, q by default. The derivative of
            the value with respect to q, this one held, is the step-wise gradient.
        options: js: teacher_weight, middle, memory, clip, estimator; tvd: teacher_weight, bound, estimator;
            f_divergence: generator with its parameters, at_zero, slope_at_infinity, derivative; estimator.
    """
    scene = make_scene(p, q, data, prefix_student)
    parts = [times(source_probs(scene, row.source), row.losses) for row in objective_rows(name, scene, **options)]
    return float(np.sum(parts))


def gradient(
    name: str,
    p: TabularModel,
    q: TabularModel,
    mode: str = "full",
    *,
    data: TabularModel | None = None,
    **options: Any,
) -> Array:
    """The derivative of `stepwise_divergence` with respect to the student's logits, [N, V] like `q.logits`.

    Args:
        mode: "stepwise" holds whatever the prefix decides (who writes it, its ratio, the weights made from it) and
            differentiates the next-token distributions alone, a middle's q among them. "full" holds nothing.

    At a kink (equal probabilities under tvd, ratio 1 under min) it is the derivative from neither side: 0 of that part.
    """
    if mode not in ("full", "stepwise"):
        raise ValueError(f'mode={mode!r} is neither "full" nor "stepwise"')
    scene = make_scene(p, q, data)
    slopes = np.zeros_like(q.log_probs)
    for row in objective_rows(name, scene, **options):
        probs = source_probs(scene, row.source)
        slopes += times(probs[:, None], row.token_slopes)
        if mode == "full":
            slopes += prefix_slopes(scene, row, probs)
    return to_logits(slopes, q.log_probs)


def prefix_slopes(scene: Scene, row: Row, probs: Array) -> Array:
    """[N, V], the derivative by log q of whatever the prefixes of a row decide: their probability, ratio and overlap."""
    tree, toward_teacher = scene.prefixes.tree, scene.prefixes.token_log_ratios
    out = path_sum_adjoint(tree, -times(probs, row.ratio_slopes), decay=row.memory)
    overlap = path_sum_adjoint(tree, times(probs, row.overlap_slopes))
    if row.source == "student":
        out += path_sum_adjoint(tree, times(probs, row.losses))
        out += -overlap * (toward_teacher < 0)  # log min(1, p/q) falls with log q where q > p
    else:
        out += overlap * (toward_teacher > 0)
    return out
