"""report.html: one self-contained page a run, made from the run's folder alone; report.md and report.tex hold its tables."""

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from fdistill.errors import FDistillError
from fdistill.evaluate.bootstrap import differ
from fdistill.report import claims, tables
from fdistill.report.plots import draw_plots
from fdistill.report.tables import Metrics

SHOWN = 12  # test inputs whose outputs stand on the page
PLOTS = {
    "plane": (
        "Likelihood and coverage",
        "Down and left is better. A model equal to the teacher sits where the dotted lines cross; one that collapses "
        "moves left and up.",
    ),
    "prefix": (
        "Where along the sentence student and teacher can be told apart",
        "Divergence between the laws of the first t tokens, with 95% intervals. On long text it nears its maximum "
        "(dotted) for every small student, so the rise is what to look at.",
    ),
    "truth": ("Distance from the truth", "KL from the grammar that wrote the data, with 95% intervals."),
    "training": ("Training loss", "Each on its own scale: losses of different objectives do not compare."),
}


def write_report(root: str | Path) -> Path:
    """Write report.html, report.md, report.tex and plots/ of a run; return the page's path.

    Args:
        root: the run's folder, with metrics.json in it.
    """
    folder = Path(root)
    run = _read(folder)
    made = tables.run_tables(run["metrics"])
    svgs = draw_plots(run, folder / "plots")
    page = _page(folder, run, made, svgs)
    _write(folder / "report.md", "\n".join(tables.markdown(table) for table in made))
    _write(folder / "report.tex", "\n".join(tables.latex(table) for table in made))
    _write(folder / "report.html", page)
    return folder / "report.html"


def advice(metrics: Metrics) -> list[str]:
    """Return what to choose for what, each naming who cannot be told apart from the choice."""
    students = [name for name in metrics if name not in ("teacher", "mle")]
    wanted = (
        ("bleu", False, "For one good output per input (beam search)"),
        ("r_cvg", True, "To cover everything the teacher may write (sampling, diversity)"),
        ("r_llh", True, "For samples that the teacher finds likely, at the price of variety"),
        ("js", True, "To be hard to tell from the teacher"),
        ("truth_kl", True, "To be close to the truth"),
    )
    lines = []
    for metric, lower, purpose in wanted:
        rows = {name: metrics[name][metric] for name in students if metric in metrics[name]}
        if len(rows) < 2:
            continue
        best = (min if lower else max)(rows, key=lambda name: rows[name]["value"])
        ties = [name for name in rows if name != best and not differ(rows[name], rows[best])]
        tied = f" (not distinguishable from it at this size: {', '.join(ties)})" if ties else ""
        lines.append(f"{purpose}: {best}{tied}.")
    return lines


def _page(folder: Path, run: Mapping[str, Any], made: list[tables.Table], svgs: Mapping[str, str]) -> str:
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    import fdistill

    template = (resources.files("fdistill.report") / "report.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=False)
    recipe, found = run["recipe"], run["environment"]
    students = sum(name not in ("teacher",) for name in run["metrics"])
    machine = found.get("device", {}).get("name") or found.get("device", {}).get("type", "cpu")
    return environment.from_string(template).render(
        title=f"f-DISTILL: {folder.resolve().name}",
        subtitle=f"One teacher, {students} students, seed {found.get('seed')}, on {machine}.",
        verdicts=claims.judge(run["metrics"]),
        advice=advice(run["metrics"]),
        tables=made,
        plots=[{"svg": Markup(svgs[name]), "title": t, "caption": c} for name, (t, c) in PLOTS.items() if name in svgs],
        samples=[{**sample, "prompt": _text(sample["prompt"])} for sample in run["samples"][:SHOWN]],
        recipe=recipe,
        recipe_path=folder / "recipe.yaml",
        environment=json.dumps(found, indent=2, ensure_ascii=False),
        timing=run["timing"],
        version=fdistill.__version__,
    )


def _read(folder: Path) -> dict[str, Any]:
    """What a report is made from; what is missing but for the metrics is left out."""
    metrics = folder / "metrics.json"
    if not metrics.exists():
        raise FDistillError(
            f"there is nothing to report in {folder}: it has no metrics.json. Run `fdistill evaluate` first."
        )
    samples = folder / "samples.jsonl"
    lines = samples.read_text(encoding="utf-8").split("\n") if samples.exists() else []
    recipe = folder / "recipe.yaml"
    return {
        "metrics": json.loads(metrics.read_text(encoding="utf-8")),
        "samples": [json.loads(line) for line in lines if line],
        "curves": _json(folder / "plots" / "curves.json"),
        "environment": _json(folder / "environment.json"),
        "timing": _json(folder / "timing.json"),
        "recipe": recipe.read_text(encoding="utf-8") if recipe.exists() else "",
    }


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _text(prompt: Any) -> str:
    """A prompt as one text: chat messages one below the other."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(f"{message['role']}: {message['content']}" for message in prompt)


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
