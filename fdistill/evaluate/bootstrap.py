"""Confidence intervals by resampling test inputs: metrics are functions of sums, so a resample is a matrix product."""

from collections.abc import Callable, Mapping
from typing import TypedDict

import numpy as np

Array = np.ndarray


class Estimate(TypedDict):
    """A number and its 95% interval."""

    value: float
    low: float
    high: float


class Bootstrap:
    """How often each of `inputs` test inputs occurs in each of `samples` resamples, drawn once and shared by every metric.

    Because all rows of a run share the counts, intervals of two rows are comparable and their differences are paired.

    Args:
        inputs: number of test inputs N.
        samples: number of resamples B; 0 gives intervals of width zero.
        seed: of the resampling alone.
        confidence: mass inside an interval.
    """

    def __init__(self, inputs: int, samples: int = 1000, seed: int = 0, confidence: float = 0.95):
        if inputs < 1:
            raise ValueError(f"a bootstrap needs at least one test input, got {inputs}")
        self.inputs, self.samples, self.confidence = inputs, samples, confidence
        rng = np.random.default_rng(seed)
        draws = rng.integers(inputs, size=(samples, inputs))  # [B, N]
        flat = draws + np.arange(samples)[:, None] * inputs
        counts = np.bincount(flat.ravel(), minlength=samples * inputs).reshape(samples, inputs)
        self.counts = counts.astype(np.float64)  # [B, N]

    def sums(self, statistics: Array) -> Array:
        """Return the sums of per-input statistics [N, K] in the data (row 0) and in every resample: [1 + B, K]."""
        statistics = np.asarray(statistics, dtype=np.float64)
        if statistics.ndim == 1:
            statistics = statistics[:, None]
        total = statistics.sum(0, keepdims=True)
        resampled = self.counts @ statistics if self.samples else np.empty((0, statistics.shape[1]))
        return np.concatenate([total, resampled])

    def function(self, statistics: Array, score: Callable[[Array], Array]) -> Estimate:
        """Return `score` of the summed statistics, a vectorised function [R, K] -> [R], with its percentile interval."""
        return self.percentiles(score(self.sums(statistics)))

    def mean(self, values: Array) -> Estimate:
        """Return the mean over inputs of per-input `values` [N]."""
        return self.function(values, lambda sums: sums[:, 0] / self.inputs)

    def ratio(self, numerators: Array, denominators: Array, scale: float = 1.0) -> Estimate:
        """Return scale * Σ numerators / Σ denominators over inputs, both [N]; 0 where the denominator vanishes."""
        both = np.stack([np.asarray(numerators, float), np.asarray(denominators, float)], axis=1)
        return self.function(
            both, lambda s: scale * np.divide(s[:, 0], s[:, 1], out=np.zeros(len(s)), where=s[:, 1] > 0)
        )

    def percentiles(self, values: Array) -> Estimate:
        """Return values[0] with the percentile interval of values[1:] (always wide enough to hold the value)."""
        value = float(values[0])
        if len(values) < 2 or not np.isfinite(values).all():
            return Estimate(value=value, low=value, high=value)
        tail = (1 - self.confidence) / 2
        low, high = np.quantile(values[1:], [tail, 1 - tail])
        return Estimate(value=value, low=min(value, float(low)), high=max(value, float(high)))

    def normal(self, values: Array) -> Estimate:
        """Return values[0] ± 1.96 standard deviations of values[1:].

        For metrics that count distinct things: a resample repeats inputs, so its own value is biased downwards while
        its spread is not.
        """
        value = float(values[0])
        half = 1.959964 * float(np.std(values[1:])) if len(values) > 2 else 0.0
        return Estimate(value=value, low=value - half, high=value + half)

    def curves(self, values: Array) -> dict[str, list[float]]:
        """Return the mean over inputs of curves [N, T] with point-wise intervals: {"value", "low", "high"}, each T long."""
        means = self.sums(values) / self.inputs  # [1 + B, T]
        tail = (1 - self.confidence) / 2
        low, high = np.quantile(means[1:], [tail, 1 - tail], axis=0) if self.samples else (means[0], means[0])
        return {
            "value": means[0].tolist(),
            "low": np.minimum(low, means[0]).tolist(),
            "high": np.maximum(high, means[0]).tolist(),
        }


def differ(a: Mapping[str, float], b: Mapping[str, float]) -> bool:
    """Return whether two estimates' intervals do not touch: a conservative test, meant for claims that are read aloud."""
    return a["high"] < b["low"] or b["high"] < a["low"]
