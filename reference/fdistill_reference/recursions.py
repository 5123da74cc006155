"""Divergences that multiply along a sequence: Hellinger, chi-square, alpha, Rényi, from one backward recursion.

Z = Σ_y P(y)^α Q(y)^(1-α) obeys Z(s) = Σ_v p^α q^(1-α) Z(sv), with Z = 1 behind a complete sequence.
"""

from __future__ import annotations

import numpy as np

from .models import TabularModel, check_pair
from .tree import Array


def log_power(log_p: Array, log_q: Array, alpha: float) -> Array:
    """log(p^α q^(1-α)): -inf where both vanish, +inf where a negative power meets a zero that the other does not share."""
    nowhere = (np.isneginf(log_p) & (alpha >= 0)) | (np.isneginf(log_q) & (alpha <= 1))
    nowhere |= np.isneginf(log_p) & np.isneginf(log_q)
    with np.errstate(invalid="ignore"):
        return np.where(nowhere, -np.inf, alpha * log_p + (1 - alpha) * log_q)


def word_log_power_sum(log_p: Array, log_q: Array, alpha: float) -> Array:
    """log Σ_v p^α q^(1-α)."""
    return np.logaddexp.reduce(log_power(log_p, log_q, alpha), axis=-1)


def log_power_sum(p: TabularModel, q: TabularModel, alpha: float) -> float:
    """log Z, by the backward recursion over prefixes."""
    check_pair(p, q)
    edges = log_power(p.log_probs, q.log_probs, alpha)
    behind = np.zeros(p.tree.size)
    for rows in reversed(p.tree.levels()):
        child = p.tree.child[rows]
        onward = np.where(child < 0, 0.0, behind[child])
        dead = np.isneginf(edges[rows]) | np.isneginf(onward)
        with np.errstate(invalid="ignore"):
            behind[rows] = np.logaddexp.reduce(np.where(dead, -np.inf, edges[rows] + onward), axis=-1)
    return float(behind[0])


def power_sum(p: TabularModel, q: TabularModel, alpha: float) -> float:
    """Z."""
    return float(np.exp(log_power_sum(p, q, alpha)))


def hellinger(p: TabularModel, q: TabularModel) -> float:
    """½ Σ (√P - √Q)² = 1 - Z at α = ½."""
    return 1 - power_sum(p, q, 0.5)


def chi2(p: TabularModel, q: TabularModel) -> float:
    """Σ (P - Q)²/Q = Z - 1 at α = 2."""
    return power_sum(p, q, 2.0) - 1


def alpha_divergence(p: TabularModel, q: TabularModel, alpha: float) -> float:
    """(Z - 1)/(α(α-1)), the generator "alpha"; where P and Q do not share their support and 0 < α < 1, still exact."""
    return (power_sum(p, q, alpha) - 1) / (alpha * (alpha - 1))


def renyi(p: TabularModel, q: TabularModel, alpha: float) -> float:
    """log Z/(α-1), for α > 0, α ≠ 1; a function of the alpha divergence, no f-divergence itself."""
    return log_power_sum(p, q, alpha) / (alpha - 1)


def renyi_step_bound(p: TabularModel, q: TabularModel, alpha: float) -> float:
    """Σ_t max over prefixes of length t of the word-level Rényi divergence: never less than `renyi`.

    The prefixes that count are those that carry mass: P^α Q^(1-α) > 0.
    """
    check_pair(p, q)
    local = word_log_power_sum(p.log_probs, q.log_probs, alpha) / (alpha - 1)
    carried = log_power(p.prefix_log_probs(), q.prefix_log_probs(), alpha)
    worst = [np.max(local[rows], where=carried[rows] > -np.inf, initial=0.0) for rows in p.tree.levels()]
    return float(sum(worst))
