"""How much gradient the exact Jensen-Shannon divergence leaves: at most what the two models still share.

‖∇JS‖ ≤ √(π(1-π)) Σ_y √(P(y) Q(y)) ‖∇log Q(y)‖, and Σ √(PQ) shrinks with every token on which the models differ.
"""

from __future__ import annotations

import numpy as np

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
