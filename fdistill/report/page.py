"""report.html: one self-contained page a run, made from the run's folder alone; report.md and report.tex hold its tables."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from fdistill.report import tables
from fdistill.report.advice import Advice, advise
from fdistill.report.claims import Verdict, judge
from fdistill.report.folder import Run
from fdistill.report.online import online_tables
from fdistill.report.plots import Drawn, draw_plots
from fdistill.report.significance import report_tables
from fdistill.report.tables import Metrics
from fdistill.report.words import words

SHOWN = 12  # test inputs whose outputs stand on the page
PLOTS = {
    "plane": (
        "Likelihood and coverage",
        "Down and left is better. The dotted lines cross where a model equal to the teacher would stand. Right of them "
        "a student writes what the teacher would not; above them it cannot write what the teacher does; left and up is "
        "collapse: few safe sentences.",
    ),
    "prefix": (
        "Where along the sentence student and teacher can be told apart",
        "Divergence between the laws of the first t words or word pieces. It never falls with t, and on long text nears "
        "its maximum (dotted) for every small student: look at where it rises, and how fast.",
    ),
    "truth": (
        "Distance from the truth",
        "The grammar that wrote the data gives every sentence its exact probability, and each model is asked for its own.",
    ),
    "training": ("Training loss", "Each on its own scale: losses of different objectives do not compare."),
}
MEASURES = {
    "kl": ("misses", "KL from the teacher, nats: what the teacher writes and it cannot"),
    "rkl": ("strays", "reverse KL, nats: what it writes and the teacher would not"),
    "h_q": ("variety", "entropy of what it writes, nats"),
}


@dataclass(frozen=True)
class Part:
    """What a page says of one run, of the seeds of one experiment, or of several side by side.

    Attributes:
        heading: above it all, where a page has several parts.
        tables, plots: of `run_tables` and `draw_plots`.
        cards: of `cards`.
        judged: (heading, verdicts, advice), one for every group of runs with equal settings.
        runs: how many runs the numbers are means of.
        notes: what a reader must know before the tables.
    """

    heading: str
    tables: Sequence[tables.Table]
    plots: Mapping[str, Drawn]
    cards: Sequence[Mapping[str, Any]]
    judged: Sequence[tuple[str, Sequence[Verdict], Sequence[Advice]]]
    runs: int = 1
    notes: Sequence[str] = ()

    @property
    def figures(self) -> list[dict[str, Any]]:
        """Return the plots with their words, as the template wants them."""
        from markupsafe import Markup

        return [
            {
                "name": name,
                "title": heading,
                "caption": caption,
                "svgs": [Markup(svg) for svg in self.plots[name].svgs],
                "legend": [(row, Markup(svg)) for row, svg in self.plots[name].legend],
                "small": self.plots[name].small,
            }
            for name, (heading, caption) in PLOTS.items()
            if name in self.plots
        ]


def write_report(root: str | Path) -> Path:
    """Write report.html, report.md, report.tex and plots/ of a run; return the page's path.

    Args:
        root: the run's folder, with metrics.json in it.
    """
    run = Run(Path(root))
    part = Part(
        "",
        [*tables.run_tables(run.metrics), *online_tables(run)],
        draw_plots(run.metrics, run.curves, run.folder / "plots"),
        cards(run.metrics, run.objectives),
        [("", judge([run.metrics]), advise(run.metrics))],
    )
    found = json.dumps(run.environment, indent=2, ensure_ascii=False)
    page = render(
        f"f-DISTILL: {run.name}",
        _subtitle(run),
        [part],
        samples=_samples(run),
        again=[f"fdistill run {run.folder / 'recipe.yaml'}"],
        details=[("Recipe", run.recipe_text), ("Environment, data fingerprints and score signatures", found)],
        timing=run.timing,
    )
    write_pages(run.folder, "report", page, [part], report_tables([run]))
    return run.folder / "report.html"


def render(
    title: str,
    subtitle: str,
    parts: Sequence[Part],
    *,
    samples: Sequence[Mapping[str, Any]] = (),
    again: Sequence[str] = (),
    details: Sequence[tuple[str, str]] = (),
    timing: Mapping[str, Any] | None = None,
) -> str:
    """Return a page.

    Args:
        title, subtitle: the heading.
        parts: one, or one for every group of runs that does not compare with the others.
        samples: test inputs with outputs.
        again: commands that make the numbers again.
        details: (summary, text) of what is folded away.
        timing: {step: {"seconds", "attempts"}}.
    """
    from jinja2 import Environment, StrictUndefined

    import fdistill

    template = (resources.files("fdistill.report") / "report.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(
        title=title,
        subtitle=subtitle,
        parts=parts,
        samples=samples,
        again=again,
        details=details,
        timing=timing or {},
        version=fdistill.__version__,
    )


def cards(metrics: Metrics, objectives: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what the page says of every row: what it learns from, what that does, and three numbers with their bars."""
    greatest = {
        key: max((row[key]["value"] for row in metrics.values() if key in row), default=0.0) for key in MEASURES
    }
    made = []
    for name, row in metrics.items():
        told = words(name, objectives.get(name))
        values = {"h_q": row["h_p"], **row} if "h_p" in row else row  # the teacher's own entropy is H(P)
        bars = [
            {
                "label": label,
                "title": title,
                "text": f"{values[key]['value']:.2f}",
                "share": max(0.0, min(100.0, 100 * values[key]["value"] / (greatest[key] or 1))),
            }
            for key, (label, title) in MEASURES.items()
            if key in values
        ]
        made.append({"name": name, "learns": told.learns, "does": told.does, "bars": bars})
    return made


