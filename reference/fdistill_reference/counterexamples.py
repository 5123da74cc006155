"""Pairs of models, teacher first, that show what does *not* hold."""

from __future__ import annotations

import numpy as np

from .models import TabularModel
from .tree import Tokens

Pair = tuple[TabularModel, TabularModel]


def binary(first: float, after_zero: float, after_one: float) -> TabularModel:
    """Two tokens, two steps: the probabilities of token 0 at (), (0,) and (1,)."""
    chances: dict[Tokens, float] = {(): first, (0,): after_zero, (1,): after_one}
    table = {s: [a, 1 - a] for s, a in chances.items()}
    return TabularModel.from_probabilities(table, length=2)


def gkd_below_js() -> Pair:
    """Both KLs on the same teacher prefix sum to .0823, where JS is .1162."""
    return binary(0.1, 0.1, 0.1), binary(0.3, 0.99, 0.1)


def opposed_gradients(loss: float = 60.0) -> Pair:
    """The step-wise gradient of reverse KL points against the full one.

    The teacher likes token 0 but finds its continuation almost impossible, and the student's continuation is saturated: its own
    logits feel nothing. Step by step the student is drawn to token 0; the whole loss is lowered by leaving it.
    """
    p = TabularModel.from_logits({(): [1.0, 0.0], (0,): [-loss, 0.0], (1,): [0.0, 0.0]}, length=2)
    q = TabularModel.from_logits({(): [0.0, 0.0], (0,): [30.0, 0.0], (1,): [0.0, 0.0]}, length=2)
    return p, q


def biased_coins(length: int, gap: float) -> Pair:
    """Independent tosses with heads at ½ ± gap/2: with gap ~ 1/√T their overlap bound grows like √T and passes 1."""
    rows = [[0.5 + gap / 2, 0.5 - gap / 2]] * (2**length - 1)
    p = TabularModel.from_probabilities(rows, length)
    return p, TabularModel.from_probabilities(np.flip(np.array(rows), axis=1), length)


def disjoint(vocab: int, length: int) -> Pair:
    """At every prefix the teacher writes token 0 and the student token 1: the token middle costs T·H(π), JS only H(π)."""
    going = TabularModel.from_logits(np.zeros((sum(vocab**t for t in range(length)), vocab)), length)
    teacher, student = (np.full(going.logits.shape, -np.inf) for _ in range(2))
    teacher[:, 0] = student[:, 1] = 0.0
    return going.with_logits(teacher), going.with_logits(student)


def merging_raises_squares() -> tuple[list[float], list[float]]:
    """Word-level p, q whose Σ (p - q)² grows when the last two tokens are merged: .06 before, .08 after."""
    return [0.6, 0.2, 0.2], [0.4, 0.3, 0.3]


def tail_shuffle() -> tuple[list[float], list[float]]:
    """p ≠ q with equal probabilities of token 0 and of the rest: coarsened to one token and a tail they look the same."""
    return [0.5, 0.4, 0.1], [0.5, 0.1, 0.4]
