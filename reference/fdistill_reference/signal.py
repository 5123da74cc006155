"""How much gradient the exact Jensen-Shannon divergence leaves: at most what the two models still share.

‖∇JS‖ ≤ √(π(1-π)) Σ_y √(P(y) Q(y)) ‖∇log Q(y)‖, and Σ √(PQ) shrinks with every token on which the models differ.
"""

from __future__ import annotations

import numpy as np
from scipy.special import gammaln

from . import slopes, words
from .models import TabularModel
from .recursions import power_sum
from .sequence import score
from .tree import Array


def bhattacharyya(p: TabularModel, q: TabularModel) -> float:
    """Σ_y √(P(y) Q(y))."""
    return power_sum(p, q, 0.5)


def bhattacharyya_profile(p: TabularModel, q: TabularModel) -> Array:
    """[T], the coefficient of the first t tokens, t = 1..T: never rises."""
    return np.array([bhattacharyya(p.truncated(t), q.truncated(t)) for t in range(1, p.length + 1)])


def js_gradient_bound(p: TabularModel, q: TabularModel, teacher_weight: float = 0.5) -> float:
    """√(π(1-π)) Σ_y √(P(y) Q(y)) ‖∇log Q(y)‖, in logits."""
    norms = np.sqrt((score(q) ** 2).sum((1, 2)))
    shared = np.exp((p.sequence_log_probs() + q.sequence_log_probs()) / 2)
    return float(np.sqrt(teacher_weight * (1 - teacher_weight)) * (shared * norms).sum())


def coin_gradient_profile(teacher: float, student: float, tosses: int, teacher_weight: float = 0.5) -> Array:
    """[T], the step-wise gradient of exact JS at every toss of independent coins, with respect to the student's logit of heads.

    Prefixes count by their number of heads alone, so that any length will do.

    Args:
        teacher, student: probabilities of heads, inside (0, 1).
    """
    log_p, log_q = (np.log([[heads, 1 - heads]]) for heads in (teacher, student))
    profile = []
    for length in range(tosses):
        heads = np.arange(length + 1)
        counts = np.stack([heads, length - heads], axis=1)
        orders = gammaln(length + 1) - gammaln(counts + 1).sum(1)
        odds = words.log_odds_of(teacher_weight) + counts @ (log_p - log_q)[0]
        pair = [np.repeat(log, length + 1, axis=0) for log in (log_p, log_q)]
        by_logit = slopes.to_logits(slopes.js(*pair, log_odds=odds), pair[1])[:, 0]
        teacher_written, student_written = (np.exp(orders + counts @ log[0]) for log in (log_p, log_q))
        profile.append((teacher_weight * teacher_written + (1 - teacher_weight) * student_written) @ by_logit)
    return np.array(profile)
