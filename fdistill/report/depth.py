"""The paper's Figure 2: quality against the student's depth, one line an objective, from runs that differ in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fdistill.errors import FDistillError, closest
from fdistill.report.compare import Group
from fdistill.report.panels import Look
from fdistill.report.tables import LABELS, Cell, Column, Table

LOWER = {"ter", "r_llh", "r_cvg", "r_llh_token", "r_cvg_token", "kl", "rkl", "js", "tvd", "truth_kl"}
DIGITS = {"kl": 3, "rkl": 3, "js": 4, "tvd": 4, "truth_kl": 3}


def depth_of(group: Group) -> str:
    """Return a group's student depth: "3+1" for encoder and decoder layers, "4" for a decoder alone."""
    layers = group.settings.get("student.encoder_layers"), group.settings.get("student.decoder_layers")
    known = [count for count in layers if count is not None]
    if not known:
        raise FDistillError(
            f"{group.runs[0].folder}: its student was not made of the teacher's layers (student.decoder_layers), so it has "
            "no depth to compare."
        )
    return "+".join(known)


def depth_table(groups: Sequence[Group], metric: str) -> Table:
    """Return one metric by objective (rows) and student depth (columns), shallow students first.

    Args:
        groups: of `group_runs`, of different depths; several seeds of one depth are averaged.
        metric: a name of metrics.json.

    Raises:
        FDistillError: fewer than two depths, one depth twice, or a metric that is not there.
    """
    ordered = sorted(groups, key=lambda group: [int(part) for part in depth_of(group).split("+")])
    depths = [depth_of(group) for group in ordered]
    if len(depths) < 2 or len(set(depths)) < len(depths):
        raise FDistillError(
            f"the runs have students of {', '.join(depths)} layers; two or more depths are needed, each once (or in several "
            "seeds that differ in nothing else)."
        )
    rows = [row for row in ordered[0].metrics if any(metric in group.metrics.get(row, {}) for group in ordered)]
    if not rows:
        known = sorted({key for group in ordered for row in group.metrics.values() for key in row})
        raise FDistillError(f"no row has the metric {metric!r}.{closest(metric, known)}")
    digits = DIGITS.get(metric, 2)
    columns = [Column(depth, depth, digits, better=None) for depth in depths]
    body = [(row, [_cell(group, row, metric, digits) for group in ordered]) for row in rows]
    better = "Less" if metric in LOWER else "More"
    seeds = max(len(group.runs) for group in ordered)
    margin = f"the standard deviation over {seeds} runs" if seeds > 1 else "the 95% bootstrap interval over test inputs"
    caption = f"{LABELS.get(metric, metric)} by layers of the student. {better} is better. ± is {margin}."
    return Table("Depth of the student (Figure 2)", columns, body, caption)


def draw_depth(table: Table, path: Path) -> None:
    """Draw a depth table as lines with their intervals, one an objective; the teacher is a level, for it has one depth."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    look = Look([row for row, _ in table.rows])
    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.25)
    for row, cells in table.rows:
        points = [(place, cell) for place, cell in enumerate(cells) if cell.value is not None]
        _line(axis, row, points, look)
    axis.set_xticks(range(len(table.columns)), [column.label for column in table.columns])
    axis.set_xlabel("layers of the student")
    axis.set_ylabel(table.caption.split(" by layers")[0])
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150, facecolor="white", metadata={"Software": None})


def _line(axis: Any, row: str, points: Sequence[tuple[int, Cell]], look: Look) -> None:
    places = [place for place, _ in points]
    values = [cell.value for _, cell in points]
    below = [cell.value - cell.low for _, cell in points]  # type: ignore[operator]
    above = [cell.high - cell.value for _, cell in points]  # type: ignore[operator]
    style = ":" if row == "teacher" else "-"
    colour, marker = look.colour(row), look.marker(row)
    axis.errorbar(places, values, [below, above], label=row, color=colour, marker=marker, linestyle=style, capsize=2)


def _cell(group: Group, row: str, metric: str, digits: int) -> Cell:
    estimate = group.metrics.get(row, {}).get(metric)
    if estimate is None:
        return Cell(None, digits=digits)
    return Cell(estimate["value"], estimate["low"], estimate["high"], digits)
