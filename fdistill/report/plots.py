"""The plots of a run, each as a PNG for papers and as an SVG whose lines and letters take the page's colours."""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fdistill.report.tables import Metrics

# Okabe and Ito's colours, told apart by colour-blind readers too; markers repeat what colours say.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999933", "#882255", "#7F7F7F")
MARKERS = "osD^vPX*h"
INK = "#010203"  # becomes currentColor in SVG


def draw_plots(run: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Write `folder`/<name>.png for every plot that the run has numbers for; return {name: svg}.

    Args:
        run: {"metrics": …, "curves": {"prefix": …, "training": …}}.
        folder: the run's plots/.
    """
    import matplotlib

    matplotlib.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    metrics, curves = run["metrics"], run["curves"]
    wanted: dict[str, tuple[bool, Callable[[], Any]]] = {
        "plane": (sum("r_llh" in row for row in metrics.values()) > 1, lambda: _plane(metrics)),
        "prefix": (bool(curves.get("prefix")), lambda: _prefix(curves["prefix"], list(metrics))),
        "truth": (any("truth_kl" in row for row in metrics.values()), lambda: _truth(metrics)),
        "training": (
            any("loss" in e for log in curves.get("training", {}).values() for e in log),
            lambda: _training(curves["training"]),
        ),
    }
    return {name: _save(make(), folder / f"{name}.png") for name, (there, make) in wanted.items() if there}


def style(rows: Sequence[str], name: str) -> dict[str, Any]:
    """Return a row's colour and marker: the same in every plot of a run."""
    index = list(rows).index(name) if name in rows else len(rows)
    return {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)]}


def _figure(width: float, height: float, columns: int = 1, rows: int = 1) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25)
        axis.set_facecolor("none")
    return figure, axes


def _plane(metrics: Metrics) -> Any:
    """R_llh against R_cvg, one point a model, with intervals; the teacher's entropy is where both would be at equality."""
    figure, axes = _figure(7, 4.8)
    axis = axes[0, 0]
    for name, row in metrics.items():
        if "r_llh" not in row:
            continue
        x, y = row["r_llh"], row["r_cvg"]
        look = style(list(metrics), name)
        axis.errorbar(
            x["value"],
            y["value"],
            xerr=[[x["value"] - x["low"]], [x["high"] - x["value"]]],
            yerr=[[y["value"] - y["low"]], [y["high"] - y["value"]]],
            fmt=look["marker"],
            color=look["color"],
            capsize=2,
            label=name,
        )
    if "h_p" in metrics.get("teacher", {}):
        entropy = metrics["teacher"]["h_p"]["value"]
        axis.axhline(entropy, linestyle=":", color=INK, linewidth=1)
        axis.axvline(entropy, linestyle=":", color=INK, linewidth=1)
        axis.annotate("H(P)", (entropy, entropy), textcoords="offset points", xytext=(4, 4), color=INK)
    axis.set_xlabel("R_llh: likelihood risk, nats (right: writes what the teacher would not)")
    axis.set_ylabel("R_cvg: coverage risk, nats\n(up: misses what the teacher writes)")
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _prefix(curves: Mapping[str, Any], rows: Sequence[str]) -> Any:
    """JS and TVD between the laws of the first t tokens."""
    figure, axes = _figure(9, 4, columns=2)
    limits = {"js": (math.log(2), "Jensen-Shannon (nats; at most log 2)"), "tvd": (1.0, "total variation (at most 1)")}
    for axis, (name, (limit, title)) in zip(axes.flat, limits.items(), strict=True):
        for row, curve in curves.items():
            lengths = range(1, len(curve[name]["value"]) + 1)
            look = style(rows, row)
            axis.plot(lengths, curve[name]["value"], color=look["color"], label=row, linewidth=1.6)
            axis.fill_between(
                lengths, curve[name]["low"], curve[name]["high"], color=look["color"], alpha=0.12, linewidth=0
            )
        axis.axhline(limit, linestyle=":", color=INK, linewidth=1)
        axis.set_ylim(0, limit * 1.05)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("tokens of the prefix")
    axes[0, 1].legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _truth(metrics: Metrics) -> Any:
    """KL from the truth, one bar a model, with intervals."""
    rows = [name for name, row in metrics.items() if "truth_kl" in row]
    figure, axes = _figure(7, 0.38 * len(rows) + 1)
    axis = axes[0, 0]
    for place, name in enumerate(reversed(rows)):
        estimate = metrics[name]["truth_kl"]
        error = [[estimate["value"] - estimate["low"]], [estimate["high"] - estimate["value"]]]
        axis.barh(
            place,
            estimate["value"],
            xerr=error,
            color=style(list(metrics), name)["color"],
            ecolor=INK,
            capsize=2,
            height=0.65,
        )
    axis.set_yticks(range(len(rows)), list(reversed(rows)))
    axis.set_xlabel("KL(truth‖model), nats per sentence")
    return figure


def _training(history: Mapping[str, Sequence[Mapping[str, Any]]]) -> Any:
    """The training loss of every model, each on its own scale: different objectives do not compare."""
    drawn = {
        stage: [(e["step"], e["loss"]) for e in log if e.get("loss") is not None] for stage, log in history.items()
    }
    drawn = {stage: points for stage, points in drawn.items() if points}
    columns = min(3, len(drawn)) or 1
    rows = -(-len(drawn) // columns) or 1
    figure, axes = _figure(3 * columns, 2 * rows, columns, rows)
    for axis, (stage, points) in zip(axes.flat, drawn.items(), strict=False):
        axis.plot(*zip(*points, strict=True), color=COLOURS[0], linewidth=1.4, marker="." if len(points) < 3 else "")
        axis.set_title(stage.removeprefix("students/"), fontsize=9)
        axis.tick_params(labelsize=7)
    for axis in list(axes.flat)[len(drawn) :]:
        axis.set_visible(False)
    return figure


def _save(figure: Any, path: Path) -> str:
    """Write the PNG; return the SVG, transparent and in the page's ink."""
    import matplotlib

    figure.savefig(path, dpi=150, facecolor="white", metadata={"Software": None})
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": path.stem}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    for dark in (INK, "#000000", "black"):
        svg = svg.replace(f"stroke: {dark}", "stroke: currentColor").replace(f"fill: {dark}", "fill: currentColor")
    return svg
