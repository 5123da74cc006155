"""Models that remember k tokens: divergences by dynamic programming, at lengths that no enumeration reaches.

What a sum over prefixes needs is the mass that reaches each *context* (the last k tokens), so whatever multiplies along a
path and is summed over prefixes costs T·V^(k+1): KL, reverse KL, powers, the paper's TVD bounds, the token middle, the
product bound. JS, TVD and the overlap bound compare P(s) with Q(s), which the context does not know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from . import words
from .models import TabularModel
from .recursions import log_power
from .tree import Array, prefix_tree
from .words import log_odds_of, times

Kernel = Callable[[Array, Array], Array]


class MarkovModel:
    """Next-token distributions that depend on the last `order` tokens; immutable.

    Args:
        logits: for t = 0..order an array [V^t, V]; the row of a context is its tokens read as digits in base V. The last array
            serves every step from `order` on.
        length: T.
        eos: the token that ends a sequence early, or None.
    """

    def __init__(self, logits: list[Array], length: int, eos: int | None = None):
        self.order, self.vocab, self.length, self.eos = len(logits) - 1, int(logits[0].shape[-1]), length, eos
        for t, table in enumerate(logits):
            if table.shape != (self.vocab**t, self.vocab):
                raise ValueError(f"contexts of {t} tokens need logits {(self.vocab**t, self.vocab)}, not {table.shape}")
        self._tables = tuple(z - np.logaddexp.reduce(z, axis=-1, keepdims=True) for z in logits)
        for table in self._tables:
            table.setflags(write=False)

    @classmethod
    def random(
        cls,
        vocab: int,
        order: int,
        length: int,
        rng: np.random.Generator,
        eos: int | None = None,
        peakedness: float = 1.0,
    ) -> MarkovModel:
        """Normal logits with standard deviation `peakedness`."""
        return cls([peakedness * rng.standard_normal((vocab**t, vocab)) for t in range(order + 1)], length, eos)

    def perturbed(self, rng: np.random.Generator, scale: float) -> MarkovModel:
        """A neighbour: normal noise on every logit."""
        noisy = [z + scale * rng.standard_normal(z.shape) for z in self._tables]
        return MarkovModel(noisy, self.length, self.eos)

    def log_probs(self, step: int) -> Array:
        """[contexts, V] at a step 0..T-1."""
        return self._tables[min(step, self.order)]

    def tabular(self) -> TabularModel:
        """The same model written out for every prefix."""
        tree = prefix_tree(self.vocab, self.length, self.eos)
        rows = []
        for s in tree.prefixes:
            context = 0
            for t, token in enumerate(s):
                context = int(next_context(np.array(context), np.array(token), t, self.order, self.vocab))
            rows.append(self.log_probs(len(s))[context])
        return TabularModel(rows, self.length, self.eos)

    def sample(self, count: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Ancestral samples: tokens [count, T] and the mask of the real ones."""
        tokens = np.zeros((count, self.length), dtype=np.int64)
        mask = np.zeros((count, self.length), dtype=bool)
        alive, context = np.ones(count, dtype=bool), np.zeros(count, dtype=np.int64)
        for t in range(self.length):
            cumulated = np.cumsum(np.exp(self.log_probs(t)[context]), axis=-1)
            drawn = (cumulated < rng.random((count, 1)) * cumulated[:, -1:]).sum(-1)
            tokens[:, t], mask[:, t] = np.where(alive, drawn, 0), alive
            context = next_context(context, drawn, t, self.order, self.vocab)
            if self.eos is not None:
                alive = alive & (drawn != self.eos)
        return tokens, mask

    def log_prob(self, tokens: NDArray[np.int64], mask: NDArray[np.bool_]) -> Array:
        """[count], log P of sequences as `sample` gives them."""
        total, context = np.zeros(len(tokens)), np.zeros(len(tokens), dtype=np.int64)
        for t in range(tokens.shape[1]):
            total += np.where(mask[:, t], self.log_probs(t)[context, tokens[:, t]], 0.0)
            context = next_context(context, tokens[:, t], t, self.order, self.vocab)
        return total


def next_context(
    context: NDArray[np.int64], token: NDArray[np.int64], step: int, order: int, vocab: int
) -> NDArray[np.int64]:
    """The index of the last `order` tokens after one more."""
    return (context * vocab + token) % vocab ** min(step + 1, order) if order else np.zeros_like(context)


