"""What to choose for which purpose, and why, as far as the runs can tell the students apart."""

from collections.abc import Sequence
from dataclasses import dataclass

from fdistill.report.evidence import ties
from fdistill.report.tables import LABELS, Metrics


@dataclass(frozen=True)
class Purpose:
    """What somebody may want of a student, the metric that measures it, and why that one."""

    text: str
    metric: str
    lower: bool
    why: str


PURPOSES = (
    Purpose(
        "One good output an input, by beam search", "bleu", False, "How far decoded outputs agree with the references."
    ),
    Purpose(
        "Everything that the teacher may write, by sampling",
        "kl",
        True,
        "What the teacher's own samples cost under the student; whatever it cannot write costs most.",
    ),
    Purpose(
        "Nothing that the teacher would not write, by sampling",
        "rkl",
        True,
        "What the student writes, weighed by the teacher; variety that it lost hardly counts.",
    ),
    Purpose("Hard to tell from the teacher", "js", True, "A reader who sees one sentence guesses worst who wrote it."),
    Purpose("Close to the truth behind the data", "truth_kl", True, "Measured on sentences of the grammar itself."),
)


@dataclass(frozen=True)
class Advice:
    """The best student for a purpose, and those that nobody can tell from it."""

    purpose: Purpose
    best: str
    value: float
    ties: tuple[str, ...]
    students: int

    @property
    def choice(self) -> str:
        """Return whom to choose."""
        if len(self.ties) + 1 == self.students:
            return "none stands out"
        return self.best if not self.ties else f"{self.best}, or as good at this size: {', '.join(self.ties)}"

    @property
    def why(self) -> str:
        """Return the number behind the choice."""
        return f"{LABELS[self.purpose.metric]}: {self.best} {self.value:.3g}. {self.purpose.why}"

    @property
    def text(self) -> str:
        """Return purpose, choice and reason in one line."""
        return f"{self.purpose.text}: {self.choice} ({self.why})"


def advise(metrics: Metrics, runs: Sequence[Metrics] = ()) -> list[Advice]:
    """Return what to choose for what.

    Args:
        metrics: of one run, or means over several.
        runs: those several; a student is told from the best only where it can be in every one.
    """
    students = [name for name in metrics if name != "teacher"]
    found = []
    for purpose in PURPOSES:
        values = {n: metrics[n][purpose.metric]["value"] for n in students if purpose.metric in metrics[n]}
        if len(values) < 2:
            continue
        best = (min if purpose.lower else max)(values, key=lambda name: values[name])
        close = ties(runs or [metrics], purpose.metric, best, values)
        found.append(Advice(purpose, best, values[best], tuple(close), len(values)))
    return found
