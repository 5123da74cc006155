"""Whether two models differ on the same test inputs: paired bootstrap and approximate randomisation, with Holm's correction.

Both work on per-input statistics, of whose sums the metric is a function (corpus BLEU is no mean of sentences' BLEU).
Several runs (seeds) of two models count as one comparison: an input is drawn, or swapped, in all runs at once, and the
score is the mean over runs. What the seeds themselves scatter is then not in the interval: read it beside their
standard deviation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fdistill.errors import DataError

Array = np.ndarray
Score = Callable[[Array], Array]  # sums of statistics [R, K] -> [R]
CHUNK = 500  # resamples at a time: bounds memory


@dataclass(frozen=True)
class Difference:
    """Score of the first model less that of the second.

    Attributes:
        value: the difference on the test inputs.
        low, high: its 95% interval under resampling of inputs.
        p: of "no difference", two-sided, by approximate randomisation.
    """

    value: float
    low: float
    high: float
    p: float


def paired_difference(
    first: Sequence[Array], second: Sequence[Array], score: Score, *, resamples: int = 2000, seed: int = 0
) -> Difference:
    """Compare two models on one metric.

    Args:
        first, second: for each of the runs the statistics of the inputs, [N, K]; as many runs of both, the same inputs.
        score: from sums over inputs [R, K] to scores [R].
        resamples: of the interval, and of the test, whose least p is 1 / (1 + resamples).
        seed: of both.

    Source: Koehn (2004) for the bootstrap; Riezler and Maxwell (2005) for approximate randomisation.
    """
    a, b = _stacked(first), _stacked(second)
    if a.shape != b.shape:
        raise DataError(
            f"the two models were scored on {a.shape[1]} and {b.shape[1]} inputs in {len(a)} and {len(b)} runs; a paired "
            "test needs the same ones."
        )
    rng = np.random.default_rng(seed)
    value = float(_gap(a.sum(1)[:, None], b.sum(1)[:, None], score)[0])
    drawn, swapped = [], []
    for start in range(0, resamples, CHUNK):
        size = min(CHUNK, resamples - start)
        counts = _resampled(rng, size, a.shape[1])
        drawn.append(_gap(counts @ a, counts @ b, score))
        swap = rng.integers(0, 2, size=(size, a.shape[1])).astype(np.float64)  # [R, N]
        moved = swap @ (b - a)  # [runs, R, K]
        swapped.append(_gap(a.sum(1)[:, None] + moved, b.sum(1)[:, None] - moved, score))
    low, high = np.quantile(np.concatenate(drawn), [0.025, 0.975])
    # swaps of what is equal give the same sums up to rounding
    extreme = np.abs(np.concatenate(swapped)) >= abs(value) - 1e-9 * max(1.0, abs(value))
    p = (1 + int(extreme.sum())) / (1 + resamples)
    return Difference(value, min(value, float(low)), max(value, float(high)), p)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for being read together (Holm, 1979): below 0.05 at most once in 20 such tables by chance."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, largest = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def _stacked(runs: Sequence[Array]) -> Array:
    """Statistics of all runs, [runs, N, K]."""
    if not runs or any(np.shape(run) != np.shape(runs[0]) for run in runs):
        shapes = ", ".join(str(np.shape(run)) for run in runs)
        raise DataError(f"runs that are compared together need the same test inputs; here are {shapes or 'none'}.")
    return np.stack([np.asarray(run, dtype=np.float64) for run in runs])


def _resampled(rng: np.random.Generator, size: int, inputs: int) -> Array:
    """How often each input is drawn in each resample, [R, N]."""
    draws = rng.integers(inputs, size=(size, inputs)) + np.arange(size)[:, None] * inputs
    return np.bincount(draws.ravel(), minlength=size * inputs).reshape(size, inputs).astype(np.float64)


def _gap(first: Array, second: Array, score: Score) -> Array:
    """Mean over runs of the difference of scores, [R], from sums [runs, R, K]."""
    return np.mean([score(a) - score(b) for a, b in zip(first, second, strict=True)], axis=0)
