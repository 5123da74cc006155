"""Teachers known by their k most probable tokens: both models coarsened to k + 1 buckets, the last one holding the rest.

Merging tokens never raises an f-divergence (data processing), leaves it ≥ 0, and changes nothing where at most one
token falls into the tail. A cross-entropy loses more than it should: its coarse value is below the dense one even at p = q.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .models import TabularModel
from .objectives import Row, Scene, objective_rows
from .slopes import to_logits
from .stepwise import make_scene, prefix_slopes, source_probs
from .tree import Array, path_sum
from .words import cross_entropy, kl_to_middle, log_fraction, log_odds_of, reverse_kl_to_middle, times


def top_k(log_p: Array, k: int) -> NDArray[np.int64]:
    """[..., k], the teacher's most probable tokens; ties in the order of the vocabulary."""
    return np.argsort(-log_p, axis=-1, kind="stable")[..., :k]


def in_tail(ids: NDArray[np.int64], vocab: int) -> NDArray[np.bool_]:
    """[..., V], True for a token that is not among `ids`."""
    tail = np.ones((*ids.shape[:-1], vocab), dtype=bool)
    np.put_along_axis(tail, ids, False, axis=-1)
    return tail


def coarsen(log_p: Array, ids: NDArray[np.int64]) -> Array:
    """[..., k+1], the log-probabilities of `ids` and, last, of all other tokens together (a logsumexp, never 1 - Σ)."""
    kept = np.take_along_axis(log_p, ids, axis=-1)
    tail = np.logaddexp.reduce(np.where(in_tail(ids, log_p.shape[-1]), log_p, -np.inf), axis=-1)
    return np.concatenate([kept, tail[..., None]], axis=-1)


def cross_entropy_loss(log_p: Array, log_q: Array, ids: NDArray[np.int64]) -> Array:
    """What -Σ p log q loses by coarsening: p_tail·CE(p_tail‖q_tail), the cross-entropy inside the tail, times its mass."""
    tail = in_tail(ids, log_p.shape[-1])
    masses = [np.logaddexp.reduce(np.where(tail, x, -np.inf), axis=-1) for x in (log_p, log_q)]
    finite = [np.where(np.isneginf(m), 0.0, m)[..., None] for m in masses]
    inside_p, inside_q = (np.where(tail, x, -np.inf) - m for x, m in zip((log_p, log_q), finite, strict=True))
    return np.exp(masses[0]) * cross_entropy(inside_p, inside_q)


def coarse_terms(name: str, p: TabularModel, q: TabularModel, k: int, **options: Any) -> dict[str, Array]:
    """Like `stepwise_terms` for a teacher known by its top k: coarse next-token distributions, exact prefix weights."""
    return {row.source: row.losses for row in _coarse_rows(name, p, q, k, options)[1]}


def coarse_divergence(name: str, p: TabularModel, q: TabularModel, k: int, **options: Any) -> float:
    """Like `stepwise_divergence` for a teacher known by its top k: never above the dense value, equal to it at k = V."""
    scene, rows = _coarse_rows(name, p, q, k, options)
    return float(np.sum([times(source_probs(scene, row.source), row.losses) for row in rows]))


def coarse_gradient(name: str, p: TabularModel, q: TabularModel, k: int, mode: str = "full", **options: Any) -> Array:
    """Its derivative with respect to the student's logits, [N, V], as `gradient` is that of the dense value."""
    scene, rows = _coarse_rows(name, p, q, k, options)
    ids = top_k(p.log_probs, k)
    tail_mass = np.exp(scene.log_q[:, -1:])
    inside = np.exp(q.log_probs) / np.where(tail_mass > 0, tail_mass, 1.0)  # ∂log q_tail/∂log q(v) of a tail token
    slopes = np.zeros_like(q.log_probs)
    for row in rows:
        probs = source_probs(scene, row.source)
        fine = np.where(in_tail(ids, p.vocab), inside * row.token_slopes[:, -1:], 0.0)
        np.put_along_axis(fine, ids, row.token_slopes[:, :-1], axis=-1)
        slopes += times(probs[:, None], fine)
        if mode == "full":
            slopes += prefix_slopes(scene, row, probs)
    return to_logits(slopes, q.log_probs)


def _coarse_rows(name: str, p: TabularModel, q: TabularModel, k: int, options: Any) -> tuple[Scene, list[Row]]:
    if name in ("engine", "seqkd", "mle"):
        raise ValueError(f"{name} is a cross-entropy, which coarsening biases: it has no coarse value")
    ids = top_k(p.log_probs, k)
    scene = make_scene(p, q)
    scene = replace(scene, log_p=coarsen(p.log_probs, ids), log_q=coarsen(q.log_probs, ids))
    return scene, objective_rows(name, scene, **options)


def bucket_log_ratio(p: TabularModel, q: TabularModel, k: int) -> Array:
    """[N], the log ratio of a prefix whose tokens are known by bucket alone."""
    ids = top_k(p.log_probs, k)
    bucket = np.full(p.logits.shape, k)
    np.put_along_axis(bucket, ids, np.broadcast_to(np.arange(k), ids.shape), axis=-1)
    edges = log_fraction(coarsen(p.log_probs, ids), coarsen(q.log_probs, ids))
    sums = path_sum(p.tree, np.take_along_axis(edges, bucket, axis=-1))
    return np.where(np.isnan(sums), 0.0, sums)


def bucket_weight_js(p: TabularModel, q: TabularModel, k: int, teacher_weight: float = 0.5) -> tuple[Array, Array]:
    """([N], [N]): the halves' contributions per prefix with the middle's weight, too, made from buckets.

    In sum they telescope to H(π) + E[log ŵ(who|y)] for a decoder ŵ of who wrote y, which never exceeds the mutual information JS.
    Single steps may exceed the dense ones, and the other estimators of JS, overlap and f-divergences with such weights
    may exceed the dense value in sum: prefix weights belong to the exact token probabilities.
    """
    scene, _ = _coarse_rows("kl", p, q, k, {})
    given = {"log_odds": log_odds_of(teacher_weight) + bucket_log_ratio(p, q, k)}
    teacher = times(scene.prefixes.teacher, kl_to_middle(scene.log_p, scene.log_q, **given))
    student = times(scene.prefixes.student, reverse_kl_to_middle(scene.log_p, scene.log_q, **given))
    return teacher_weight * teacher, (1 - teacher_weight) * student


def squared_distance(log_p: Array, log_q: Array) -> Array:
    """Σ (p - q)²: no f-divergence, and merging tokens can raise it."""
    return ((np.exp(log_p) - np.exp(log_q)) ** 2).sum(-1)
