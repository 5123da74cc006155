"""What the pictures of the derivations share: colours, names, panels, the prefix tree."""

from __future__ import annotations

from collections.abc import Callable

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from fdistill_reference import TabularModel, examples
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = {
    "kl": "#0072b2",
    "rkl": "#d55e00",
    "reverse_kl": "#d55e00",
    "js": "#009e73",
    "tvd": "#cc79a7",
    "hellinger": "#8c6d1f",
}
NAMES = {
    "kl": "KL",
    "rkl": "reverse KL",
    "reverse_kl": "reverse KL",
    "js": "JS",
    "tvd": "TVD",
    "hellinger": "Hellinger",
}
FOUR = ("kl", "rkl", "js", "tvd")
GREY = "#666666"
STYLE = {
    "font.size": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 2,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "axes.titlesize": 11,
    "figure.facecolor": "white",
}


def panels(*titles: str, height: float = 3.4) -> tuple[list[Figure], list[Axes]]:
    """One figure for each title, narrower where there are two: they stand side by side, or one above the other on a phone."""
    figures, axes = [], []
    for title in titles:
        figure, axis = plt.subplots(figsize=(5.6 if len(titles) == 1 else 4.6, height), layout="constrained")
        axis.set_title(title)
        figures.append(figure)
        axes.append(axis)
    return figures, axes


def random_pair(vocab: int, length: int, seed: int, scale: float = 1.0) -> tuple[TabularModel, TabularModel]:
    rng = np.random.default_rng(seed)
    p, q = (TabularModel.random(vocab, length, rng, peakedness=scale) for _ in range(2))
    return p, q


def logit(chance: float) -> float:
    return float(np.log(chance / (1 - chance)))


def tree(
    axis: Axes,
    p: TabularModel,
    label: Callable[[int], str],
    edges: Callable[[int, int], str],
    colours: np.ndarray | None = None,
) -> None:
    """The prefix tree of two-token models of length two, drawn from left to right."""
    spots = {(): (0.0, 0.0), (0,): (1.0, 1.0), (1,): (1.0, -1.0)}
    ends = {(0, 0): (2.0, 1.5), (0, 1): (2.0, 0.5), (1, 0): (2.0, -0.5), (1, 1): (2.0, -1.5)}
    for row, s in enumerate(p.prefixes()):
        for v in range(2):
            x, y = (spots | ends)[(*s, v)]
            x0, y0 = spots[s]
            axis.plot([x0, x], [y0, y], color="#bbbbbb", linewidth=1.5, zorder=1)
            halfway = (x0 + 0.6 * (x - x0), y0 + 0.6 * (y - y0))
            box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
            axis.text(*halfway, edges(row, v), ha="center", va="center", fontsize=8.5, color="#333333", bbox=box)
        x0, y0 = spots[s]
        shade = "#56b4e9" if colours is None else plt.get_cmap("coolwarm")(float(colours[row]))
        axis.scatter([x0], [y0], s=420, color=shade, edgecolor="white", zorder=2)
        above = s != (1,)
        place, side = ((x0, "center") if not s else (x0 + 0.2, "right")), ("bottom" if above else "top")
        axis.text(place[0], y0 + (0.3 if above else -0.3), label(row), ha=place[1], va=side, fontsize=9.5)
    for y, (x, height) in ends.items():
        axis.text(x + 0.06, height, examples.laugh(y), ha="left", va="center", fontsize=9.5)
    axis.set(xlim=(-0.45, 2.62), ylim=(-1.85, 2.0))
    axis.set_axis_off()
