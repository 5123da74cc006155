"""The tables of a run as data (rows, columns, intervals, which number is best), and as Markdown and LaTeX."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fdistill.report.evidence import TOO_CLOSE, compare

Estimates = Mapping[str, Mapping[str, float]]
Metrics = Mapping[str, Estimates]


@dataclass(frozen=True)
class Column:
    """One metric: key in metrics.json, heading, decimals, and whether "higher" or "lower" is better (or neither)."""

    key: str
    label: str
    digits: int = 2
    better: str | None = "higher"


@dataclass(frozen=True)
class Cell:
    """A number with its interval; rank 1 is the best of its column, 2 the second, 0 neither."""

    value: float | None
    low: float = 0.0
    high: float = 0.0
    digits: int = 2
    rank: int = 0

    @property
    def text(self) -> str:
        """Return the number as shown, or a dash where there is none."""
        return "–" if self.value is None else f"{self.value:.{self.digits}f}"

    @property
    def margin(self) -> str:
        """Return the interval as ± its larger side, empty where it has no width."""
        if self.value is None:
            return ""
        half = max(self.high - self.value, self.value - self.low)
        return f"±{half:.{self.digits}f}" if half > 0 else ""


@dataclass(frozen=True)
class Table:
    """A titled table; `rows` are (name, cells), names as in metrics.json."""

    title: str
    columns: list[Column]
    rows: list[tuple[str, list[Cell]]]
    caption: str = ""
    notes: list[str] = field(default_factory=list)


TEXT = [
    Column("bleu", "BLEU"),
    Column("chrf", "chrF"),
    Column("ter", "TER", better="lower"),
    Column("rouge1", "ROUGE-1"),
    Column("rouge2", "ROUGE-2"),
    Column("rougeL", "ROUGE-L"),
]
MORE_TEXT = [
    Column("bleu1", "BLEU-1"),
    Column("bleu2", "BLEU-2"),
    Column("bleu3", "BLEU-3"),
    Column("meteor", "METEOR"),
    Column("bertscore", "BERTScore"),
]
RISKS = [
    Column("r_llh", "R_llh", better="lower"),
    Column("r_cvg", "R_cvg", better="lower"),
    Column("r_llh_token", "R_llh / token", 3, "lower"),
    Column("r_cvg_token", "R_cvg / token", 3, "lower"),
    Column("h_q", "H(Q)", better=None),
    Column("dist", "Dist", better=None),
]
DIVERGENCES = [
    Column("kl", "KL", 3, "lower"),
    Column("rkl", "RKL", 3, "lower"),
    Column("js", "JS", 4, "lower"),
    Column("tvd", "TVD", 4, "lower"),
]
TRUTH = [
    Column("truth_kl", "KL from the truth", 3, "lower"),
    Column("producible", "producible %", 1),
    Column("faithful", "faithful %", 1),
    Column("slot_errors", "slot errors %", 1, "lower"),
]
DIVERSITY = [Column("distinct1", "distinct-1", better=None), Column("distinct2", "distinct-2", better=None)]
#: What a metric is called outside its table, unit included.
LABELS = {column.key: column.label for column in [*TEXT, *MORE_TEXT, *RISKS, *DIVERGENCES, *TRUTH, *DIVERSITY]} | {
    "kl": "KL from the teacher in nats",
    "rkl": "reverse KL from the teacher in nats",
    "js": "JS from the teacher (at most 0.693)",
    "tvd": "TVD from the teacher (at most 1)",
    "r_llh": "likelihood risk in nats",
    "r_cvg": "coverage risk in nats",
    "h_q": "entropy in nats",
    "truth_kl": "KL from the truth in nats",
}
BESIDE = " · "  # between a row and the group it belongs to, where groups of runs stand side by side
MARGIN = "the 95% bootstrap interval over test inputs"


def run_tables(metrics: Metrics, runs: Sequence[Metrics] = (), margin: str = MARGIN) -> list[Table]:
    """Return a run's tables: the paper's Tables 2 and 3, objective × sequence divergence, the truth where it is known.

    Args:
        metrics: of one run, or means over several.
        runs: those several, for notes on who can be told from whom.
        margin: what ± is.
    """
    tables = [
        text_table(metrics, margin),
        more_text_table(metrics, margin),
        risk_table(metrics),
        divergence_table(metrics, runs),
    ]
    if any("truth_kl" in row for row in metrics.values()):
        tables.append(
            _table(
                "Distance from the truth",
                TRUTH,
                metrics,
                caption="KL in nats per sentence from the grammar that wrote the data; of samples, the share that the grammar "
                "can write, the share that states exactly the record's facts, and facts missing, added or repeated.",
                ranked=_students(metrics),
            )
        )
    return [table for table in tables if table.rows and table.columns]


def text_table(metrics: Metrics, margin: str = MARGIN) -> Table:
    """Return the paper's Table 2 for this run: scores of decoded outputs, with distinct-n where there is room for it."""
    return _table(
        "Output quality (Table 2)",
        [*TEXT, *DIVERSITY],
        metrics,
        caption=f"Higher is better but for TER. ± is {margin}. Best student bold, second underlined.",
        ranked=_students(metrics),
    )


