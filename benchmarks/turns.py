"""Whole training runs that take turns, one optimizer step each: every run trains in a thread, and one baton goes round."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from transformers import TrainerCallback

from benchmarks.timing import Times

PATIENCE = 600.0  # seconds until a run that never gets the baton gives up


class Stopped(RuntimeError):
    """Another run has failed, and this one will not be asked again."""


class Turn(TrainerCallback):
    """One run's place in the round. A run that is no Trainer's calls `begin` and `step_done` itself."""

    def __init__(self, warmups: int) -> None:
        self.seconds: list[float] = []
        self.ready, self.mine = threading.Event(), threading.Event()
        self.after: Turn = self
        self.failed = False
        self._left, self._start = warmups, 0.0

    def begin(self) -> None:
        """Everything is set up: wait for the first turn."""
        self.ready.set()
        self._wait()

    def step_done(self) -> None:
        """Note how long the step took, and wait while each other run takes one."""
        elapsed = time.perf_counter() - self._start
        if self._left > 0:
            self._left -= 1
        else:
            self.seconds.append(elapsed)
        if self.after is not self:
            self.after.mine.set()
            self._wait()
        self._start = time.perf_counter()

    def _wait(self) -> None:
        if not self.mine.wait(PATIENCE) or self.failed:
            raise Stopped
        self.mine.clear()
        self._start = time.perf_counter()

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self.begin()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.step_done()


def train_in_turns(runs: Mapping[str, Callable[[Turn, int], None]], steps: int, warmups: int = 2) -> Times:
    """Let every run train `warmups + steps` optimizer steps, in turns; return the seconds of each step but the first ones.

    Args:
        runs: called with a `Turn`, to be used as a callback of its Trainer, and the number of steps.
    """
    turns = {name: Turn(warmups) for name in runs}
    errors: list[BaseException] = []
    threads = []
    for name, run in runs.items():
        thread = threading.Thread(target=_guarded, args=(run, turns, name, warmups + steps, errors), daemon=True)
        thread.start()
        turns[name].ready.wait(PATIENCE)
        threads.append(thread)
    order = list(turns.values())
    for turn, after in zip(order, order[1:] + order[:1], strict=True):
        turn.after = after
    order[0].mine.set()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return {name: turn.seconds for name, turn in turns.items()}


def _guarded(
    run: Callable[[Turn, int], None], turns: dict[str, Turn], name: str, steps: int, errors: list[BaseException]
) -> None:
    """Run; on an error let nobody wait forever, and once all steps are done hand the baton on for good."""
    try:
        run(turns[name], steps)
    except Stopped:
        pass
    except BaseException as error:
        errors.append(error)
        for turn in turns.values():
            turn.failed = True
            turn.mine.set()
    finally:
        turns[name].ready.set()
        turns[name].after.mine.set()
