"""A small autoregressive model written out in full: one row of logits for every unfinished prefix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .tree import Array, Tokens, Tree, path_sum, prefix_tree


class Batch(NamedTuple):
    """All complete sequences of a model, padded to its length: what a batch of token ids would look like."""

    tokens: NDArray[np.int64]  # [S, T], 0 where mask is False
    mask: NDArray[np.bool_]  # [S, T]
    rows: NDArray[np.int64]  # [S, T], row of the prefix before each token; 0 where mask is False


class TabularModel:
    """An autoregressive distribution over sequences that end in `eos` or at `length` tokens; immutable.

    Args:
        logits: [N, V], row i for the prefix `prefixes()[i]`, or a mapping from prefix (a tuple of tokens) to its row. -inf
            gives a token probability zero. A row needs not be normalised.
        length: T, the largest number of tokens.
        eos: the token that ends a sequence early; None: all sequences have T tokens.

    Rows stand in breadth-first, then lexicographic order of the prefixes, the empty prefix first.
    """

    def __init__(self, logits: ArrayLike | Mapping[Tokens, ArrayLike], length: int, eos: int | None = None):
        table = _table(logits, length, eos)
        self._tree = prefix_tree(table.shape[1], length, eos)
        _check_logits(table, self._tree)
        self._logits = _frozen(table)
        self._log_probs = _frozen(table - np.logaddexp.reduce(table, axis=-1, keepdims=True))

    @classmethod
    def from_logits(
        cls, logits: ArrayLike | Mapping[Tokens, ArrayLike], length: int, eos: int | None = None
    ) -> TabularModel:
        return cls(logits, length, eos)

    @classmethod
    def from_probabilities(
        cls, table: ArrayLike | Mapping[Tokens, ArrayLike], length: int, eos: int | None = None
    ) -> TabularModel:
        """The model of next-token probabilities (rows in proportion to them), zeros allowed."""
        values = _table(table, length, eos)
        if np.any(values < 0) or np.any(values.sum(-1) <= 0):
            raise ValueError("probabilities must be non-negative, with at least one positive one in every row")
        with np.errstate(divide="ignore"):
            return cls(np.log(values), length, eos)

    @classmethod
    def random(
        cls,
        vocab: int,
        length: int,
        rng: np.random.Generator,
        eos: int | None = None,
        peakedness: float = 1.0,
        zeros: float = 0.0,
    ) -> TabularModel:
        """Normal logits with standard deviation `peakedness`; each token has probability zero with chance `zeros`."""
        tree = prefix_tree(vocab, length, eos)
        logits = peakedness * rng.standard_normal((tree.size, vocab))
        dropped = rng.random(logits.shape) < zeros
        dropped[np.arange(tree.size), rng.integers(vocab, size=tree.size)] = False
        return cls(np.where(dropped, -np.inf, logits), length, eos)

    @property
    def vocab(self) -> int:
        return self._tree.vocab

    @property
    def length(self) -> int:
        return self._tree.length

    @property
    def eos(self) -> int | None:
        return self._tree.eos

    @property
    def tree(self) -> Tree:
        return self._tree

    @property
    def logits(self) -> Array:
        """[N, V], as given."""
        return self._logits

    @property
    def log_probs(self) -> Array:
        """[N, V], the next-token log-probabilities of every unfinished prefix."""
        return self._log_probs

    def prefixes(self) -> tuple[Tokens, ...]:
        """The N unfinished prefixes (lengths 0..T-1), in the order of the rows."""
        return self._tree.prefixes

    def row(self, prefix: Tokens) -> int:
        """The row of an unfinished prefix."""
        node = 0
        for token in prefix:
            node = int(self._tree.child[node, token])
            if node < 0:
                raise ValueError(f"{tuple(prefix)} is not an unfinished prefix of {self._shape()}")
        return node

    def next_log_probs(self, prefix: Tokens) -> Array:
        """[V], log p(·|prefix)."""
        return self._log_probs[self.row(prefix)]

    def prefix_log_probs(self) -> Array:
        """[N], log P(s) of every unfinished prefix."""
        return path_sum(self._tree, self._log_probs)

    def sequences(self) -> tuple[Tokens, ...]:
        """All complete sequences: those that end in EOS, and those of length T."""
        prefixes, child = self._tree.prefixes, self._tree.child
        return tuple(
            (*s, v) for s, below in zip(prefixes, child, strict=True) for v in range(self.vocab) if below[v] < 0
        )

    def sequence_log_probs(self) -> Array:
        """[S], log P(y) in the order of `sequences()`."""
        whole = self.prefix_log_probs()[:, None] + self._log_probs
        return whole[self._tree.child < 0]

    def log_prob(self, y: Tokens) -> float:
        """log P(y) of a complete sequence."""
        rows = self.rows(y)
        if self._tree.child[rows[-1], y[-1]] >= 0:
            raise ValueError(f"{tuple(y)} is not complete: it neither ends in EOS nor has {self.length} tokens")
        return float(self._log_probs[rows, list(y)].sum())

    def rows(self, y: Tokens) -> NDArray[np.int64]:
        """[len(y)], the row of the prefix before each token, so that `logits[rows(y)]` are the logits along y."""
        if not y:
            raise ValueError("the empty sequence has no steps")
        return np.array([self.row(y[:t]) for t in range(len(y))])

    def batch(self) -> Batch:
        """All complete sequences as arrays, in the order of `sequences()`: `logits[batch.rows]` is [S, T, V]."""
        sequences = self.sequences()
        tokens = np.zeros((len(sequences), self.length), dtype=np.int64)
        mask = np.zeros(tokens.shape, dtype=bool)
        rows = np.zeros_like(tokens)
        for i, y in enumerate(sequences):
            tokens[i, : len(y)], mask[i, : len(y)], rows[i, : len(y)] = y, True, self.rows(y)
        return Batch(tokens, mask, rows)

    def truncated(self, length: int) -> TabularModel:
        """The law of the first `length` tokens."""
        shorter = prefix_tree(self.vocab, length, self.eos)
        return TabularModel(self._logits[: shorter.size], length, self.eos)

    def with_logits(self, logits: ArrayLike) -> TabularModel:
        return TabularModel(logits, self.length, self.eos)

    def __repr__(self) -> str:
        rows = ", ".join("[" + ", ".join(_code(x) for x in row) + "]" for row in self._logits.tolist())
        return f"TabularModel.from_logits([{rows}], length={self.length}, eos={self.eos})"

    def _shape(self) -> str:
        return f"a model of {self.vocab} tokens, length {self.length}, eos={self.eos}"


def check_pair(p: TabularModel, q: TabularModel) -> None:
    """Refuse two models that are not distributions over the same sequences."""
    if (p.vocab, p.length, p.eos) != (q.vocab, q.length, q.eos):
        raise ValueError(f"teacher and student do not share their sequences: {p._shape()} and {q._shape()}")


def _table(values: ArrayLike | Mapping[Tokens, ArrayLike], length: int, eos: int | None) -> Array:
    if isinstance(values, Mapping):
        width = len(np.asarray(next(iter(values.values()))))
        prefixes = prefix_tree(width, length, eos).prefixes
        missing = [s for s in prefixes if s not in values]
        if missing or len(values) != len(prefixes):
            raise ValueError(f"the table needs exactly the {len(prefixes)} unfinished prefixes; missing: {missing[:3]}")
        table = np.array([values[s] for s in prefixes], dtype=float)
    else:
        table = np.array(values, dtype=float)
    if table.ndim != 2:
        raise ValueError(f"a table has two axes, prefix and token; this one has shape {table.shape}")
    return table


def _check_logits(table: Array, tree: Tree) -> None:
    if len(table) != tree.size:
        raise ValueError(
            f"{tree.vocab} tokens, length {tree.length} and eos={tree.eos} make {tree.size} prefixes; the table has {len(table)}"
        )
    if np.isnan(table).any() or (table == np.inf).any():
        raise ValueError("logits may be finite or -inf, never NaN or +inf")
    if np.isneginf(table).all(axis=-1).any():
        raise ValueError("a row of logits gives every token probability zero")


def _frozen(array: Array) -> Array:
    array.setflags(write=False)
    return array


def _code(x: float) -> str:
    return "float('-inf')" if x == -np.inf else repr(x)
