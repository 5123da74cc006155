"""How a stage tells whoever watches where it stands; the pipeline itself never prints."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Update = Callable[[int, int], None]  # (units done, units in all)


class Display(Protocol):
    """Shows the steps of a run as they go; the command line's draws bars with the time left."""

    def plan(self, weights: dict[str, float]) -> None:
        """Announce the steps to come and roughly how long each takes beside the others."""

    def step(self, name: str, label: str) -> AbstractContextManager[Update]:
        """Open a step; the function it gives is called as the step advances."""

    def skip(self, name: str) -> None:
        """Tell that a planned step was done before."""

    def note(self, text: str) -> None:
        """Say something that is worth a line."""


class Silent:
    """A display that shows nothing, for Python callers and tests."""

    def plan(self, weights: dict[str, float]) -> None:
        """Ignore the plan."""

    @contextmanager
    def step(self, name: str, label: str) -> Iterator[Update]:
        """Give a function that ignores what it is told."""
        yield lambda done, total: None

    def skip(self, name: str) -> None:
        """Ignore it."""

    def note(self, text: str) -> None:
        """Ignore it."""