def context_masses(p: MarkovModel, q: MarkovModel, kernel: Kernel) -> Iterator[tuple[int, Array]]:
    """For each step t the mass [contexts] that unfinished prefixes of length t carry, an edge multiplying by kernel(p, q)."""
    _check(p, q)
    mass = np.ones(1)
    for t in range(p.length):
        yield t, mass
        flow = mass[:, None] * kernel(p.log_probs(t), q.log_probs(t))  # [contexts, V]
        if p.eos is not None:
            flow[:, p.eos] = 0.0
        kept = p.vocab ** min(t + 1, p.order)  # contexts of the next step
        mass = flow.reshape(-1, kept).sum(0)


def prefix_sum(p: MarkovModel, q: MarkovModel, kernel: Kernel, loss: Kernel) -> float:
    """Σ over prefixes of (product of the kernel along the prefix) · loss(p, q at its context)."""
    return float(
        sum(times(mass, loss(p.log_probs(t), q.log_probs(t))).sum() for t, mass in context_masses(p, q, kernel))
    )


def teacher(log_p: Array, log_q: Array) -> Array:
    """Kernel of prefixes that the teacher writes."""
    return np.exp(log_p)


def student(log_p: Array, log_q: Array) -> Array:
    """Kernel of prefixes that the student writes."""
    return np.exp(log_q)


def overlap(log_p: Array, log_q: Array) -> Array:
    """Kernel of κ(s) = Π min(p, q)."""
    return np.exp(np.minimum(log_p, log_q))


def kl(p: MarkovModel, q: MarkovModel) -> float:
    """KL(P‖Q)."""
    return prefix_sum(p, q, teacher, words.kl)


def reverse_kl(p: MarkovModel, q: MarkovModel) -> float:
    """KL(Q‖P)."""
    return prefix_sum(p, q, student, words.reverse_kl)


def token_middle_js(p: MarkovModel, q: MarkovModel, teacher_weight: float = 0.5) -> float:
    """The published JS objective, middle weight π at every step (Wen et al., 2023, Eqn. 11)."""
    odds = np.array(log_odds_of(teacher_weight))
    first = prefix_sum(p, q, teacher, lambda a, b: words.kl_to_middle(a, b, log_odds=odds))
    second = prefix_sum(p, q, student, lambda a, b: words.reverse_kl_to_middle(a, b, log_odds=odds))
    return teacher_weight * first + (1 - teacher_weight) * second


def teacher_bound(p: MarkovModel, q: MarkovModel) -> float:
    """Σ P(s) tv(s) (Eqn. 36)."""
    return prefix_sum(p, q, teacher, words.tvd)


def student_bound(p: MarkovModel, q: MarkovModel) -> float:
    """Σ Q(s) tv(s) (Eqn. 37)."""
    return prefix_sum(p, q, student, words.tvd)


def paper_bound(p: MarkovModel, q: MarkovModel) -> float:
    """Their average (Eqn. 25)."""
    return (teacher_bound(p, q) + student_bound(p, q)) / 2


def product_bound(p: MarkovModel, q: MarkovModel) -> float:
    """Σ κ(s) tv(s)."""
    return prefix_sum(p, q, overlap, words.tvd)


def log_power_sum(p: MarkovModel, q: MarkovModel, alpha: float) -> float:
    """log Σ_y P^α Q^(1-α), backward over contexts: Z(c) = Σ_v p^α q^(1-α) Z(cv)."""
    _check(p, q)
    behind: Array | None = None
    for t in reversed(range(p.length)):
        edges = log_power(p.log_probs(t), q.log_probs(t), alpha)
        if behind is not None:
            onward = np.resize(behind, edges.shape)  # contexts × tokens in order repeat every V^order entries
            if p.eos is not None:
                onward[:, p.eos] = 0.0
            edges = edges + onward
        behind = np.logaddexp.reduce(edges, axis=-1)
    assert behind is not None
    return float(behind[0])


def _check(p: MarkovModel, q: MarkovModel) -> None:
    if (p.order, p.vocab, p.length, p.eos) != (q.order, q.vocab, q.length, q.eos):
        raise ValueError("teacher and student must share order, vocabulary, length and EOS")
