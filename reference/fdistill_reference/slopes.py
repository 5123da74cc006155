"""Derivatives of the word-level divergences, in closed form.

Teacher fixed, every log q(v) an independent variable: a function named after a divergence is its ∂/∂log q(v), [..., V],
with the weight of a middle and the ratio of a shifted generator held. `*_by_odds` and `*_by_ratio`, [...], are the
derivatives with respect to those. `to_logits` turns slopes by log q into slopes by the logits whose softmax q is.
"""

from __future__ import annotations

import numpy as np

from . import words
from .generators import Generator
from .tree import Array
from .words import expect, log_fraction, log_middle, log_sigmoid, times


def to_logits(slopes: Array, log_q: Array) -> Array:
    """∂/∂z(k) = ∂/∂log q(k) - q(k) Σ_v ∂/∂log q(v), because ∂log q(v)/∂z(k) = [v = k] - q(k)."""
    return slopes - np.exp(log_q) * slopes.sum(-1, keepdims=True)


def kl(log_p: Array, log_q: Array) -> Array:
    return -np.exp(log_p)


def cross_entropy(log_p: Array, log_q: Array) -> Array:
    return -np.exp(log_p)


def reverse_kl(log_p: Array, log_q: Array) -> Array:
    return times(np.exp(log_q), log_fraction(log_q, log_p) + 1)


def cross_entropy_to_teacher(log_p: Array, log_q: Array) -> Array:
    return times(np.exp(log_q), -log_p)


def tvd(log_p: Array, log_q: Array) -> Array:
    q = np.exp(log_q)
    return q * np.sign(q - np.exp(log_p)) / 2


def kl_to_middle(log_p: Array, log_q: Array, *, log_odds: Array) -> Array:
    """-p·b, where b = (1-w) q/m is the student's share of the middle: only the middle moves."""
    return -np.exp(log_p) * student_share(log_p, log_q, log_odds=log_odds)


def reverse_kl_to_middle(log_p: Array, log_q: Array, *, log_odds: Array) -> Array:
    """q (log(q/m) + 1 - b)."""
    log_m = log_middle(log_p, log_q, log_odds=log_odds)
    return times(np.exp(log_q), log_fraction(log_q, log_m) + 1 - student_share(log_p, log_q, log_odds=log_odds))


def js(log_p: Array, log_q: Array, *, log_odds: Array) -> Array:
    """(1-w) q log(q/m): what the middle's own movement adds is zero (envelope theorem)."""
    weight = np.exp(log_sigmoid(-np.asarray(log_odds, float)))[..., None]
    gaps = log_fraction(log_q, log_middle(log_p, log_q, log_odds=log_odds))
    return times(weight * np.exp(log_q), gaps)


def kl_to_middle_by_odds(log_p: Array, log_q: Array, *, log_odds: Array) -> Array:
    """Σ p b - (1-w)."""
    share = student_share(log_p, log_q, log_odds=log_odds)
    return expect(log_p, share) - np.exp(log_sigmoid(-np.asarray(log_odds, float)))


def reverse_kl_to_middle_by_odds(log_p: Array, log_q: Array, *, log_odds: Array) -> Array:
    """Σ q b - (1-w)."""
    share = student_share(log_p, log_q, log_odds=log_odds)
    return expect(log_q, share) - np.exp(log_sigmoid(-np.asarray(log_odds, float)))


def js_by_odds(log_p: Array, log_q: Array, *, log_odds: Array) -> Array:
    """w (1-w) (KL(p‖m) - KL(q‖m)): again the middle's movement adds nothing."""
    odds = np.asarray(log_odds, float)
    spread = np.exp(log_sigmoid(odds) + log_sigmoid(-odds))
    teacher = words.kl_to_middle(log_p, log_q, log_odds=odds)
    student = words.reverse_kl_to_middle(log_p, log_q, log_odds=odds)
    with np.errstate(invalid="ignore"):
        return times(spread, teacher - student)


def shifted_f_divergence(log_p: Array, log_q: Array, *, log_ratio: Array, generator: Generator) -> Array:
    """q (f(rt) - rt f'(rt)) - q f(r), t = p/q."""
    live, r = live_ratio(log_ratio)
    q = np.exp(log_q)
    _, student = generator.perspective_slopes(r[..., None] * np.exp(log_p), q)
    return np.where(live[..., None], student - q * generator.f(r)[..., None], 0.0)


def shifted_f_divergence_by_ratio(log_p: Array, log_q: Array, *, log_ratio: Array, generator: Generator) -> Array:
    """∂/∂log r of Σ q f(rt) - f(r)."""
    live, r = live_ratio(log_ratio)
    teacher, _ = generator.perspective_slopes(r[..., None] * np.exp(log_p), np.exp(log_q))
    return np.where(live, teacher.sum(-1) - r * generator.derivative(r), 0.0)


def student_share(log_p: Array, log_q: Array, *, log_odds: Array) -> Array:
    """b(v) = (1-w) q/m, the posterior probability that the student wrote token v; 0 where m vanishes."""
    odds = np.asarray(log_odds, float)[..., None]
    return np.exp(log_fraction(log_sigmoid(-odds) + log_q, log_middle(log_p, log_q, log_odds=log_odds))) * (
        ~np.isneginf(log_sigmoid(-odds) + log_q)
    )


def live_ratio(log_ratio: Array) -> tuple[Array, Array]:
    """Where a prefix can be written by both models, and its ratio r there (1 elsewhere)."""
    live = np.isfinite(np.asarray(log_ratio, float))
    return live, np.exp(np.where(live, log_ratio, 0.0))