def more_text_table(metrics: Metrics, margin: str = MARGIN) -> Table:
    """Return the other columns of the paper's Table 2: BLEU of lower orders, METEOR and BERTScore where they were computed."""
    return _table(
        "Output quality, more scores (Table 2)",
        MORE_TEXT,
        metrics,
        caption=f"Higher is better. ± is {margin}. Best student bold, second underlined.",
        ranked=_students(metrics),
    )


def risk_table(metrics: Metrics) -> Table:
    """Return the paper's Table 3 for this run: risks beside TeacherDist and the teacher's entropy, which is the least R_cvg."""
    rows = {name: {**row, **_dist(row)} for name, row in metrics.items()}
    teacher = metrics.get("teacher", {})
    facts = []
    if "teacher_dist" in teacher:
        facts.append(f"TeacherDist {teacher['teacher_dist']['value']:.2f}")
    if "h_p" in teacher:
        facts.append(
            f"H(P) {teacher['h_p']['value']:.2f} nats per sequence, {teacher['h_p_token']['value']:.3f} per token"
        )
    if "teacher" in rows and "h_p" in teacher:
        rows["teacher"] = {**rows["teacher"], "h_q": teacher["h_p"]}
    return _table(
        "Likelihood and coverage risk (Table 3)",
        RISKS,
        rows,
        caption=f"{'; '.join(facts)}. Nats. R_llh is high where a student writes what the teacher would not (mode "
        "averaging) and least at collapse; R_cvg is high where it cannot write what the teacher does (mode collapse) and "
        "least, H(P), when both agree. H(Q) is the student's entropy; Dist the share of distinct bi-grams among its samples "
        "of one input.",
        ranked=_students(metrics),
    )


def divergence_table(metrics: Metrics, runs: Sequence[Metrics] = ()) -> Table:
    """Return objective × sequence-level divergence from the teacher."""
    rows = {name: row for name, row in metrics.items() if "kl" in row}
    table = _table(
        "Distance from the teacher: objective × sequence divergence",
        DIVERGENCES,
        rows,
        caption="Monte-Carlo estimates of the divergence between whole sequences, in nats (TVD: a probability); JS is at "
        "most log 2 = 0.693. Each objective should win its own column.",
        ranked=_students(metrics),
    )
    return Table(table.title, table.columns, table.rows, table.caption, column_winners(rows, runs))


def column_winners(rows: Metrics, runs: Sequence[Metrics] = ()) -> list[str]:
    """Say of each divergence that is also a row whether that objective wins its own column, beyond its interval or not."""
    notes = []
    for column in DIVERGENCES:
        if column.key not in rows or len(rows) < 2:
            continue
        ordered = sorted(rows, key=lambda name: rows[name][column.key]["value"])
        rival = next(name for name in ordered if name != column.key)
        apart = compare(runs or [rows], column.key, column.key, rival).apart
        if ordered[0] == column.key:
            ending = "" if apart else f", not distinguishable from {rival} at this size"
            notes.append(f"{column.label}: won by its own objective{ending}.")
        else:
            ending = "" if apart else f", {TOO_CLOSE}"
            notes.append(f"{column.label}: {rival} comes before {column.key}{ending}.")
    return notes


