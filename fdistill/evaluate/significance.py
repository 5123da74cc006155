"""Whether two models differ on the same test inputs: paired bootstrap and approximate randomisation, with Holm's correction.

Both work on per-input statistics, of whose sums the metric is a function (corpus BLEU is no mean of sentences' BLEU).
Several runs (seeds) of two models count as one comparison: an input is drawn, or swapped, in all runs at once, and the
score is the mean over runs. What the seeds themselves scatter is then not in the interval: read it beside their
standard deviation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

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


def paired_differences(
    rows: Mapping[str, Sequence[Array]], score: Score, *, resamples: int = 2000, seed: int = 0
) -> dict[tuple[str, str], Difference]:
    """Compare every two models on one metric, under the same resamples and swaps of test inputs.

    Args:
        rows: for each model, for each of its runs the statistics of the inputs, [N, K]; as many runs of all, the same
            inputs.
        score: from sums over inputs [R, K] to scores [R].
        resamples: of the interval, and of the test, whose least p is 1 / (1 + resamples).
        seed: of both.

    Returns:
        {(first, second): difference} in the order of `rows`.

    Source: Koehn (2004) for the bootstrap; Riezler and Maxwell (2005) for approximate randomisation.
    """
    stacked = {name: _stacked(runs) for name, runs in rows.items()}
    shapes = {found.shape for found in stacked.values()}
    if len(shapes) > 1:
        told = ", ".join(f"{name}: {found.shape[1]} inputs, {len(found)} runs" for name, found in stacked.items())
        raise DataError(f"a paired test needs the same inputs and runs of every model; here are {told}.")
    pairs = list(combinations(stacked, 2))
    totals = {name: found.sum(1)[:, None] for name, found in stacked.items()}  # [runs, 1, K]
    values = {(a, b): float(_gap(totals[a], totals[b], score)[0]) for a, b in pairs}
    drawn: dict[tuple[str, str], list[Array]] = {pair: [] for pair in pairs}
    extreme = dict.fromkeys(pairs, 0)
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, CHUNK):
        size, inputs = min(CHUNK, resamples - start), next(iter(shapes))[1]
        counts = _resampled(rng, size, inputs)
        swap = rng.integers(0, 2, size=(size, inputs)).astype(np.float64)  # [R, N]
        sums = {name: counts @ found for name, found in stacked.items()}  # [runs, R, K]
        part = {name: swap @ found for name, found in stacked.items()}
        for a, b in pairs:
            drawn[a, b].append(_gap(sums[a], sums[b], score))
            swapped = _gap(totals[a] - part[a] + part[b], totals[b] - part[b] + part[a], score)
            # swaps of what is equal give the same sums up to rounding
            slack = 1e-9 * max(1.0, abs(values[a, b]))
            extreme[a, b] += int((np.abs(swapped) >= abs(values[a, b]) - slack).sum())
    return {
        pair: _difference(values[pair], np.concatenate(drawn[pair]), (1 + extreme[pair]) / (1 + resamples))
        for pair in pairs
    }


def paired_difference(
    first: Sequence[Array], second: Sequence[Array], score: Score, *, resamples: int = 2000, seed: int = 0
) -> Difference:
    """Compare two models; see `paired_differences`."""
    rows = {"first": first, "second": second}
    return paired_differences(rows, score, resamples=resamples, seed=seed)["first", "second"]


def _difference(value: float, drawn: Array, p: float) -> Difference:
    low, high = np.quantile(drawn, [0.025, 0.975])
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
