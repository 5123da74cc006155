"""The plots of a run: each as a PNG for papers, and panel by panel as SVG whose lines and letters take the page's colours."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fdistill.report import panels
from fdistill.report.panels import INK, Look
from fdistill.report.tables import Metrics

Panel = Callable[[Any], None]  # draws on a matplotlib axis
SIDE_BY_SIDE, SMALL = (5.0, 3.8), (2.5, 1.8)  # inches of one panel


@dataclass(frozen=True)
class Plot:
    """A plot: its panels, how wide each is, how many stand side by side, and whether colours need a legend."""

    name: str
    panels: Sequence[Panel]
    size: tuple[float, float] = SIDE_BY_SIDE
    columns: int = 2
    legend: bool = True


@dataclass(frozen=True)
class Drawn:
    """A plot as the page shows it: SVG panels, and what its colours and markers mean: (name, SVG of the marker)."""

    name: str
    svgs: list[str]
    legend: list[tuple[str, str]]
    small: bool = False


def draw_plots(
    metrics: Metrics, curves: Mapping[str, Any], folder: Path, seeds: Sequence[Metrics] = ()
) -> dict[str, Drawn]:
    """Write `folder`/<name>.png for every plot that there are numbers for; return {name: its panels as SVG}.

    Args:
        metrics: of one run, or means over several.
        curves: {"prefix": {row: …}, "training": {stage: log}}.
        folder: the run's plots/.
        seeds: the runs that `metrics` are means of.
    """
    import matplotlib

    matplotlib.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    look = Look(list(metrics))
    drawn = {}
    for plot in _plots(metrics, curves, look, seeds):
        named = _save_png(plot, look, folder / f"{plot.name}.png")
        svgs = [_svg(panel, plot.size, f"{plot.name}-{i}") for i, panel in enumerate(plot.panels)]
        legend = [(name, _marker(look, name)) for name in named]
        drawn[plot.name] = Drawn(plot.name, svgs, legend, plot.size == SMALL)
    return drawn


def _plots(metrics: Metrics, curves: Mapping[str, Any], look: Look, seeds: Sequence[Metrics]) -> list[Plot]:
    """The plots that there are numbers for."""
    made = []
    plane = panels.Plane(metrics, look, seeds)
    if len(plane.names) > 1:
        made.append(Plot("plane", [plane.whole, plane.enlarged] if plane.crowd() else [plane.whole]))
    if curves.get("prefix"):
        made.append(
            Plot(
                "prefix",
                [partial(panels.prefix, curves=curves["prefix"], look=look, name=name) for name in ("js", "tvd")],
            )
        )
    if bars := sum("truth_kl" in row for row in metrics.values()):
        size = (SIDE_BY_SIDE[0], 0.3 * bars + 0.9)
        made.append(Plot("truth", [partial(panels.truth, metrics=metrics, look=look)], size, columns=1, legend=False))
    losses = {stage: _losses(log) for stage, log in curves.get("training", {}).items()}
    if any(losses.values()):
        each = [
            partial(panels.training, points=points, name=stage.removeprefix("students/"), look=look)
            for stage, points in losses.items()
            if points
        ]
        made.append(Plot("training", each, SMALL, columns=3, legend=False))
    return made


def _losses(log: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    return [(entry["step"], entry["loss"]) for entry in log if entry.get("loss") is not None]


def _figure(width: float, height: float, rows: int, columns: int) -> tuple[Any, list[Any]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25)
        axis.set_facecolor("none")
    return figure, axes


def _save_png(plot: Plot, look: Look, path: Path) -> list[str]:
    """Write all panels of a plot in one picture with its legend below; return the rows that the legend names."""
    columns = min(plot.columns, len(plot.panels))
    rows = -(-len(plot.panels) // columns)
    width, height = plot.size
    figure, axes = _figure(width * columns, height * rows + (0.5 if plot.legend else 0), rows, columns)
    for axis, panel in zip(axes, plot.panels, strict=False):
        panel(axis)
    for axis in axes[len(plot.panels) :]:
        axis.set_visible(False)
    labels = {label for axis in axes for label in axis.get_legend_handles_labels()[1]}
    named = [name for name in look.rows if name in labels] if plot.legend else []
    if named:
        from matplotlib.lines import Line2D

        handles = [Line2D([], [], color=look.colour(n), marker=look.marker(n), linestyle="", label=n) for n in named]
        across = min(len(named), 9 if columns > 1 else 5)
        figure.legend(handles=handles, loc="outside lower center", ncols=across, frameon=False)
    figure.savefig(path, dpi=150, facecolor="white", metadata={"Software": None})
    return named


def _svg(panel: Panel, size: tuple[float, float], salt: str) -> str:
    """Draw one panel as SVG, transparent and in the page's ink."""
    figure, axes = _figure(*size, 1, 1)
    panel(axes[0])
    return _inked(figure, salt)


def _marker(look: Look, name: str) -> str:
    """Draw a row's marker alone, as big as a letter."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(0.17, 0.17))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set_axis_off()
    axis.plot([0.5], [0.5], marker=look.marker(name), color=look.colour(name), markersize=7)
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1)
    return _inked(figure, f"marker-{name}")


def _inked(figure: Any, salt: str) -> str:
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    for dark in (INK, "#000000", "black"):
        svg = svg.replace(f"stroke: {dark}", "stroke: currentColor").replace(f"fill: {dark}", "fill: currentColor")
    return svg
