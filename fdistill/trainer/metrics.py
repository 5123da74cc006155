"""Means of training metrics between two log lines, exact over accumulation steps and ranks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Pair = tuple[Tensor | float, Tensor | float]


class MetricMeans:
    """Sums of (value, count) by name; a log line shows the sum of values over that of counts, over all ranks."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._started = time.perf_counter()

    def add(self, pairs: Mapping[str, Pair], device: torch.device) -> None:
        """Add one micro-batch's values and counts; they stay on the device, where adding waits for nothing."""
        for name, pair in pairs.items():
            row = torch.stack([torch.as_tensor(x, device=device).detach().float() for x in pair])  # [2]
            self._sums[name] = self._sums[name] + row if name in self._sums else row

    def pop(self, gather: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Return the means since the last call, with tokens per second, and start again.

        Args:
            gather: stacks every rank's [n, 2] to [ranks · n, 2]; all ranks call it.
        """
        if not self._sums:
            return {}
        names = sorted(self._sums)
        sums = gather(torch.stack([self._sums[name] for name in names])).view(-1, len(names), 2).sum(0).tolist()
        means = {name: value / count for name, (value, count) in zip(names, sums, strict=True) if count}
        tokens = sum(value for name, (value, _) in zip(names, sums, strict=True) if name.startswith("length/"))
        means["tokens_per_second"] = tokens / max(time.perf_counter() - self._started, 1e-9)
        self._sums.clear()
        self._started = time.perf_counter()
        return means

    def restart_clock(self) -> None:
        """Leave what went before (an evaluation) out of tokens per second."""
        self._started = time.perf_counter()
