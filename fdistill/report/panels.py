"""What stands in each panel of a plot: functions that draw on one matplotlib axis."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fdistill.report.tables import Metrics

# Okabe and Ito's colours, told apart by colour-blind readers too; markers repeat what colours say.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999933", "#A8327A", "#7F7F7F")
MARKERS = "osD^vPX*h"
INK = "#010203"  # becomes currentColor in SVG
Box = tuple[float, float, float, float]  # least and greatest x, least and greatest y


@dataclass(frozen=True)
class Look:
    """Colours and markers of a run's rows: the same in every plot."""

    rows: Sequence[str]

    def colour(self, name: str) -> str:
        """Return a row's colour."""
        return COLOURS[self._index(name) % len(COLOURS)]

    def marker(self, name: str) -> str:
        """Return a row's marker, which goes on when colours begin again."""
        index = self._index(name)
        return MARKERS[(index + index // len(COLOURS)) % len(MARKERS)]

    def _index(self, name: str) -> int:
        return list(self.rows).index(name) if name in self.rows else len(self.rows)


@dataclass(frozen=True)
class Plane:
    """R_llh against R_cvg, one point a model with its intervals, and the crowd in the middle once more, enlarged.

    Attributes:
        metrics: what stands on the plane.
        look: colours and markers.
        seeds: the runs of which `metrics` are means; each is a faint point.
    """

    metrics: Metrics
    look: Look
    seeds: Sequence[Metrics] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """Return the rows that have both risks."""
        return [name for name, row in self.metrics.items() if "r_llh" in row and "r_cvg" in row]

    def crowd(self) -> list[str]:
        """Return the rows that stand so close together that outliers hide their order, or [] if all is legible."""
        spans, kept = [], set(self.names)
        for metric in ("r_llh", "r_cvg"):
            values = {name: self.metrics[name][metric]["value"] for name in self.names}
            middle = _median(list(values.values()))
            spread = _median([abs(value - middle) for value in values.values()])
            kept &= {name for name, value in values.items() if abs(value - middle) <= 3 * spread}
            spans.append(max(values.values()) - min(values.values()))
        if not 3 <= len(kept) < len(self.names):
            return []
        left, right, bottom, top = self.box(kept)
        shares = ((right - left) / spans[0], (top - bottom) / spans[1])
        return [name for name in self.names if name in kept] if min(shares) < 0.4 else []

    def box(self, names: Any) -> Box:
        """Return what holds the intervals of `names`, with a little air."""
        bounds = []
        for metric in ("r_llh", "r_cvg"):
            low = min(self.metrics[name][metric]["low"] for name in names)
            high = max(self.metrics[name][metric]["high"] for name in names)
            bounds += [low - 0.08 * (high - low), high + 0.08 * (high - low)]
        return bounds[0], bounds[1], bounds[2], bounds[3]

    def whole(self, axis: Any) -> None:
        """Draw everything; where there is a crowd, a frame around it, and names beside the others."""
        crowd = self.crowd()
        self._points(axis)
        if crowd:
            left, right, bottom, top = self.box(crowd)
            corners = ([left, right, right, left, left], [bottom, bottom, top, top, bottom])
            axis.plot(*corners, color=INK, linewidth=0.8, alpha=0.6)
        axis.margins(0.12)
        axis.set_title("all models" if crowd else "", fontsize=10)
        lowest = self.box(crowd)[2] if crowd else None
        for name in self.names:
            if name not in crowd:
                self._name(axis, name, below=lowest is not None and self.metrics[name]["r_cvg"]["value"] < lowest)

    def enlarged(self, axis: Any) -> None:
        """Draw the crowd alone."""
        crowd = self.crowd()
        self._points(axis)
        left, right, bottom, top = self.box(crowd)
        axis.set_xlim(left, right)
        axis.set_ylim(bottom, top)
        axis.set_title("the frame, enlarged", fontsize=10)
        for name in crowd:
            self._name(axis, name)

    def _points(self, axis: Any) -> None:
        for name in self.names:
            x, y = self.metrics[name]["r_llh"], self.metrics[name]["r_cvg"]
            colour, marker = self.look.colour(name), self.look.marker(name)
            for seed in self.seeds:
                if "r_llh" in seed.get(name, {}):
                    point = (seed[name]["r_llh"]["value"], seed[name]["r_cvg"]["value"])
                    axis.plot(*point, marker=marker, color=colour, alpha=0.35, markersize=4, linestyle="")
            axis.errorbar(
                x["value"],
                y["value"],
                xerr=[[x["value"] - x["low"]], [x["high"] - x["value"]]],
                yerr=[[y["value"] - y["low"]], [y["high"] - y["value"]]],
                fmt=marker,
                color=colour,
                capsize=2,
                linewidth=1,
                label=name,
            )
        if "h_p" in self.metrics.get("teacher", {}):
            entropy = self.metrics["teacher"]["h_p"]["value"]
            axis.axhline(entropy, linestyle=":", color=INK, linewidth=1)
            axis.axvline(entropy, linestyle=":", color=INK, linewidth=1)
        axis.set_xlabel("likelihood risk R_llh, nats → writes what\nthe teacher would not", fontsize=9)
        axis.set_ylabel("coverage risk R_cvg, nats → misses\nwhat the teacher writes", fontsize=9)

    def _name(self, axis: Any, name: str, below: bool = False) -> None:
        """Write a row's name beside its point, on the side that has room."""
        x, y = (self.metrics[name][metric]["value"] for metric in ("r_llh", "r_cvg"))
        left, right = axis.get_xlim()
        beyond = (x - left) / (right - left) > 0.75
        axis.annotate(
            name,
            (x, y),
            textcoords="offset points",
            xytext=(-7 if beyond else 7, -13 if below else 6),
            ha="right" if beyond else "left",
            color=INK,
            fontsize=9,
        )


def prefix(axis: Any, curves: Mapping[str, Any], look: Look, name: str) -> None:
    """Draw one divergence ("js" or "tvd") between the laws of the first t tokens, a line a model with its band."""
    limit, title = {"js": (math.log(2), "JS, at most log 2"), "tvd": (1.0, "TVD, at most 1")}[name]
    for row, curve in curves.items():
        lengths = range(1, len(curve[name]["value"]) + 1)
        every = max(1, len(lengths) // 8)
        axis.plot(
            lengths,
            curve[name]["value"],
            color=look.colour(row),
            marker=look.marker(row),
            markevery=every,
            markersize=4,
            linewidth=1.4,
            label=row,
        )
        axis.fill_between(
            lengths, curve[name]["low"], curve[name]["high"], color=look.colour(row), alpha=0.12, linewidth=0
        )
    axis.axhline(limit, linestyle=":", color=INK, linewidth=1)
    axis.set_ylim(0, limit * 1.05)
    axis.set_title(title, fontsize=10)
    axis.set_xlabel("first tokens of the sentence", fontsize=9)


def truth(axis: Any, metrics: Metrics, look: Look) -> None:
    """Draw KL from the truth, one bar a model, with intervals."""
    rows = [name for name, row in metrics.items() if "truth_kl" in row]
    for place, name in enumerate(reversed(rows)):
        estimate = metrics[name]["truth_kl"]
        error = [[estimate["value"] - estimate["low"]], [estimate["high"] - estimate["value"]]]
        axis.barh(place, estimate["value"], xerr=error, color=look.colour(name), ecolor=INK, capsize=2, height=0.65)
        axis.annotate(
            f"{estimate['value']:.2f}",
            (estimate["high"], place),
            textcoords="offset points",
            xytext=(4, 0),
            va="center",
            color=INK,
            fontsize=8,
        )
    axis.margins(x=0.12)
    axis.set_yticks(range(len(rows)), list(reversed(rows)))
    axis.set_xlabel("KL(truth‖model), nats a sentence", fontsize=9)


def training(axis: Any, points: Sequence[tuple[float, float]], name: str, look: Look) -> None:
    """Draw the training loss of one model on its own scale."""
    axis.plot(*zip(*points, strict=True), color=look.colour(name), linewidth=1.4, marker="." if len(points) < 3 else "")
    axis.set_title(name, fontsize=9)
    axis.tick_params(labelsize=7)


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
