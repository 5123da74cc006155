"""Monte-Carlo estimators of value and gradient, judged by enumeration: their exact mean and their exact variance.

One draw is one complete sequence from each source that the objective has; draws are independent.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from . import words
from .middles import log_odds
from .models import TabularModel
from .objectives import Row, Scene, objective_rows
from .prefixes import Prefixes
from .sequence import score
from .slopes import to_logits
from .stepwise import make_scene, prefix_slopes
from .tree import Array
from .words import log_middle, times


class Moments(NamedTuple):
    """Mean of an estimator (a number or [N, V]) and its variance, summed over the entries."""

    mean: Any
    variance: float

    @property
    def relative_variance(self) -> float:
        return self.variance / float((np.asarray(self.mean) ** 2).sum())


def moments(probs: Array, samples: Array) -> Moments:
    """Of `samples` [S, ...], drawn with `probs` [S]."""
    mean = np.tensordot(probs, samples, axes=1)
    deviation = ((samples - mean) ** 2).reshape(len(probs), -1).sum(-1)
    return Moments(mean, float(probs @ deviation))


def value_moments(name: str, p: TabularModel, q: TabularModel, **options: Any) -> Moments:
    """Of Σ_t ℓ_t over one draw from each source."""
    scene, batch = make_scene(p, q), q.batch()
    mean = variance = 0.0
    for row in objective_rows(name, scene, **options):
        part = moments(sequence_probs(scene, p, q, row.source), (row.losses[batch.rows] * batch.mask).sum(-1))
        mean, variance = mean + float(part.mean), variance + part.variance
    return Moments(mean, variance)


def gradient_moments(
    name: str, p: TabularModel, q: TabularModel, mode: str = "full", baseline: Array | None = None, **options: Any
) -> Moments:
    """Of the gradient from one draw from each source; `baseline` [S, T] is subtracted from the returns of the student rows."""
    scene = make_scene(p, q)
    mean, variance = np.zeros(q.logits.shape), 0.0
    for row in objective_rows(name, scene, **options):
        samples = sample_gradients(scene, row, q, mode, baseline)
        part = moments(sequence_probs(scene, p, q, row.source), samples)
        mean, variance = mean + part.mean, variance + part.variance
    return Moments(mean, variance)


def sequence_probs(scene: Scene, p: TabularModel, q: TabularModel, source: str) -> Array:
    """[S], how probable each complete sequence is under a source."""
    writer = {"data": scene.data, "teacher": p, "student": q}[source]
    return np.exp(writer.sequence_log_probs())


def sample_gradients(
    scene: Scene, row: Row, q: TabularModel, mode: str = "full", baseline: Array | None = None
) -> Array:
    """[S, N, V], the gradient that each complete sequence would give: loss terms along it and, under "full" from the student,
    ∇log q(y_t|y_<t) times the return after t less the baseline."""
    batch = q.batch()
    out = np.zeros((len(batch.tokens), *q.logits.shape))
    returns = returns_after(row.losses[batch.rows] * batch.mask) - (0.0 if baseline is None else baseline)
    for i, (tokens, mask, path) in enumerate(zip(*batch, strict=True)):
        visited = np.zeros(q.tree.size)
        visited[path[mask]] = 1.0
        slopes = times(visited[:, None], row.token_slopes)
        if mode == "full":
            unsampled = Row(
                row.source, 0.0 * row.losses, row.token_slopes, row.ratio_slopes, row.overlap_slopes, row.memory
            )
            slopes = slopes + prefix_slopes(scene, unsampled, visited)
            if row.source == "student":
                slopes[path[mask], tokens[mask]] += returns[i, mask]
        out[i] = to_logits(slopes, q.log_probs)
    return out


def returns_after(losses: Array) -> Array:
    """[..., T], Σ_{j>t} ℓ_j."""
    return np.flip(np.cumsum(np.flip(losses, -1), -1), -1) - losses


def prefix_baseline(q: TabularModel, values: Array) -> Array:
    """[S, T], a function of the prefix alone, `values` [N], along every sequence: as a baseline it leaves the mean as it is."""
    batch = q.batch()
    return values[batch.rows] * batch.mask


def group_score_gradient(
    name: str, p: TabularModel, q: TabularModel, group: int = 2, include_self: bool = False, **options: Any
) -> Array:
    """The exact mean of the score part, averaged over `group` independent student draws, each with the mean return of the
    others (leave-one-out) or of all (`include_self`) as its baseline."""
    returns = _student_returns(name, p, q, **options)
    batch, probs = q.batch(), np.exp(q.sequence_log_probs())
    slopes = np.zeros(q.logits.shape)
    for members in product(range(len(probs)), repeat=group):
        chance = probs[list(members)].prod()
        for i, coefficients in _advantages(returns, members, include_self):
            mask = batch.mask[i]
            slopes[batch.rows[i, mask], batch.tokens[i, mask]] += chance / group * coefficients[mask]
    return to_logits(slopes, q.log_probs)


def _advantages(returns: Array, members: tuple[int, ...], include_self: bool) -> Iterator[tuple[int, Array]]:
    total = returns[list(members)].sum(0)
    for i in members:
        baseline = total / len(members) if include_self else (total - returns[i]) / (len(members) - 1)
        yield i, returns[i] - baseline


def _student_returns(name: str, p: TabularModel, q: TabularModel, **options: Any) -> Array:
    batch = q.batch()
    rows = [row for row in objective_rows(name, make_scene(p, q), **options) if row.source == "student"]
    return returns_after(np.sum([row.losses for row in rows], axis=0)[batch.rows] * batch.mask)


def js_reinforce_moments(p: TabularModel, q: TabularModel, teacher_weight: float = 0.5) -> Moments:
    """Of (1-π) ∇log Q(y)·log(Q(y)/M(y)), y ~ Q: unbiased for ∇JS, and noisy."""
    odds = np.log(teacher_weight / (1 - teacher_weight))
    log_p, log_q = p.sequence_log_probs()[:, None], q.sequence_log_probs()[:, None]
    log_m = log_middle(log_p, log_q, log_odds=np.full(len(log_p), odds))
    samples = (1 - teacher_weight) * words.log_fraction(log_q, log_m)[..., None] * score(q)
    return moments(np.exp(log_q[:, 0]), samples)


def js_balance_score_moments(p: TabularModel, q: TabularModel, teacher_weight: float = 0.5) -> Moments:
    """Of Σ_t (1-w)[Σ_v ∇q log(q/m) + KL(q‖m) ∇log Q(s)] on one teacher and one student sequence, weighed π and 1-π: ∇JS again."""
    odds, batch = log_odds(p, q, teacher_weight), q.batch()
    student = np.exp(words.log_sigmoid(-odds))
    gaps = words.log_fraction(q.log_probs, log_middle(p.log_probs, q.log_probs, log_odds=odds))
    slopes = to_logits(times(student[:, None] * np.exp(q.log_probs), gaps), q.log_probs)
    returns = student * words.reverse_kl_to_middle(p.log_probs, q.log_probs, log_odds=odds)
    samples = np.zeros((len(batch.tokens), *q.logits.shape))
    ahead = returns_after(returns[batch.rows] * batch.mask)
    for i, (tokens, mask, path) in enumerate(zip(*batch, strict=True)):
        scores = np.zeros(q.logits.shape)
        scores[path[mask], tokens[mask]] = ahead[i, mask]
        samples[i] = to_logits(scores, q.log_probs)
        samples[i][path[mask]] += slopes[path[mask]]
    parts = [moments(np.exp(m.sequence_log_probs()), samples) for m in (p, q)]
    shares = (teacher_weight, 1 - teacher_weight)
    mean = sum(share * part.mean for share, part in zip(shares, parts, strict=True))
    return Moments(mean, sum(share**2 * part.variance for share, part in zip(shares, parts, strict=True)))


def mixed_mean(
    p: TabularModel, q: TabularModel, teacher: Array, student: Array, teacher_weight: float = 0.5
) -> tuple[float, float]:
    """πE_P a + (1-π)E_Q b and E_M[w a + (1-w) b] for functions of the prefix, [N]: equal, whence the balance estimator."""
    prefixes = Prefixes(p, q)
    apart = teacher_weight * prefixes.teacher @ teacher + (1 - teacher_weight) * prefixes.student @ student
    w = prefixes.weight(teacher_weight)
    return float(apart), float(prefixes.middle(teacher_weight) @ (w * teacher + (1 - w) * student))
