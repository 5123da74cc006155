"""What the older objectives approximate: SeqKD is KL up to the teacher's entropy, ENGINE is reverse KL without the student's.

SeqKD is (Wen et al., 2023, Eqns. 2 and 3), after Kim and Rush (2016); ENGINE is after Tu et al. (2020).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from . import words
from .models import TabularModel
from .tree import Tokens
from .words import expect, times


def sequence_entropy(p: TabularModel) -> float:
    """H(P) = -Σ_y P(y) log P(y)."""
    log_p = p.sequence_log_probs()
    return float(expect(log_p, -log_p))


def chain_entropy(p: TabularModel) -> float:
    """H(P) step by step: Σ_s P(s) H(p(·|s))."""
    return float(times(np.exp(p.prefix_log_probs()), words.entropy(p.log_probs)).sum())


def coverage_risk(p: TabularModel, q: TabularModel) -> float:
    """R_cvg = E_{y~P}[-log Q(y)] = KL(P‖Q) + H(P), the expectation behind SeqKD (Eqn. 2); large where the student collapses."""
    return float(expect(p.sequence_log_probs(), -q.sequence_log_probs()))


def likelihood_risk(p: TabularModel, q: TabularModel) -> float:
    """R_llh = E_{y~Q}[-log P(y)] = KL(Q‖P) + H(Q), ENGINE's objective; least at collapse on the teacher's mode, not at Q = P."""
    return coverage_risk(q, p)


def mode(p: TabularModel) -> Tokens:
    """The most probable sequence: what a beam search without search errors would decode."""
    return p.sequences()[int(np.argmax(p.sequence_log_probs()))]


def hard_seqkd(p: TabularModel, q: TabularModel) -> float:
    """-log Q(y) at the teacher's mode (Eqn. 3): one hard sequence in place of the expectation."""
    return -q.log_prob(mode(p))


def collapsed(p: TabularModel, y: Tokens | None = None) -> TabularModel:
    """A student that always writes y, by default the teacher's mode."""
    y = mode(p) if y is None else y
    logits = np.zeros(p.logits.shape)
    logits[p.rows(y)] = -np.inf
    logits[p.rows(y), list(y)] = 0.0
    return p.with_logits(logits)


def distinct_bigram_share(sequences: list[Tokens]) -> float:
    """TeacherDist of one input: distinct bi-grams over all bi-grams of its teacher samples."""
    bigrams = [pair for y in sequences for pair in pairwise(y)]
    return len(set(bigrams)) / len(bigrams) if bigrams else 0.0
