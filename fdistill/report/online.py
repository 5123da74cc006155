"""The paper's Table 4: what it costs, in time and in quality, to let the teacher write anew in every step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fdistill.report.folder import Run
from fdistill.report.tables import LABELS, Cell, Column, Table

QUALITY = ("bleu", "chrf", "kl", "js")
DIGITS = {"kl": 3, "js": 4}


def online_tables(run: Run) -> list[Table]:
    """Return the table of a run's objectives that were trained both online and offline; none where none was.

    A recipe asks for it with entries such as `[js, {name: js-online, objective: js, online: true}]`.
    """
    pairs = online_pairs(run.objectives)
    pairs = {online: offline for online, offline in pairs.items() if online in run.metrics and offline in run.metrics}
    if not pairs:
        return []
    shown = [key for key in QUALITY if all(key in run.metrics[row] for pair in pairs.items() for row in pair)]
    columns = [Column(key, LABELS.get(key, key), DIGITS.get(key, 2), better=None) for key in shown]
    columns += [Column("seconds", "training seconds", 1, better=None), Column("speed", "speed", 2, better=None)]
    rows = []
    for online, offline in pairs.items():
        base = _seconds(run, online)
        for row in (online, offline):
            seconds = _seconds(run, row)
            cells = [_cell(run.metrics[row][column.key], column.digits) for column in columns[:-2]]
            speed = base / seconds if base and seconds else None
            rows.append(
                (row, [*cells, Cell(seconds, seconds or 0, seconds or 0, 1), Cell(speed, speed or 0, speed or 0)])
            )
    return [Table("Online and offline sampling (Table 4)", columns, rows, _caption(run), _notes(run, pairs))]


def online_pairs(objectives: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return {online row: the row that differs in nothing but reading stored samples}."""

    def kind(entry: Mapping[str, Any]) -> list[tuple[str, str]]:
        return sorted((key, str(value)) for key, value in entry.items() if key not in ("name", "online"))

    full = {name: {"objective": name, **entry} for name, entry in objectives.items()}
    pairs = {}
    for name, entry in full.items():
        if entry.get("online"):
            twin = next((n for n, e in full.items() if not e.get("online") and kind(e) == kind(entry)), None)
            if twin is not None:
                pairs[name] = twin
    return pairs


def _seconds(run: Run, row: str) -> float | None:
    return run.timing.get(f"students/{row}", {}).get("seconds")


def _cell(estimate: Mapping[str, float], digits: int) -> Cell:
    return Cell(estimate["value"], estimate["low"], estimate["high"], digits)


def _caption(run: Run) -> str:
    store = run.timing.get("store", {}).get("seconds")
    once = f" Sampling offline took {store:.1f} s, once for all of them." if store else ""
    return (
        "Speed is that of training against its online twin, whose teacher writes anew in every step; offline it reads what "
        f"the teacher wrote before.{once} ± is the 95% bootstrap interval over test inputs."
    )


def _notes(run: Run, pairs: Mapping[str, str]) -> list[str]:
    """Rows whose time is not that of one undisturbed training."""
    rows = [row for pair in pairs.items() for row in pair]
    again = [row for row in rows if run.timing.get(f"students/{row}", {}).get("attempts", 1) > 1]
    return [f"{', '.join(again)}: resumed, so that the time includes loading again."] if again else []
