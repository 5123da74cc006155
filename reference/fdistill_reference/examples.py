"""The small models that the derivations run on: two people who laugh, an echo, and humps on a line."""

from __future__ import annotations

import numpy as np

from .counterexamples import Pair, binary
from .models import TabularModel
from .tree import Array, Tokens, prefix_tree

LAUGHS = ("ha", "ho")


def laughter() -> Pair:
    """Teacher and student over the tokens ha and ho, two tokens long: P = (.54, .06, .08, .32), Q = (.28, .12, .18, .42).

    The teacher goes on as it began, the student less so.
    """
    return binary(0.6, 0.9, 0.2), binary(0.4, 0.7, 0.3)


def longer_laughter() -> Pair:
    """Three tokens: each goes on as in `laughter`, by its last token alone."""
    return echo(3, 0.6, (0.9, 0.8)), echo(3, 0.4, (0.7, 0.7))


def echo(length: int, first: float, again: tuple[float, float]) -> TabularModel:
    """Two tokens: `first` is the probability of beginning with token 0, `again` that of repeating the last token, 0 or 1."""
    going = {0: [again[0], 1 - again[0]], 1: [1 - again[1], again[1]]}
    prefixes = prefix_tree(2, length, None).prefixes
    return TabularModel.from_probabilities({s: going[s[-1]] if s else [first, 1 - first] for s in prefixes}, length)


def humps(vocab: int, centres: tuple[float, ...], shares: tuple[float, ...], width: float) -> TabularModel:
    """One token out of `vocab` places on a line: a mixture of bells of one width."""
    places = np.arange(vocab)
    curves = [np.exp(-((places - centre) ** 2) / (2 * width**2)) for centre in centres]
    return TabularModel.from_probabilities(
        [sum(share * curve / curve.sum() for share, curve in zip(shares, curves, strict=True))], length=1
    )


def laugh(y: Tokens) -> str:
    """The tokens as they are read."""
    return " ".join(LAUGHS[v] for v in y)


def sequence_table(p: TabularModel, q: TabularModel) -> list[tuple[str, float, float]]:
    """(sequence, P, Q) of every complete sequence of two-token models."""
    probs: list[Array] = [np.exp(m.sequence_log_probs()) for m in (p, q)]
    return [(laugh(y), float(a), float(b)) for y, a, b in zip(p.sequences(), *probs, strict=True)]


def show(*things: object, digits: int = 4) -> None:
    """Prints text as it is, and numbers and arrays rounded to `digits`, minus zero as zero."""
    print(*(thing if isinstance(thing, str) else _rounded(thing, digits) for thing in things), sep="  ")


def _rounded(thing: object, digits: int) -> str:
    values = np.asarray(thing)
    if values.ndim:
        return "[" + " ".join(_rounded(value, digits) for value in values) + "]"
    return f"{round(float(values), digits) + 0.0:.{digits}f}" if values.dtype.kind == "f" else str(thing)
