"""Contenders take turns in one process, A B C A B C, so that what slows the machine down slows all of them."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from statistics import median

Times = dict[str, list[float]]


def take_turns(works: Mapping[str, Callable[[], object]], rounds: int, warmups: int = 1) -> Times:
    """Run every work once a round; return the seconds of each run, by name.

    Args:
        works: set up already; calling one does what is timed.
        rounds: how often each is timed.
        warmups: rounds before them that do not count.
    """
    seconds: Times = {name: [] for name in works}
    collecting = gc.isenabled()
    gc.disable()
    try:
        for turn in range(warmups + rounds):
            for name, work in works.items():
                gc.collect()
                start = time.perf_counter()
                work()
                elapsed = time.perf_counter() - start
                if turn >= warmups:
                    seconds[name].append(elapsed)
    finally:
        if collecting:
            gc.enable()
    return seconds


def ratio(times: Times, slow: str, fast: str) -> float:
    """Median over the rounds of how many times longer `slow` took than `fast` in the same round."""
    return median(s / f for s, f in zip(times[slow], times[fast], strict=True))


def typical(times: Times, name: str) -> float:
    """Median seconds."""
    return median(times[name])
