"""Whole training runs that take turns, one optimizer step each: every run is a greenlet, so that all share one thread's cores.

Threads would do, but every thread keeps OpenMP workers of its own, and more workers than cores make each of many small parallel
regions slower than it is in a run of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from greenlet import getcurrent, greenlet
from transformers import TrainerCallback

from benchmarks.timing import Times


class Turn(TrainerCallback):
    """One run's place in the round. A run that is no Trainer's calls `begin` and `step_done` itself."""

    def __init__(self, warmups: int) -> None:
        self.seconds: list[float] = []
        self._left, self._start = warmups, 0.0

    def begin(self) -> None:
        """Everything is set up: let the others set up too, and go on when it is this run's turn."""
        self._pass_on()

    def step_done(self) -> None:
        """Note how long the step took, and let each other run take one."""
        elapsed = time.perf_counter() - self._start
        if self._left > 0:
            self._left -= 1
        else:
            self.seconds.append(elapsed)
        self._pass_on()

    def _pass_on(self) -> None:
        round_of_runs = getcurrent().parent
        if round_of_runs is not None:  # None: a run that is alone
            round_of_runs.switch()
        self._start = time.perf_counter()

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self.begin()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.step_done()


def train_in_turns(runs: Mapping[str, Callable[[Turn, int], None]], steps: int, warmups: int = 2) -> Times:
    """Let every run train `warmups + steps` optimizer steps, in turns; return the seconds of each step but the first ones.

    Args:
        runs: called with a `Turn`, to be used as a callback of its Trainer, and the number of steps. What one of them
            raises is raised here.
    """
    turns = {name: Turn(warmups) for name in runs}
    alive = [greenlet(run) for run in runs.values()]
    arguments = [(turn, warmups + steps) for turn in turns.values()]
    for run, given in zip(alive, arguments, strict=True):
        run.switch(*given)  # until it is set up
    while alive:
        for run in alive:
            run.switch()
        alive = [run for run in alive if not run.dead]
    return {name: turn.seconds for name, turn in turns.items()}