def write_pages(folder: Path, name: str, page: str, parts: Sequence[Part], more: Sequence[tables.Table] = ()) -> None:
    """Write a page, its tables and claims as Markdown, and its tables as LaTeX; `more` tables go to the last two alone."""
    folder.mkdir(parents=True, exist_ok=True)
    made = [*(table for part in parts for table in part.tables), *more]
    texts = [*(text for part in parts for text in _markdown(part)), *map(tables.markdown, more)]
    _write(folder / f"{name}.md", "\n".join(texts))
    _write(folder / f"{name}.tex", "\n".join(tables.latex(table) for table in made))
    _write(folder / f"{name}.html", page)


def shows(runs: int) -> str:
    """Return the heading of the claims."""
    return "What this run shows" if runs == 1 else f"What these {runs} runs show"


def _markdown(part: Part) -> list[str]:
    """A part's tables, and what it shows, as Markdown."""
    blocks = [f"## {part.heading}\n"] if part.heading else []
    blocks += [tables.markdown(table) for table in part.tables]
    for heading, verdicts, advice in part.judged:
        if verdicts or advice:
            named = f"{shows(part.runs)}: {heading}" if heading else shows(part.runs)
            lines = [verdict.text for verdict in verdicts] + [choice.text for choice in advice]
            blocks.append("\n".join([f"### {named}", "", *(f"* {line}" for line in lines)]) + "\n")
    return blocks


def machine(run: Run) -> str:
    """Return the device of a run."""
    device = run.environment.get("device", {})
    return str(device.get("name") or device.get("type", "cpu"))


def _subtitle(run: Run) -> str:
    """What was done here, in a sentence."""
    students = [name for name in run.metrics if name != "teacher"]
    sizes = {name: run.parameters(name) for name in ("teacher", f"students/{students[-1] if students else ''}")}
    teacher, student = ("" if size is None else f" of {size / 1e6:.1f} million parameters" for size in sizes.values())
    data = run.recipe.get("data") or {}
    on = f" on {data['format']}" if data.get("format") else ""
    return (
        f"One teacher{teacher} and {len(students)} students{student}{on}, seed {run.environment.get('seed')}, "
        f"on {machine(run)}. Each student learned in its own way; everything below compares them."
    )


def _samples(run: Run) -> list[dict[str, Any]]:
    """The first test inputs; of each model's samples, how often it wrote what."""
    return [
        {
            **sample,
            "prompt": _text(sample["prompt"]),
            "samples": {name: _counted(drawn) for name, drawn in sample["samples"].items()},
        }
        for sample in run.samples[:SHOWN]
    ]


def _counted(drawn: str | Sequence[str]) -> list[tuple[str, int]]:
    return list(Counter([drawn] if isinstance(drawn, str) else drawn).items())


def _text(prompt: Any) -> str:
    """A prompt as one text: chat messages one below the other."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(f"{message['role']}: {message['content']}" for message in prompt)


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
