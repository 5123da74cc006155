"""The execution on a top-k teacher's rows: the derivative through the bucket, in every regime, and no autograd on the way."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fdistill import TopKLogits, divergences, objective, sequence_loss
from fdistill.divergences import DIVERGENCES
from fdistill.loss import slopes
from fdistill.loss.rows import TopKRows
from fdistill.loss.sparse import sparse_chunks
from tests.tolerances import IDENTITY

NAMES = sorted(name for name in DIVERGENCES if DIVERGENCES[name].coarsens)
ROWS, VOCAB = 5, 7


def scene(seed, spread, k, distance=1.0):
    """A top-k teacher's rows, student logits, tokens and odds."""
    noise = torch.Generator().manual_seed(seed)
    teacher = spread * torch.randn(ROWS, VOCAB, generator=noise, dtype=torch.float64)
    student = teacher + distance * torch.randn(ROWS, VOCAB, generator=noise, dtype=torch.float64)
    tokens = torch.randint(0, VOCAB, (ROWS,), generator=noise)
    odds = 6 * torch.randn(ROWS, generator=noise, dtype=torch.float64)
    log_p = teacher.log_softmax(-1)
    kept, ids = log_p.topk(k)
    tail = teacher.softmax(-1).scatter(-1, ids, 0.0).sum(-1).log()
    rows = TopKRows(ids, kept, tail, log_p.gather(-1, tokens.unsqueeze(-1)).squeeze(-1))
    return rows, student, {"tokens": tokens, "log_odds": odds}


def knowledge(name, given_values):
    return {key: given_values[key] for key in DIVERGENCES[name].row_values}


def by_autograd(names, rows, student, told, pulls):
    """Every term's values, and the logits' gradient of Σ pulls · values, through the plain functions."""
    leaf = student.clone().requires_grad_()
    log_q = leaf.log_softmax(-1)
    values = []
    for name in names:
        pair = rows.coarsened(log_q) if DIVERGENCES[name].needs_teacher else (None, log_q)
        values.append(DIVERGENCES[name].function(*pair, **knowledge(name, told)))
    total = sum((pull * value).sum() for pull, value in zip(pulls, values, strict=True))
    return [value.detach() for value in values], torch.autograd.grad(total, leaf)[0], log_q.detach()


def ours(names, rows, student, told, pulls):
    out = torch.full_like(student, math.nan)
    run = sparse_chunks(tuple(DIVERGENCES[name].function for name in names), False)
    found = run(rows, student, told["tokens"], [knowledge(name, told) for name in names], pulls, out, student.dtype)
    return found, out


@pytest.mark.parametrize("names", [(name,) for name in NAMES] + [("kl", "nll"), ("tvd", "js", "nll", "kl_to_middle")])
@given(
    seed=st.integers(0, 2**32 - 1),
    spread=st.sampled_from([0.0, 0.3, 3.0, 20.0]),
    k=st.integers(1, VOCAB),
    distance=st.sampled_from([1e-3, 1.0]),  # where models agree, total variation has no derivative
)
def test_value_and_gradient_are_those_through_the_bucket(names, seed, spread, k, distance):
    """Catches a bucket whose tokens do not share its slope, a term that overwrites another, and a teacher without a tail."""
    rows, student, told = scene(seed, spread, k, distance)
    pulls = [
        torch.rand(ROWS, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + n
        for n in range(len(names))
    ]
    values, gradient, log_q = by_autograd(names, rows, student, told, pulls)
    (*found, entropy, token_log_q), out = ours(names, rows, student, told, pulls)
    scale = max(1.0, *(float(value.abs().max()) for value in values), float(gradient.abs().max()))
    for value, truth in zip(found, values, strict=True):
        assert (value - truth).abs().max() <= IDENTITY * scale
    assert (out - gradient).abs().max() <= IDENTITY * scale
    assert torch.allclose(entropy, -(log_q.exp() * log_q).sum(-1), atol=1e-12)
    assert torch.allclose(token_log_q, log_q.gather(-1, told["tokens"].unsqueeze(-1)).squeeze(-1), atol=1e-12)


def test_a_function_without_a_form_is_not_taken():
    """Catches a divergence of the user's own that is sent to a form it does not have."""
    assert sparse_chunks((divergences.kl, lambda log_p, log_q: log_q.sum(-1)), False) is None
    assert sparse_chunks((), False) is None


def test_a_bucket_that_the_student_cannot_reach_is_left_to_autograd():
    """Catches 0 / 0 from a bucket's shares, which total variation does not show in its value."""
    rows, student, told = scene(1, 1.0, 2)
    kept = torch.zeros_like(student, dtype=torch.bool).scatter_(-1, rows.ids, True)
    student = student.masked_fill(~kept, -2000.0)
    pulls = [torch.ones(ROWS, dtype=torch.float64)]
    assert ours(("tvd",), rows, student, told, pulls)[0] is None
    leaf = student.view(1, ROWS, VOCAB).requires_grad_()
    teacher = TopKLogits(*(x.unsqueeze(0) for x in (rows.ids, rows.log_probs_of_ids, rows.tail, rows.token_log_probs)))
    tokens = told["tokens"].unsqueeze(0)
    batch = {"teacher_logits": teacher, "tokens": tokens, "mask": torch.ones_like(tokens, dtype=torch.bool)}
    sequence_loss(objective("tvd"), "teacher", student_logits=leaf, **batch).loss.backward()
    assert leaf.grad.isfinite().all() and leaf.grad.abs().max() > 0


def test_no_autograd_is_asked_where_values_are_finite(monkeypatch):
    """Catches a fast path that is never taken."""

    def refuse(*_):
        raise AssertionError("autograd was asked")

    monkeypatch.setattr(slopes, "autograd_slope", refuse)
    rows, student, told = scene(2, 1.0, 3)
    leaf = student.view(1, ROWS, VOCAB).requires_grad_()
    teacher = TopKLogits(*(x.unsqueeze(0) for x in (rows.ids, rows.log_probs_of_ids, rows.tail, rows.token_log_probs)))
    tokens = told["tokens"].unsqueeze(0)
    batch = {"teacher_logits": teacher, "tokens": tokens, "mask": torch.ones_like(tokens, dtype=torch.bool)}
    sequence_loss(objective("kl"), "teacher", student_logits=leaf, **batch).loss.backward()
    assert leaf.grad.isfinite().all()
