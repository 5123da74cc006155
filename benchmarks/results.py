"""What a question answers with: tables and goals, as JSON on disk and as Markdown in the docs."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "results"
PAGE = Path(__file__).parent.parent / "docs" / "performance.md"


@dataclass(frozen=True)
class Table:
    """Rows of cells, as text; the first column names what was measured."""

    title: str
    columns: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Goal:
    """A number that was wished for beside the one measured.

    Attributes:
        what: which ratio, in words.
        sign: ">=" or "<=".
        wanted: the limit.
        measured: None where a peer is missing.
    """

    what: str
    sign: str
    wanted: float
    measured: float | None

    @property
    def met(self) -> bool | None:
        if self.measured is None:
            return None
        return self.measured >= self.wanted if self.sign == ">=" else self.measured <= self.wanted


@dataclass(frozen=True)
class Answer:
    """All that one question found out.

    Attributes:
        question: name of its file.
        title: the question itself.
        setting: sizes, in a sentence.
        tables, goals: the numbers.
        notes: sentences: what bounds a number, what was skipped.
        environment: of the machine and the versions.
    """

    question: str
    title: str
    setting: str
    tables: list[Table]
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)


def save(answer: Answer, folder: Path = FOLDER) -> Path:
    """Write an answer as JSON; return where."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{answer.question}.json"
    path.write_text(json.dumps(asdict(answer), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def load(path: Path) -> Answer:
    """Read what `save` wrote."""
    data = json.loads(path.read_text(encoding="utf-8"))
    tables = [Table(**table) for table in data.pop("tables")]
    return Answer(tables=tables, goals=[Goal(**goal) for goal in data.pop("goals")], **data)


def markdown(answer: Answer) -> str:
    """An answer as it stands in the docs."""
    parts = [f"*{answer.setting}*", f"`python -m benchmarks {answer.question}`: {machine(answer.environment)}."]
    parts += [_table(table) for table in answer.tables]
    if answer.goals:
        rows = [
            [goal.what, f"{_SIGNS[goal.sign]} {goal.wanted:g}", number(goal.measured), _met(goal)]
            for goal in answer.goals
        ]
        parts.append(_table(Table("", ["goal", "wanted", "measured", ""], rows)))
    return "\n\n".join(parts + answer.notes)


_SIGNS = {">=": "≥", "<=": "≤"}


def _met(goal: Goal) -> str:
    return {True: "met", False: "**not met**", None: "not measured"}[goal.met]


def _table(table: Table) -> str:
    lines = [table.columns, ["---", *["---:"] * (len(table.columns) - 1)], *table.rows]
    title = f"{table.title}\n\n" if table.title else ""
    return title + "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def number(value: float | None, digits: int = 3) -> str:
    """Three significant digits, without an exponent; a dash for none."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    whole = f"{value:.{digits}g}"
    if abs(value) >= 10 ** (digits - 1):
        return f"{float(whole):,.0f}"
    return f"{float(whole):.{digits}g}" if abs(value) >= 1e-4 else whole


def mebibytes(count: float | None) -> str:
    return "–" if count is None else number(max(count, 0) / 2**20)


def milliseconds(seconds: float | None) -> str:
    return "–" if seconds is None else number(seconds * 1000)


def machine(environment: dict[str, Any]) -> str:
    """The environment in a line."""
    versions = ", ".join(f"{name} {version}" for name, version in environment.get("versions", {}).items())
    return f"{environment.get('machine', 'unknown machine')}; {versions}"


def publish(answers: list[Answer], page: Path = PAGE) -> None:
    """Put every answer between its markers, `<!-- begin NAME -->` and `<!-- end NAME -->`, of the page.

    Raises:
        ValueError: the page has no such markers.
    """
    text = page.read_text(encoding="utf-8")
    for answer in answers:
        begin, end = f"<!-- begin {answer.question} -->", f"<!-- end {answer.question} -->"
        pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        if not pattern.search(text):
            raise ValueError(f"{page} has no markers {begin} and {end}.")
        block = f"{begin}\n{markdown(answer)}\n{end}"
        text = pattern.sub(lambda _, block=block: block, text)
    page.write_text(text, encoding="utf-8")