def _table(
    title: str, columns: Sequence[Column], rows: Metrics, *, caption: str = "", ranked: Iterable[str] = ()
) -> Table:
    """A table of the columns that any row has; only rows in `ranked` compete for best and second."""
    shown = [column for column in columns if any(column.key in row for row in rows.values())]
    competing = [name for name in ranked if name in rows]
    ranks = {column.key: _ranks(column, rows, competing) for column in shown}
    made = [
        (name, [_cell(column, row.get(column.key), ranks[column.key].get(name, 0)) for column in shown])
        for name, row in rows.items()
    ]
    return Table(title, shown, made, caption)


def _ranks(column: Column, rows: Metrics, names: Sequence[str]) -> dict[str, int]:
    """{row: 1 or 2}; equal as shown is equal in rank, and where all are equal there is no best."""
    values = {name: rows[name][column.key]["value"] for name in names if column.key in rows[name]}
    if column.better is None:
        return {}
    shown = {name: round(value, column.digits) for name, value in values.items()}
    order = sorted(set(shown.values()), reverse=column.better == "higher")[:2]
    if len(order) < 2:
        return {}
    return {name: order.index(value) + 1 for name, value in shown.items() if value in order}


def _cell(column: Column, estimate: Any, rank: int) -> Cell:
    if estimate is None:
        return Cell(None, digits=column.digits)
    return Cell(estimate["value"], estimate["low"], estimate["high"], column.digits, rank)


def _students(metrics: Metrics) -> list[str]:
    return [name for name in metrics if name.split(BESIDE)[0] != "teacher"]


def _dist(row: Estimates) -> dict[str, Mapping[str, float]]:
    """What the column Dist shows of a row: TeacherDist of the teacher, the same measure of a student's samples."""
    found = row.get("teacher_dist") or row.get("sample_dist")
    return {} if found is None else {"dist": found}


def markdown(table: Table) -> str:
    """Return a table as Markdown, best in bold and second underlined."""
    head = ["", *(column.label for column in table.columns)]
    lines = [f"### {table.title}", "", _pipes(head), _pipes(["---", *("---:" for _ in table.columns)])]
    lines += [
        _pipes([name, *(_marked(cell, "**{}**", "<u>{}</u>", " {}") for cell in cells)]) for name, cells in table.rows
    ]
    lines += ["", table.caption] if table.caption else []
    lines += [""] + [f"* {note}" for note in table.notes] if table.notes else []
    return "\n".join(lines) + "\n"


def latex(table: Table) -> str:
    """Return a table as LaTeX (booktabs), best in bold and second underlined."""
    head = " & ".join(["", *(_tex(column.label) for column in table.columns)])
    body = [
        " & ".join(
            [
                _tex(name),
                *(_marked(cell, r"\textbf{{{}}}", r"\underline{{{}}}", r" {{\scriptsize {}}}") for cell in cells),
            ]
        )
        + r" \\"
        for name, cells in table.rows
    ]
    lines = [
        r"\begin{table}",
        r"\centering",
        r"\begin{tabular}{l" + "r" * len(table.columns) + "}",
        r"\toprule",
        head + r" \\",
        r"\midrule",
        *(line.replace("±", r"$\pm$").replace("–", "--") for line in body),
        r"\bottomrule",
        r"\end{tabular}",
        r"\caption{" + _tex(f"{table.title}. {table.caption}".strip()) + "}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _marked(cell: Cell, best: str, second: str, margin: str) -> str:
    text = {1: best, 2: second}.get(cell.rank, "{}").format(cell.text)
    return text + (margin.format(cell.margin) if cell.margin else "")


def _pipes(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


_TEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "_": r"\_",
    "#": r"\#",
    "×": r"$\times$",
    "±": r"$\pm$",
    "–": "--",
}


def _tex(text: str) -> str:
    return "".join(_TEX.get(character, character) for character in text)
