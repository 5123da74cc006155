"""Divergences between whole sequences, by enumeration: nothing here knows that a sequence has steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from .generators import FAMILIES, Generator, open_unit, resolve_generator
from .models import TabularModel, check_pair
from .tree import Array
from .words import cross_entropy, cross_entropy_to_teacher

NOT_DIVERGENCES = {"seqkd": cross_entropy, "mle": cross_entropy, "engine": cross_entropy_to_teacher}


def sequence_divergence(name: str, p: TabularModel, q: TabularModel, **options: Any) -> float:
    """D_f(P‖Q) = Σ_y Q(y) f(P(y)/Q(y)) over all complete sequences (Wen et al., 2023, Eqn. 4).

    Args:
        name: kl, rkl, js, tvd, the name of another generator, or f_divergence with `generator`; also seqkd, E_P[-log Q],
            and engine, E_Q[-log P], which are no divergences.
        options: the generator's parameters (teacher_weight for js; tvd does not depend on one), or for a generator of the
            user's at_zero and slope_at_infinity.
    """
    check_pair(p, q)
    log_p, log_q = p.sequence_log_probs(), q.sequence_log_probs()
    if name in NOT_DIVERGENCES:
        return float(NOT_DIVERGENCES[name](log_p, log_q, **options))
    f = sequence_generator(name, **options)
    return float(f.perspective(np.exp(log_p), np.exp(log_q)).sum())


def sequence_generator(name: str, **options: Any) -> Generator:
    """The generator that a name and its options stand for."""
    if name == "f_divergence":
        return resolve_generator(**options)
    if name == "tvd" and "teacher_weight" in options:
        open_unit(options.pop("teacher_weight"), "teacher_weight", "tvd has two halves")
    if name != "rkl" and name not in FAMILIES:
        raise ValueError(f"unknown divergence {name!r}; known are rkl, f_divergence, {', '.join(FAMILIES)}")
    return resolve_generator(name, **options)


def sequence_gradient(name: str, p: TabularModel, q: TabularModel, **options: Any) -> Array:
    """∇D_f(P‖Q) with respect to the student's logits, [N, V]: Σ_y Q(y) (f(r) - r f'(r)) ∇log Q(y), r = P(y)/Q(y)."""
    f = sequence_generator(name, **options)
    _, slopes = f.perspective_slopes(np.exp(p.sequence_log_probs()), np.exp(q.sequence_log_probs()))
    return np.tensordot(slopes, score(q), axes=1)


def score(q: TabularModel) -> Array:
    """[S, N, V], ∇log Q(y) with respect to the logits for every complete sequence: one-hot minus q on the path of y."""
    batch = q.batch()
    out = np.zeros((len(batch.tokens), *q.logits.shape))
    which, step = np.nonzero(batch.mask)
    rows = batch.rows[which, step]
    out[which, rows] = -np.exp(q.log_probs[rows])
    out[which, rows, batch.tokens[which, step]] += 1
    return out
