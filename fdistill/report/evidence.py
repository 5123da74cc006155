"""Whether two models can be told apart on a metric: in one run by its intervals, over several runs in every one of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fdistill.evaluate.bootstrap import differ

if TYPE_CHECKING:
    from fdistill.report.tables import Metrics

TOO_CLOSE = "not distinguishable at this size"


@dataclass(frozen=True)
class Evidence:
    """How `a` and `b` compare on a metric: of `runs` runs, those in which a is clearly below b, and clearly above it."""

    runs: int
    below: int
    above: int

    @property
    def apart(self) -> bool:
        """Whether the intervals do not touch in any run, on the same side in all: anything less decides nothing."""
        return self.runs > 0 and self.runs in (self.below, self.above)

    @property
    def count(self) -> str:
        """Return in how many runs they were apart, in words; nothing for a single run."""
        if self.runs < 2:
            return ""
        if self.apart:
            return "in both runs" if self.runs == 2 else f"in all {self.runs} runs"
        if self.below and self.above:
            return f"one way in {self.below} of {self.runs} runs, the other in {self.above}"
        return f"apart in {self.below + self.above or 'none'} of {self.runs} runs"


def compare(runs: "Sequence[Metrics]", metric: str, a: str, b: str) -> Evidence:
    """Compare two rows on a metric over the runs that have both."""
    pairs = [(run[a][metric], run[b][metric]) for run in runs if metric in run.get(a, {}) and metric in run.get(b, {})]
    clear = [(x, y) for x, y in pairs if differ(x, y)]
    below = sum(x["value"] < y["value"] for x, y in clear)
    return Evidence(len(pairs), below, len(clear) - below)


def ties(runs: "Sequence[Metrics]", metric: str, best: str, names: Iterable[str]) -> list[str]:
    """Return which of `names` cannot be told from `best`."""
    return [name for name in names if name != best and not compare(runs, metric, best, name).apart]
