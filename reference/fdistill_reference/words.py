"""Word-level divergences: two next-token distributions in, one number out, teacher first.

Every function takes log-probabilities [..., V] and returns [...]; -inf is a probability of zero. What it needs beside
the two distributions is a keyword argument. `log_odds` is log(w/(1-w)) for the weight w of the teacher in the middle
distribution m = w·p + (1-w)·q.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from . import generators
from .generators import Generator, open_unit
from .tree import Array


def times(weights: Array, values: Array | float) -> Array:
    """weights·values, where a weight of zero silences even an infinite value."""
    with np.errstate(invalid="ignore"):
        return np.where(weights == 0, 0.0, weights * values)


def expect(log_weights: Array, values: Array) -> Array:
    """Σ_v exp(log_weights)·values."""
    return times(np.exp(log_weights), values).sum(-1)


def log_fraction(log_a: Array, log_b: Array) -> Array:
    """log(a/b), 0 where both are zero."""
    both = np.isneginf(log_a) & np.isneginf(log_b)
    with np.errstate(invalid="ignore"):
        return np.where(both, 0.0, log_a - log_b)


def log_sigmoid(x: Array) -> Array:
    return -np.logaddexp(0.0, -np.asarray(x, float))


def log_middle(log_p: Array, log_q: Array, *, log_odds: Array) -> Array:
    """log m = log(w p + (1-w) q), [..., V]; exactly log p where the two are equal."""
    odds = np.asarray(log_odds, float)[..., None]
    with np.errstate(invalid="ignore"):
        general = np.logaddexp(log_sigmoid(odds) + log_p, log_sigmoid(-odds) + log_q)
    gap = log_fraction(log_q, log_p)
    near = np.log1p(np.exp(log_sigmoid(-odds)) * np.expm1(np.clip(gap, -1, 1)))
    with np.errstate(invalid="ignore"):
        return np.where(abs(gap) < 1, log_p + near, general)


def kl(log_p: Array, log_q: Array) -> Array:
    """KL(p‖q) = Σ p log(p/q)."""
    return expect(log_p, log_fraction(log_p, log_q))


def reverse_kl(log_p: Array, log_q: Array) -> Array:
    """KL(q‖p)."""
    return kl(log_q, log_p)


def jeffreys(log_p: Array, log_q: Array) -> Array:
    """KL(p‖q) + KL(q‖p)."""
    return kl(log_p, log_q) + kl(log_q, log_p)


def nll(log_p: Array, log_q: Array, *, tokens: NDArray[np.int64]) -> Array:
    """-log q(token), [...]; the teacher does not matter."""
    return -np.take_along_axis(log_q, np.asarray(tokens)[..., None], axis=-1)[..., 0]


def cross_entropy(log_p: Array, log_q: Array) -> Array:
    """-Σ p log q: the expected nll of a token drawn from p."""
    return expect(log_p, -log_q)


def cross_entropy_to_teacher(log_p: Array, log_q: Array) -> Array:
    """-Σ q log p."""
    return cross_entropy(log_q, log_p)


def entropy(log_p: Array) -> Array:
    """-Σ p log p."""
    return cross_entropy(log_p, log_p)


def kl_to_middle(log_p: Array, log_q: Array, *, log_odds: Array) -> Array:
    """KL(p‖m)."""
    return kl(log_p, log_middle(log_p, log_q, log_odds=log_odds))


def reverse_kl_to_middle(log_p: Array, log_q: Array, *, log_odds: Array) -> Array:
    """KL(q‖m)."""
    return kl(log_q, log_middle(log_p, log_q, log_odds=log_odds))


def js(log_p: Array, log_q: Array, *, log_odds: Array) -> Array:
    """w KL(p‖m) + (1-w) KL(q‖m)."""
    w, w_student = np.exp(log_sigmoid(log_odds)), np.exp(log_sigmoid(-np.asarray(log_odds)))
    to_middle = kl_to_middle(log_p, log_q, log_odds=log_odds)
    return times(w, to_middle) + times(w_student, reverse_kl_to_middle(log_p, log_q, log_odds=log_odds))


def tvd(log_p: Array, log_q: Array) -> Array:
    """½ Σ |p - q|."""
    return abs(np.exp(log_p) - np.exp(log_q)).sum(-1) / 2


def hellinger(log_p: Array, log_q: Array) -> Array:
    """½ Σ (√p - √q)²."""
    return ((np.exp(log_p / 2) - np.exp(log_q / 2)) ** 2).sum(-1) / 2


def chi2(log_p: Array, log_q: Array) -> Array:
    """Σ (p - q)²/q."""
    return f_divergence(log_p, log_q, generator=generators.GENERATORS["chi2"])


def alpha(log_p: Array, log_q: Array, *, alpha: float = 0.5) -> Array:
    """(Σ p^α q^(1-α) - 1)/(α(α - 1))."""
    return f_divergence(log_p, log_q, generator=generators.alpha(alpha))


def skew_kl(log_p: Array, log_q: Array, *, alpha: float = 0.1) -> Array:
    """KL(p‖αp + (1-α)q)."""
    return kl_to_middle(log_p, log_q, log_odds=np.asarray(log_odds_of(open_unit(alpha, "alpha", "at 0 it is kl"))))


def skew_rkl(log_p: Array, log_q: Array, *, alpha: float = 0.1) -> Array:
    """KL(q‖αq + (1-α)p)."""
    return skew_kl(log_q, log_p, alpha=alpha)


def f_divergence(log_p: Array, log_q: Array, *, generator: Generator) -> Array:
    """Σ q f(p/q)."""
    return generator.perspective(np.exp(log_p), np.exp(log_q)).sum(-1)


def shifted_f_divergence(log_p: Array, log_q: Array, *, log_ratio: Array, generator: Generator) -> Array:
    """D of the shifted generator f_r(t) = f(rt) - f(r), r the teacher-to-student ratio of the prefix; 0 at r = 0 or ∞."""
    live = np.isfinite(np.asarray(log_ratio, float))
    r = np.exp(np.where(live, log_ratio, 0.0))[..., None]
    q = np.exp(log_q)
    terms = generator.perspective(np.exp(log_p), q, ratio=r) - q * generator.f(r)
    return np.where(live, terms.sum(-1), 0.0)


def log_odds_of(weight: float) -> float:
    """log(w/(1-w))."""
    return float(np.log(weight) - np.log1p(-weight))
