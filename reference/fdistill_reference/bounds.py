"""Total variation: the published bounds (Wen et al., 2023, Eqns. 23-37), sharper ones, and the exact step-wise form.

All of them weigh tv(s) = ½ Σ_v |p(v|s) - q(v|s)| of every prefix:

    1 - Σ_y Π min(p,q) = Σ κ tv  ≤  Σ min(P,Q) tv  ≤  min(Σ P tv, Σ Q tv)  ≤  Σ ½(P+Q) tv
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from . import words
from .models import TabularModel
from .prefixes import Prefixes
from .tree import Array
from .words import log_fraction


def weighted_bound(p: TabularModel, q: TabularModel, weight: Callable[[Array, Array], Array]) -> float:
    """Σ_s a(P(s), Q(s))·tv(s)."""
    prefixes = Prefixes(p, q)
    return float((weight(prefixes.teacher, prefixes.student) * words.tvd(p.log_probs, q.log_probs)).sum())


def teacher_bound(p: TabularModel, q: TabularModel) -> float:
    """Σ P(s) tv(s): prefixes from the teacher alone (Eqn. 36)."""
    return weighted_bound(p, q, lambda a, b: a)


def student_bound(p: TabularModel, q: TabularModel) -> float:
    """Σ Q(s) tv(s): prefixes from the student alone (Eqn. 37)."""
    return weighted_bound(p, q, lambda a, b: b)


def paper_bound(p: TabularModel, q: TabularModel) -> float:
    """Their average (Eqn. 25), the published objective (Eqns. 9 and 10)."""
    return weighted_bound(p, q, lambda a, b: (a + b) / 2)


def overlap_bound(p: TabularModel, q: TabularModel) -> float:
    """Σ min(P(s), Q(s)) tv(s). Unlike the product bound it can exceed 1."""
    return weighted_bound(p, q, np.minimum)


def power_mean_bound(p: TabularModel, q: TabularModel, rho: float) -> float:
    """Σ ((P^ρ + Q^ρ)/2)^(1/ρ) tv(s): rises with ρ, from overlap (-∞) over √(PQ) (0) to paper (1)."""
    return weighted_bound(p, q, lambda a, b: power_mean(a, b, rho))


def product_bound(p: TabularModel, q: TabularModel) -> float:
    """Σ κ(s) tv(s), κ(s) = Π min(p, q) over the tokens of the prefix."""
    return float((Prefixes(p, q).product_overlap * words.tvd(p.log_probs, q.log_probs)).sum())


def product_complement(p: TabularModel, q: TabularModel) -> float:
    """1 - Σ_y Π_t min(p, q)(y_t|y_<t): the product bound again, by sequences."""
    prefixes = Prefixes(p, q)
    whole = prefixes.product_overlap[:, None] * np.exp(np.minimum(p.log_probs, q.log_probs))
    return float(1 - whole[p.tree.child < 0].sum())


def tvd_steps(p: TabularModel, q: TabularModel) -> Array:
    """[N], min(P(s), Q(s)) - Σ_v min(P(sv), Q(sv)): exact TVD is their sum, and each is at least 0."""
    prefixes = Prefixes(p, q)
    below = np.minimum(prefixes.teacher[:, None] * np.exp(p.log_probs), prefixes.student[:, None] * np.exp(q.log_probs))
    return prefixes.overlap - below.sum(-1)


def tvd_steps_by_ratio(p: TabularModel, q: TabularModel) -> Array:
    """[N], min(1, u) - Σ_v min(p, u q): the same step, per unit of teacher probability; 0 where the teacher never comes."""
    prefixes = Prefixes(p, q)
    ratio = prefixes.log_ratio()
    u = np.exp(-np.maximum(ratio, -700.0))
    inner = np.minimum(np.exp(p.log_probs), u[:, None] * np.exp(q.log_probs)).sum(-1)
    return np.where(np.isneginf(prefixes.log_teacher), 0.0, np.minimum(1.0, u) - inner)


def overlap_profile(p: TabularModel, q: TabularModel) -> Array:
    """[T+1], a_t: the overlap Σ min(P, Q) of the laws of the first t tokens; a_0 = 1, a_T = 1 - TVD."""
    laws = ((p.truncated(t), q.truncated(t)) for t in range(1, p.length + 1))
    overlaps = [np.exp(np.minimum(a.sequence_log_probs(), b.sequence_log_probs())).sum() for a, b in laws]
    return np.array([1.0, *overlaps])


def overlap_losses(p: TabularModel, q: TabularModel) -> Array:
    """[T], Σ over unfinished prefixes of length t of ω(s) tv(s): at least a_t - a_(t+1), whence the overlap bound."""
    losses = Prefixes(p, q).overlap * words.tvd(p.log_probs, q.log_probs)
    return np.array([losses[rows].sum() for rows in p.tree.levels()])


def bound_growth(p: TabularModel, q: TabularModel) -> tuple[Array, Array, Array]:
    """Per length t = 1..T: TVD of the first t tokens, and the sums of P tv and Q tv over prefixes of length t-1.

    The induction of Theorem 1b: TVD never grows by more than either sum.
    """
    profile = 1 - overlap_profile(p, q)
    prefixes, local = Prefixes(p, q), words.tvd(p.log_probs, q.log_probs)
    levels = p.tree.levels()
    teacher, student = (
        np.array([(probs * local)[rows].sum() for rows in levels]) for probs in (prefixes.teacher, prefixes.student)
    )
    return profile[1:], teacher, student


def least_weight_witness(teacher: float, student: float) -> tuple[TabularModel, TabularModel]:
    """Two models whose TVD leaves a prefix with P(s), Q(s) as given no weight below min(P(s), Q(s)).

    After token 0 (probabilities as given) their conditionals are disjoint, after token 1 equal. Then
    TVD - tv(()) = min(P(s), Q(s)) while Σ a tv - tv(()) = a(P(s), Q(s)).
    """
    p = TabularModel.from_probabilities({(): [teacher, 1 - teacher], (0,): [1, 0], (1,): [0.5, 0.5]}, length=2)
    q = TabularModel.from_probabilities({(): [student, 1 - student], (0,): [0, 1], (1,): [0.5, 0.5]}, length=2)
    return p, q


def power_mean(a: Array, b: Array, rho: float) -> Array:
    """((a^ρ + b^ρ)/2)^(1/ρ) for a, b ≥ 0, with its limits at ρ = ±∞ and 0."""
    if np.isinf(rho):
        return np.minimum(a, b) if rho < 0 else np.maximum(a, b)
    with np.errstate(divide="ignore"):
        log_a, log_b = np.log(a), np.log(b)
    one, both = np.isneginf(log_a) | np.isneginf(log_b), np.isneginf(log_a) & np.isneginf(log_b)
    centre, spread = np.where(one, 0.0, log_a + log_b) / 2, log_fraction(log_a, log_b) / 2
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        tilt = np.where(one, 0.0, _log_cosh(rho * np.where(one, 0.0, spread))) / rho if rho else 0.0
        beside_zero = np.maximum(a, b) * np.exp(-np.log(2) / rho) if rho > 0 else 0.0
    return np.where(both, 0.0, np.where(one, beside_zero, np.exp(centre + tilt)))


def _log_cosh(x: Array) -> Array:
    """log cosh x without cancellation near 0 or overflow far from it."""
    near = np.log1p(2 * np.sinh(np.clip(x, -1, 1) / 2) ** 2)
    return np.where(abs(x) < 1, near, abs(x) + np.log1p(np.exp(-2 * abs(x))) - np.log(2))
