"""Tables on stdout: as wide as a terminal is, and never cut where there is none."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

if TYPE_CHECKING:
    from fdistill.report.tables import Cell, Table

UNBOUNDED = 10_000  # columns of a stdout that is no terminal


def stdout() -> Console:
    """Return a console on stdout; without a terminal it has no colours and no width limit."""
    console = Console(file=sys.stdout)
    return console if console.is_terminal else Console(file=sys.stdout, width=UNBOUNDED, no_color=True)


def result_table(table: "Table") -> None:
    """Print a table of results: best in bold, second underlined, intervals dim."""
    console = stdout()
    drawn = RichTable(show_edge=False, pad_edge=False, header_style="", box=_box())
    drawn.add_column("")
    for column in table.columns:
        drawn.add_column(column.label, justify="right")
    for name, cells in table.rows:
        drawn.add_row(name, *(_cell(cell, console.is_terminal) for cell in cells))
    console.print(Text(table.title, style="bold"))
    console.print(drawn)
    for line in [table.caption, *table.notes]:
        if line:
            console.print(Text(line, style="dim"), soft_wrap=not console.is_terminal)
    console.print()


def plain_table(headings: Sequence[str], rows: Iterable[Sequence[Any]], numeric: Iterable[int] = ()) -> None:
    """Print rows under headings; columns in `numeric` align to the right."""
    console, right = stdout(), set(numeric)
    drawn = RichTable(show_edge=False, pad_edge=False, header_style="bold", box=_box())
    for index, heading in enumerate(headings):
        drawn.add_column(heading, justify="right" if index in right else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text("" if value is None else str(value)) for value in row))
    console.print(drawn)


def line(text: str = "") -> None:
    """Print a line of results, as long as it is."""
    print(text)


def as_json(value: Any) -> None:
    """Print a value as JSON."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def _cell(cell: "Cell", styled: bool) -> Text:
    style = {1: "bold", 2: "underline"}.get(cell.rank, "")
    text = Text(cell.text, style=style)
    if not styled and cell.rank:  # what bold and underline say where there are none
        text.append({1: "*", 2: "'"}[cell.rank])
    if cell.margin:
        text.append(f" {cell.margin}", style="dim")
    return text


def _box() -> Any:
    from rich import box

    return box.SIMPLE_HEAD
