"""Numerical derivatives: the judge of every closed form."""

from collections.abc import Callable

import numpy as np
from fdistill_reference import TabularModel
from hypothesis import settings

from tests.tolerances import FINITE_DIFFERENCE, FINITE_DIFFERENCE_STEP

#: For properties that go through the whole table of objectives in each example.
costly = settings(max_examples=max(10, settings.default.max_examples // 4))


def is_derivative(
    claimed: np.ndarray, value: Callable[[TabularModel], float], q: TabularModel, directions: int = 2
) -> bool:
    """Whether `claimed` [N, V] is the derivative of `value` by the student's logits, along random directions.

    A wrong gradient agrees with the fourth-order central difference along a random direction with probability zero.
    """
    rng, h = np.random.default_rng(q.tree.size), FINITE_DIFFERENCE_STEP
    for _ in range(directions):
        direction = rng.standard_normal(claimed.shape)
        one, two = (
            value(q.with_logits(q.logits + k * h * direction)) - value(q.with_logits(q.logits - k * h * direction))
            for k in (1, 2)
        )
        numeric, slope = (8 * one - two) / (12 * h), float((claimed * direction).sum())
        if not abs(slope - numeric) <= FINITE_DIFFERENCE * (1 + abs(numeric) + abs(claimed).max()):
            return False
    return True


def kink_margin(p: TabularModel, q: TabularModel) -> float:
    """How far the pair is from where |p - q| or min(P, Q) has no derivative."""
    gaps = [abs(p.log_probs - q.log_probs).min()]
    later = abs(p.prefix_log_probs() - q.prefix_log_probs())[1:]
    whole = abs(p.sequence_log_probs() - q.sequence_log_probs())
    return float(min([*gaps, *later, whole.min()]))
