"""What a person sees while a run goes on, on stderr: bars with the time left, or plain lines without a terminal."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

SECONDS_BETWEEN_LINES = 15.0


class Display:
    """Progress of a run: one line for the whole of it, one for the step at work, both with the time left."""

    def __init__(self, console: Console | None = None):
        self.console = console or Console(stderr=True)
        self.weights: dict[str, float] = {}
        self.done: set[str] = set()
        self.measured: dict[str, float] = {}  # seconds of the steps that ran in this process
        self._bars: Progress | None = None
        self._whole: TaskID | None = None

    @contextmanager
    def running(self) -> Iterator["Display"]:
        """Show bars inside the block where stderr is a terminal."""
        if not self.console.is_terminal:
            yield self
            return
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"))
        with Progress(*columns, console=self.console, transient=True) as bars:
            self._bars = bars
            try:
                yield self
            finally:
                self._bars = self._whole = None

    def plan(self, weights: dict[str, float]) -> None:
        """Announce the steps to come, by weight."""
        self.weights = dict(weights)
        if self._bars is not None:
            self._whole = self._bars.add_task("[bold]whole run", total=1.0, state="")

    @contextmanager
    def step(self, name: str, label: str) -> Iterator[Callable[[int, int], None]]:
        """Show one step from its start to its end."""
        start, first = time.monotonic(), None
        number = f"[{len(self.done) + 1}/{max(len(self.weights), len(self.done) + 1)}] "
        task = self._bars.add_task(label, total=1.0, state="") if self._bars is not None else None
        if task is None and self.weights:
            self.note(f"{number}{label}")
        said = start

        def update(done: int, total: int) -> None:
            nonlocal first, said
            now, share = time.monotonic(), done / max(total, 1)
            if first is None:
                first = (now, share)  # a resumed step does not begin at 0
            gone, won = now - first[0], share - first[1]
            left = gone * (1 - share) / won if won > 0 else None
            self._show_whole(name, share, now - start)
            if task is not None and self._bars is not None:
                self._bars.update(task, completed=share, state=f"{done}/{total}{_left(left)}")
            elif now - said >= SECONDS_BETWEEN_LINES:
                said = now
                whole = self._whole_left(name, share, now - start)
                self.note(
                    f"    {label}: {done}/{total}{_left(left)}{'' if whole is None else f'; whole run {_clock(whole)} left'}"
                )

        try:
            yield update
        finally:
            if task is not None and self._bars is not None:
                self._bars.remove_task(task)
        seconds = time.monotonic() - start
        self.measured[name] = seconds
        self.done.add(name)
        self._show_whole(name, 1.0, seconds)
        if task is not None and seconds >= 2:
            self.note(f"{number}{label}: done in {_clock(seconds)}")
        elif task is None and self.weights:
            self.note(f"    done in {_clock(seconds)}")

    def forget(self, name: str) -> None:
        """Leave a step out of the count and of what the time left is reckoned from."""
        self.done.discard(name)
        self.measured.pop(name, None)

    def skip(self, name: str) -> None:
        """Count a step that was there already."""
        self.done.add(name)

    def note(self, text: str) -> None:
        """Print a line on stderr, above the bars."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _whole_left(self, name: str, share: float, seconds: float) -> float | None:
        """Seconds left of all steps, from the seconds that a unit of weight has taken so far in this process."""
        weight = self.weights.get(name, 0.0)
        spent = sum(self.measured.values()) + (seconds if name not in self.measured else 0.0)
        worked = sum(self.weights.get(step, 0.0) for step in self.measured)
        worked += share * weight if name not in self.measured else 0.0
        if worked <= 0 or spent < 1:
            return None
        to_do = sum(value for step, value in self.weights.items() if step not in self.done and step != name)
        return spent / worked * (to_do + (1 - share) * weight)

    def _show_whole(self, name: str, share: float, seconds: float) -> None:
        if self._bars is None or self._whole is None:
            return
        total = sum(self.weights.values()) or 1.0
        finished = sum(value for step, value in self.weights.items() if step in self.done and step != name)
        left = self._whole_left(name, share, seconds)
        part = (finished + share * self.weights.get(name, 0.0)) / total
        self._bars.update(self._whole, completed=part, state=f"{100 * part:.0f}%{_left(left)}")


class LogHandler(logging.Handler):
    """Writes log records as lines of the display, so that they do not tear the bars."""

    def __init__(self, display: Display):
        super().__init__()
        self.display = display

    def emit(self, record: logging.LogRecord) -> None:
        """Print the record."""
        prefix = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        self.display.note(prefix + record.getMessage())


@contextmanager
def shown(verbose: bool = False) -> Iterator[Display]:
    """Show progress and the library's log on stderr, and keep other libraries' chatter away unless `verbose`."""
    display = Display()
    handler = LogHandler(display)
    logger = logging.getLogger("fdistill")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO if verbose else logging.WARNING)
    if not verbose:
        _hush()
    try:
        with display.running():
            yield display
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def _hush() -> None:
    """Silence warnings and progress bars of the libraries underneath; what a person must know comes from this library."""
    import os
    import warnings

    warnings.simplefilter("ignore")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if "transformers" in sys.modules:
        from transformers.utils import logging as transformers_logging

        transformers_logging.set_verbosity_error()


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f", {_clock(seconds)} left"


def _clock(seconds: float) -> str:
    """Return seconds as people read them: 0:42, 12:05, 1:02:33."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
