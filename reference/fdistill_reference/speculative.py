"""Speculative decoding with the student as draft model, told as the algorithm runs it.

At a prefix the student drafts v ~ q; it is accepted with probability min(1, p/q), otherwise a token of the residual
(p - q)₊/tv takes its place. What comes out is the teacher's law, and the rejections are counted by total variation.
"""

from __future__ import annotations

import numpy as np

from .models import TabularModel, check_pair
from .tree import Array


def accepted(p: TabularModel, q: TabularModel) -> Array:
    """[N, V], probability that v is drafted and accepted: q·min(1, p/q)."""
    check_pair(p, q)
    student, teacher = np.exp(q.log_probs), np.exp(p.log_probs)
    safe = np.where(student > 0, student, 1.0)
    return student * np.minimum(1.0, teacher / safe)


def replaced(p: TabularModel, q: TabularModel) -> Array:
    """[N, V], probability that the draft is rejected and v drawn from the residual in its place."""
    surplus = np.maximum(np.exp(p.log_probs) - np.exp(q.log_probs), 0.0)
    total = surplus.sum(-1, keepdims=True)
    rejected = 1 - accepted(p, q).sum(-1, keepdims=True)
    return np.where(total > 0, rejected * surplus / np.where(total > 0, total, 1.0), 0.0)


def expected_rejections(p: TabularModel, q: TabularModel) -> float:
    """Over one whole sequence, every token drafted and tested: equals Σ P(s) tv(s) (Wen et al., 2023, Eqn. 36)."""
    kept, new = accepted(p, q), replaced(p, q)
    return float(_backward(p, lambda rows, onward: (kept[rows] * onward + new[rows] * (1 + onward)).sum(-1)))


def any_rejection(p: TabularModel, q: TabularModel) -> float:
    """Probability of at least one rejection in a whole sequence: equals the product bound of TVD."""
    kept = accepted(p, q)
    return float(1 - _backward(p, lambda rows, onward: (kept[rows] * onward).sum(-1), end=1.0))


def accepted_length(p: TabularModel, q: TabularModel, block: int) -> float:
    """Expected number of accepted drafts in a block of `block` that starts at the empty prefix; it ends early at a rejection,
    at EOS or at the length limit. One more token comes with each teacher call, unless the sequence is over."""
    short_p, short_q = (m.truncated(min(block, m.length)) for m in (p, q))
    kept = accepted(short_p, short_q)
    return float(_backward(short_p, lambda rows, onward: (kept[rows] * (1 + onward)).sum(-1)))


def acceptance_profile(p: TabularModel, q: TabularModel) -> Array:
    """[T], A_t: probability that the first t drafts exist and are all accepted, Σ κ(s) over all s of length t, EOS-ended too."""
    kept, tree = accepted(p, q), p.tree
    reached = np.zeros(tree.size)
    reached[0] = 1.0
    profile = []
    for rows in tree.levels():
        flow = reached[rows, None] * kept[rows]
        profile.append(flow.sum())
        onward = tree.child[rows] >= 0
        reached[tree.child[rows][onward]] = flow[onward]
    return np.array(profile)


def _backward(p: TabularModel, step, end: float = 0.0) -> float:
    """value(s) = step(rows, values of the children), `end` behind a complete sequence; the value at the empty prefix."""
    values = np.zeros(p.tree.size)
    for rows in reversed(p.tree.levels()):
        child = p.tree.child[rows]
        values[rows] = step(rows, np.where(child < 0, end, values[child]))
    return values[0]
