"""What a prefix knows: its probabilities under both models, their ratio, and the weights made from these."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .models import TabularModel, check_pair
from .tree import Array, Tree, path_sum
from .words import log_fraction


@dataclass(frozen=True)
class Prefixes:
    """Teacher p and student q, seen from every unfinished prefix; all arrays are [N]."""

    p: TabularModel
    q: TabularModel

    def __post_init__(self) -> None:
        check_pair(self.p, self.q)

    @property
    def tree(self) -> Tree:
        return self.p.tree

    @cached_property
    def log_teacher(self) -> Array:
        """log P(s)."""
        return self.p.prefix_log_probs()

    @cached_property
    def log_student(self) -> Array:
        """log Q(s)."""
        return self.q.prefix_log_probs()

    @property
    def teacher(self) -> Array:
        return np.exp(self.log_teacher)

    @property
    def student(self) -> Array:
        return np.exp(self.log_student)

    @cached_property
    def token_log_ratios(self) -> Array:
        """[N, V], log p(v|s)/q(v|s); 0 where both are zero."""
        return log_fraction(self.p.log_probs, self.q.log_probs)

    def log_ratio(self, memory: float = 1.0) -> Array:
        """log r(s) = log P(s)/Q(s); with memory γ < 1 the ratio of someone who forgets, log r ← γ log r + the token's.

        0 where neither model can write the prefix.
        """
        sums = path_sum(self.tree, self.token_log_ratios, decay=memory)
        return np.where(np.isnan(sums), 0.0, sums)

    def log_overlap_teacher(self) -> Array:
        """Σ log min(1, q/p) over the tokens before."""
        return path_sum(self.tree, np.minimum(0.0, -self.token_log_ratios))

    def log_overlap_student(self) -> Array:
        """Σ log min(1, p/q) over the tokens before."""
        return path_sum(self.tree, np.minimum(0.0, self.token_log_ratios))

    @property
    def overlap(self) -> Array:
        """ω(s) = min(P(s), Q(s))."""
        return np.minimum(self.teacher, self.student)

    @property
    def product_overlap(self) -> Array:
        """κ(s) = Π min(p, q) over the tokens of the prefix, which is P(s)·Π min(1, q/p)."""
        edges = np.minimum(self.p.log_probs, self.q.log_probs)
        return np.exp(path_sum(self.tree, edges))

    def middle(self, teacher_weight: float) -> Array:
        """M(s) = πP(s) + (1-π)Q(s)."""
        return teacher_weight * self.teacher + (1 - teacher_weight) * self.student

    def weight(self, teacher_weight: float) -> Array:
        """w(s) = πP(s)/M(s), the posterior probability that the teacher wrote the prefix; π where nobody can."""
        total = self.middle(teacher_weight)
        return np.where(total > 0, teacher_weight * self.teacher / np.where(total > 0, total, 1.0), teacher_weight)


def clipped(log_ratio: Array, clip: float) -> Array:
    """The log ratio kept within ±clip."""
    return np.clip(log_ratio, -clip, clip)
