"""The prefix tree: every unfinished prefix of a vocabulary up to a length, and sums along its paths.

A sequence ends in EOS or at the length limit, whichever comes first, so an unfinished prefix never holds EOS. Prefixes
are numbered in breadth-first, then lexicographic order; row 0 is the empty prefix. Every table of this package
that has something to say about each prefix is an array whose first axis is that numbering.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Tree:
    """Prefixes of length 0..length-1 over `vocab` tokens; `N` of them.

    Attributes:
        prefixes: the N unfinished prefixes, as tuples of tokens.
        depth: [N] their lengths.
        parent: [N] row of the prefix without its last token; -1 for the empty prefix.
        last: [N] that last token; -1 for the empty prefix.
        child: [N, V] row of the prefix extended by a token; -1 where the extension is a complete sequence.
    """

    vocab: int
    length: int
    eos: int | None
    prefixes: tuple[Tokens, ...] = field(repr=False)
    depth: NDArray[np.int64] = field(repr=False)
    parent: NDArray[np.int64] = field(repr=False)
    last: NDArray[np.int64] = field(repr=False)
    child: NDArray[np.int64] = field(repr=False)

    @property
    def size(self) -> int:
        return len(self.prefixes)

    def levels(self) -> list[NDArray[np.int64]]:
        """Rows of the prefixes of length 0, 1, ..., length-1."""
        return [np.flatnonzero(self.depth == t) for t in range(self.length)]


@lru_cache(maxsize=256)
def prefix_tree(vocab: int, length: int, eos: int | None) -> Tree:
    """The tree of a vocabulary, a maximal length and an EOS token (None: every sequence has the full length)."""
    _check(vocab, length, eos)
    going_on = [token for token in range(vocab) if token != eos]
    prefixes = tuple(s for t in range(length) for s in product(going_on, repeat=t))
    row = {s: i for i, s in enumerate(prefixes)}
    child = np.array([[row.get((*s, v), -1) for v in range(vocab)] for s in prefixes])
    return Tree(
        vocab,
        length,
        eos,
        prefixes,
        depth=np.array([len(s) for s in prefixes]),
        parent=np.array([row[s[:-1]] if s else -1 for s in prefixes]),
        last=np.array([s[-1] if s else -1 for s in prefixes]),
        child=child,
    )


def path_sum(tree: Tree, edges: Array, decay: float = 1.0) -> Array:
    """Sum of `edges` [N, V] over the tokens before each prefix's next: [N], 0 at the empty prefix.

    c(sv) = decay·c(s) + edges(s, v): with decay 1 the plain sum, below it one that forgets.
    """
    sums = np.zeros(tree.size)
    for rows in tree.levels()[1:]:
        before = tree.parent[rows]
        carried = decay * sums[before] if decay else 0.0
        with np.errstate(invalid="ignore"):
            sums[rows] = carried + edges[before, tree.last[rows]]
    return sums


def path_sum_adjoint(tree: Tree, weights: Array, decay: float = 1.0) -> Array:
    """The transpose of `path_sum`: the derivative of Σ_s weights(s)·c(s) with respect to each edge, [N, V]."""
    flow = np.array(weights, dtype=float)
    edges = np.zeros((tree.size, tree.vocab))
    for rows in reversed(tree.levels()[1:]):
        before = tree.parent[rows]
        edges[before, tree.last[rows]] += flow[rows]
        if decay:
            np.add.at(flow, before, decay * flow[rows])
    return edges


def _check(vocab: int, length: int, eos: int | None) -> None:
    if vocab < 1 or length < 1:
        raise ValueError(f"a model needs a vocabulary and a length of at least 1, not {vocab} and {length}")
    if eos is not None and not 0 <= eos < vocab:
        raise ValueError(f"eos={eos} is not a token of a vocabulary of {vocab} (0..{vocab - 1})")
