"""What the full and the step-wise gradient are, said in other ways than `gradient` computes them.

All gradients are with respect to the student's logits, [N, V].
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import words
from .middles import log_odds
from .models import TabularModel
from .objectives import Row, objective_rows
from .prefixes import Prefixes
from .sequence import score
from .slopes import to_logits
from .stepwise import make_scene, prefix_slopes, source_probs
from .tree import Array, path_sum_adjoint
from .words import log_middle, log_odds_of, times


def live_part(name: str, p: TabularModel, q: TabularModel, **options: Any) -> Array:
    """E[Σ_t ∇ℓ_t], nothing in ℓ_t held: the full gradient but for the movement of the sampling distribution."""
    scene = make_scene(p, q)
    slopes = np.zeros_like(q.log_probs)
    for row in objective_rows(name, scene, **options):
        probs = source_probs(scene, row.source)
        unsampled = Row(
            row.source, 0.0 * row.losses, row.token_slopes, row.ratio_slopes, row.overlap_slopes, row.memory
        )
        slopes += times(probs[:, None], row.token_slopes) + prefix_slopes(scene, unsampled, probs)
    return to_logits(slopes, q.log_probs)


def score_part(name: str, p: TabularModel, q: TabularModel, **options: Any) -> Array:
    """E[Σ_t ∇log q(y_t|y_<t) · Σ_{j>t} ℓ_j] of the student rows: the return starts after the step, itself summed over v."""
    scene = make_scene(p, q)
    slopes = np.zeros_like(q.log_probs)
    for row in objective_rows(name, scene, **options):
        if row.source == "student":
            slopes += path_sum_adjoint(p.tree, times(scene.prefixes.student, row.losses))
    return to_logits(slopes, q.log_probs)


def js_full_gradient(p: TabularModel, q: TabularModel, teacher_weight: float = 0.5) -> Array:
    """∇JS = (1-π) E_{y~Q}[∇log Q(y)·log(Q(y)/M(y))]: student samples suffice."""
    log_p, log_q = p.sequence_log_probs(), q.sequence_log_probs()
    odds = np.full(len(log_p), log_odds_of(teacher_weight))
    log_m = log_middle(log_p[:, None], log_q[:, None], log_odds=odds)[:, 0]
    weights = times(np.exp(log_q), words.log_fraction(log_q, log_m))
    return (1 - teacher_weight) * np.tensordot(weights, score(q), axes=1)


def js_stepwise_gradient(p: TabularModel, q: TabularModel, teacher_weight: float = 0.5) -> Array:
    """(1-π) Σ_s Q(s) Σ_v ∇q(v|s)·log(q/m): the envelope theorem at every prefix."""
    gaps = words.log_fraction(
        q.log_probs, log_middle(p.log_probs, q.log_probs, log_odds=log_odds(p, q, teacher_weight))
    )
    probs = np.exp(q.log_probs)
    centred = gaps - times(probs, gaps).sum(-1, keepdims=True)
    student = (1 - teacher_weight) * Prefixes(p, q).student
    return times(student[:, None] * probs, centred)


def js_detached_gradient(p: TabularModel, q: TabularModel, teacher_weight: float = 0.5) -> tuple[Array, Array]:
    """The halves of the exact JS with their middle held: the teacher half has no gradient, the student half has all of it."""
    log_m = log_middle(p.log_probs, q.log_probs, log_odds=log_odds(p, q, teacher_weight))
    prefixes = Prefixes(p, q)
    slopes = times(np.exp(q.log_probs), words.log_fraction(q.log_probs, log_m) + 1)
    student = times((1 - teacher_weight) * prefixes.student[:, None], slopes)
    return np.zeros_like(slopes), to_logits(student, q.log_probs)


def token_mean(name: str, p: TabularModel, q: TabularModel, **options: Any) -> float:
    """E_{y~Q}[(1/|y|) Σ_t ℓ_t] of the student rows: each sequence divided by its own length."""
    weights, losses, _ = _student_returns(name, p, q, **options)
    return float((weights * losses).sum())


def token_mean_gradient(name: str, p: TabularModel, q: TabularModel, **options: Any) -> Array:
    """Its gradient: E[Σ ∇ℓ_t/|y|] + E[∇log Q(y)·(1/|y|) Σ_t ℓ_t], the score weighing the whole return, not the return to go."""
    weights, losses, shares = _student_returns(name, p, q, **options)
    scene = make_scene(p, q)
    slopes = np.zeros_like(q.log_probs)
    for row in objective_rows(name, scene, **options):
        if row.source == "student":
            unsampled = Row(
                row.source, 0.0 * row.losses, row.token_slopes, row.ratio_slopes, row.overlap_slopes, row.memory
            )
            slopes += times(shares[:, None], row.token_slopes) + prefix_slopes(scene, unsampled, shares)
    return to_logits(slopes, q.log_probs) + np.tensordot(weights * losses, score(q), axes=1)


def _student_returns(name: str, p: TabularModel, q: TabularModel, **options: Any) -> tuple[Array, Array, Array]:
    """[S] Q(y); [S] mean loss of y; [N] Σ over the sequences through a prefix of Q(y)/|y|."""
    scene, batch = make_scene(p, q), q.batch()
    per_prefix = sum(row.losses for row in objective_rows(name, scene, **options) if row.source == "student")
    lengths = batch.mask.sum(-1)
    losses = (np.asarray(per_prefix)[batch.rows] * batch.mask).sum(-1) / lengths
    weights = np.exp(q.sequence_log_probs())
    shares = np.zeros(q.tree.size)
    np.add.at(
        shares, batch.rows[batch.mask], np.broadcast_to((weights / lengths)[:, None], batch.mask.shape)[batch.mask]
    )
    return weights, losses, shares


def cosine(a: Array, b: Array) -> float:
    """Of the angle between two gradients."""
    return float((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()))
