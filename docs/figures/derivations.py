"""Draws the pictures of docs/derivations/ from the reference's numbers: `python docs/figures/derivations.py [FOLDER]`."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import of_divergences
import of_training
from drawing import STYLE
from matplotlib.figure import Figure
from PIL import Image

PICTURES: Mapping[str, Callable[[], list[Figure]]] = {
    "divergences": of_divergences.divergences,
    "steps": of_divergences.steps,
    "every-f": of_divergences.every_f,
    "middle": of_divergences.middle,
    "token-middle": of_divergences.token_middle,
    "total-variation": of_divergences.total_variation,
    "stop-gradient": of_training.stop_gradient,
    "baselines": of_training.baselines,
    "top-k": of_training.top_k_teachers,
    "signal": of_training.signal,
    "collapse-line": of_training.collapse_line,
    "collapse-laughs": of_training.collapse_laughs,
}


def draw(name: str, folder: Path) -> list[Path]:
    """The PNGs of one picture, of 64 colours to keep them small; a pair is called left and right."""
    with plt.rc_context(STYLE):
        figures = PICTURES[name]()
        endings = [""] if len(figures) == 1 else ["-left", "-right"]
        targets = [folder / f"{name}{ending}.png" for ending in endings]
        for figure, target in zip(figures, targets, strict=True):
            drawn = io.BytesIO()
            figure.savefig(drawn, dpi=110)
            plt.close(figure)
            Image.open(drawn).convert("RGB").quantize(64).save(target, optimize=True)
    return targets


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in PICTURES:
        print(*draw(name, folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "derivations")
