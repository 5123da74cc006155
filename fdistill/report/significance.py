"""Who differs from whom on a metric, beyond chance: a table of all pairs of a run's rows, or of several seeds of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fdistill.errors import DataError, FDistillError, closest
from fdistill.evaluate import LOWER_IS_BETTER, from_sums, statistics_of
from fdistill.evaluate.significance import Difference, holm, paired_differences
from fdistill.report.folder import Run
from fdistill.report.tables import LABELS, Cell, Column, Table

LEVEL = 0.05
LOWER = {*LOWER_IS_BETTER, "r_llh", "r_cvg", "r_llh_token", "r_cvg_token", "kl", "rkl", "js", "tvd"}
MAIN = ("bleu", "r_cvg", "kl", "js")  # what is compared unless something else is asked for


def significance_tables(
    runs: Sequence[Run], metrics: Sequence[str] = (), *, resamples: int = 2000, seed: int = 0
) -> list[Table]:
    """Return for each metric the table of differences between rows, over one run or over several seeds of one experiment.

    Args:
        runs: of one recipe, tested on the same inputs.
        metrics: names of metrics.json that are functions of per-input scores (all but distinct-n and TeacherDist);
            none: those of `MAIN` that the runs have.
        resamples, seed: of the bootstrap and of the permutations.

    Raises:
        FDistillError: a metric that no two rows have scores of, or runs without scores.
    """
    scored = [_Scored(run, read_scores(run.folder)) for run in runs]
    names = list(metrics) or [name for name in MAIN if len(_rows(scored, name)) > 1]
    return [_table(scored, name, resamples, seed) for name in names]


@dataclass(frozen=True)
class _Scored:
    """A run with {row: {name: statistics [N, K]}}."""

    run: Run
    scores: Mapping[str, Mapping[str, Any]]


def report_tables(runs: Sequence[Run]) -> list[Table]:
    """Return the tables that belong to a report; none where runs kept no scores, or not of equally many test inputs."""
    if any(not list((run.folder / "scores").glob("*.npz")) for run in runs):
        return []
    try:
        return significance_tables(runs)
    except DataError:
        return []


def _table(runs: Sequence[_Scored], metric: str, resamples: int, seed: int) -> Table:
    rows = _rows(runs, metric)
    if len(rows) < 2:
        known = sorted(_metrics(runs))
        raise FDistillError(
            f"no two rows have per-input scores of {metric!r}.{closest(metric, known)} There are: {', '.join(known)}."
        )
    name = statistics_of(metric)
    statistics = {row: [run.scores[row][name] for run in runs] for row in rows}
    score = partial(from_sums, metric, inputs=len(statistics[rows[0]][0]))
    found = paired_differences(statistics, score, resamples=resamples, seed=seed)
    pairs = list(found)
    adjusted = dict(zip(pairs, holm([found[pair].p for pair in pairs]), strict=True))
    digits = 3 if metric in LOWER - {"ter"} else 2
    columns = [Column(row, row, digits, better=None) for row in rows]
    body = [(row, [_cell(row, other, found, adjusted, digits, metric in LOWER) for other in rows]) for row in rows]
    better = "Less" if metric in LOWER else "More"
    seeds = f", means over {len(runs)} runs" if len(runs) > 1 else ""
    caption = (
        f"The row's {LABELS.get(metric, metric)} less the column's{seeds}, ± its 95% interval under paired resampling of "
        f"test inputs. {better} is better. Bold: the row is better than the column, underlined: worse, at {LEVEL:g} by "
        f"approximate randomisation ({resamples} permutations), p-values corrected for all {len(pairs)} pairs (Holm)."
    )
    notes = [
        f"{a} and {b}: not distinguishable (p = {adjusted[a, b]:.3f})" for a, b in pairs if adjusted[a, b] >= LEVEL
    ]
    return Table(f"Differences: {LABELS.get(metric, metric)}", columns, body, caption, notes)


def _cell(
    row: str,
    other: str,
    found: dict[tuple[str, str], Difference],
    adjusted: dict[tuple[str, str], float],
    digits: int,
    lower: bool,
) -> Cell:
    """The difference row - other; ranks carry the verdict: 1 better, 2 worse."""
    if row == other:
        return Cell(None, digits=digits)
    sign = 1 if (row, other) in found else -1
    pair = (row, other) if sign == 1 else (other, row)
    gap = found[pair]
    low, high = (gap.low, gap.high) if sign == 1 else (-gap.high, -gap.low)
    value = sign * gap.value
    rank = 0
    if adjusted[pair] < LEVEL:
        rank = 1 if (value < 0) == lower else 2
    return Cell(value, low, high, digits, rank)


def _rows(runs: Sequence[_Scored], metric: str) -> list[str]:
    """Rows with scores of a metric in every run, in the run's order."""
    name = statistics_of(metric)
    return [row for row in runs[0].run.metrics if all(name in run.scores.get(row, {}) for run in runs)]


def _metrics(runs: Sequence[_Scored]) -> set[str]:
    """Names of metrics that can be asked for."""
    held = {name for run in runs for row in run.scores.values() for name in row}
    return {name for run in runs for row in run.run.metrics.values() for name in row if statistics_of(name) in held}


def read_scores(folder: Path) -> dict[str, dict[str, Any]]:
    """{row: {name: statistics [N, K]}} of a run."""
    files = sorted((folder / "scores").glob("*.npz"))
    if not files:
        raise FDistillError(
            f"{folder} holds no per-input scores: it was evaluated by an older version. Delete "
            f"{folder / 'checkpoints' / 'evaluate'} and run `fdistill evaluate` again; models stay."
        )
    found = {}
    for file in files:
        with np.load(file, allow_pickle=False) as arrays:
            found[file.stem] = {name: arrays[name] for name in arrays.files}
    return found
