"""Students that cannot fit their teacher, the best of them under each divergence, and plain gradient descent.

A family turns a few parameters into a model. What it cannot express decides what each divergence gives up first: mode averaging
and mode collapse (Wen et al., 2023, Figure 1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize

from .models import TabularModel
from .sequence import sequence_divergence
from .stepwise import gradient
from .tree import Array, prefix_tree

Family = Callable[[Array], TabularModel]


class Fit(NamedTuple):
    """The best student found, its parameters and its value."""

    model: TabularModel
    parameters: Array
    value: float


def forgetful(length: int, eos: int | None = None) -> Family:
    """Students without memory: one row of logits behind every prefix; the last token's logit is 0, the others are parameters."""

    def family(parameters: Array) -> TabularModel:
        row = np.append(np.asarray(parameters, float), 0.0)
        return TabularModel(np.tile(row, (prefix_tree(len(row), length, eos).size, 1)), length, eos)

    return family


def bells(vocab: int, narrowest: float = 0.5) -> Family:
    """Students that write one token out of `vocab` places on a line, with the curve of a bell: its centre and log width."""

    def family(parameters: Array) -> TabularModel:
        centre, log_width = parameters
        width = max(np.exp(log_width), narrowest)
        return TabularModel([-((np.arange(vocab) - centre) ** 2) / (2 * width**2)], length=1)

    return family


def best_student(name: str, p: TabularModel, family: Family, starts: Sequence[Array], **options: Any) -> Fit:
    """The member of a family that is least far from p, of the whole sequence's divergence `name`, or seqkd or engine.

    Nelder and Mead's search from every start; the best end counts. There may be several valleys: give a start in each.
    """

    def value(parameters: Array) -> float:
        return sequence_divergence(name, p, family(parameters), **options)

    searches = [
        minimize(value, start, method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-11}) for start in starts
    ]
    found = min(searches, key=lambda search: search.fun)
    return Fit(family(found.x), found.x, float(found.fun))


def descend(
    name: str,
    p: TabularModel,
    q: TabularModel,
    rate: float,
    steps: int,
    *,
    mode: str = "stepwise",
    tied: bool = False,
    **options: Any,
) -> list[TabularModel]:
    """The student before and after each step of gradient descent without noise, `steps` + 1 models.

    Args:
        rate: the step size, in logits.
        tied: all prefixes share one row of logits, which moves by the sum of its gradients; q must be such a student.
    """
    path = [q]
    for _ in range(steps):
        slope = gradient(name, p, path[-1], mode, **options)
        path.append(path[-1].with_logits(path[-1].logits - rate * (slope.sum(0) if tied else slope)))
    return path
