"""The execution on a top-k teacher's rows: the derivative through the bucket, in every regime, and no autograd on the way."""

from __future__ import annotations

import logging
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fdistill import TopKLogits, divergences, objective, sequence_loss
from fdistill.divergences import DIVERGENCES
from fdistill.loss import chunked, compiled, slopes
from fdistill.loss.rows import TopKRows
from fdistill.loss.sparse import sparse_chunks
from tests.tolerances import IDENTITY

NAMES = sorted(name for name in DIVERGENCES if DIVERGENCES[name].coarsens)
ROWS, VOCAB = 5, 7


def scene(seed, spread, k, distance=1.0, rounded=None):
    """A top-k teacher's rows, student logits, tokens and odds; the teacher's numbers as a dtype of fewer bits keeps them."""
    noise = torch.Generator().manual_seed(seed)
    teacher = spread * torch.randn(ROWS, VOCAB, generator=noise, dtype=torch.float64)
    student = teacher + distance * torch.randn(ROWS, VOCAB, generator=noise, dtype=torch.float64)
    tokens = torch.randint(0, VOCAB, (ROWS,), generator=noise)
    odds = 6 * torch.randn(ROWS, generator=noise, dtype=torch.float64)
    log_p = teacher.log_softmax(-1)
    kept, ids = log_p.topk(k)
    tail = teacher.softmax(-1).scatter(-1, ids, 0.0).sum(-1).log()
    if rounded is not None:
        kept, tail = kept.to(rounded).double(), tail.to(rounded).double()
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
    rounded=st.sampled_from([None, torch.bfloat16]),
)
def test_value_and_gradient_are_those_through_the_bucket(names, seed, spread, k, distance, rounded):
    """Catches a bucket whose tokens do not share its slope, a term that overwrites another, a teacher without a tail, and
    one whose rounded masses are taken to sum to 1."""
    rows, student, told = scene(seed, spread, k, distance, rounded)
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


def as_batch(rows, student, tokens):
    """One sequence for `sequence_loss`: keyword arguments, and the leaf."""
    leaf = student.unsqueeze(0).requires_grad_()
    teacher = TopKLogits(*(x.unsqueeze(0) for x in (rows.ids, rows.log_probs_of_ids, rows.tail, rows.token_log_probs)))
    tokens = tokens.unsqueeze(0)
    mask = torch.ones_like(tokens, dtype=torch.bool)
    return {"student_logits": leaf, "teacher_logits": teacher, "tokens": tokens, "mask": mask}, leaf


@pytest.mark.parametrize("depth", [-2000.0, -745.0])
def test_a_bucket_that_the_student_hardly_reaches_is_left_to_autograd(depth):
    """Catches shares of a bucket that are 0/0, or of a few bits, which total variation does not show in its value."""
    rows, student, told = scene(1, 1.0, 2)
    kept = torch.zeros_like(student, dtype=torch.bool).scatter_(-1, rows.ids, True)
    student = torch.where(kept, 4 * student, depth)
    pulls = [torch.ones(ROWS, dtype=torch.float64)]
    assert ours(("tvd",), rows, student, told, pulls)[0] is None
    truth = by_autograd(("tvd",), rows, student, told, pulls)[1]
    batch, leaf = as_batch(rows, student, told["tokens"])
    sequence_loss(objective("tvd"), "teacher", **batch).loss.backward()
    weight = objective("tvd").terms_of("teacher")[0].weight
    assert torch.allclose(leaf.grad[0], weight * truth) and truth.abs().max() > 0


@pytest.fixture
def no_autograd(monkeypatch):
    def refuse(*_):
        raise AssertionError("autograd was asked")

    monkeypatch.setattr(slopes, "autograd_slope", refuse)


@pytest.mark.parametrize("elements", [1, 2 * VOCAB, 1 << 18])
@pytest.mark.parametrize("ruled_out", [False, True])
def test_no_autograd_is_asked_where_values_are_finite(elements, ruled_out, no_autograd, monkeypatch):
    """Catches a fast path that is never taken: for vocabularies larger than a chunk, a row that is left over, or a token
    that the student rules out."""
    monkeypatch.setitem(chunked.CHUNK_ELEMENTS, "cpu", elements)
    rows, student, told = scene(2, 1.0, 3)
    if ruled_out:
        student = student.scatter(-1, student.scatter(-1, rows.ids, math.inf).argmin(-1, keepdim=True), -math.inf)
    pulls = [torch.ones(ROWS, dtype=torch.float64)]
    truth = by_autograd(("kl",), rows, student, told, pulls)[1] if not ruled_out else None
    batch, leaf = as_batch(rows, student, rows.ids[:, 0])
    sequence_loss(objective("kl"), "teacher", **batch).loss.backward()
    assert leaf.grad.isfinite().all() and leaf.grad.abs().max() > 0
    assert truth is None or torch.allclose(leaf.grad[0], truth)


def test_a_compiler_that_fails_leaves_the_way_as_it_is(no_autograd, monkeypatch, caplog):
    """Catches a lost compiler that costs more than its own gain, or the run."""

    def broken(function, name):
        raise RuntimeError("this Python is too new")

    monkeypatch.setattr(compiled, "_program", broken)
    sparse_chunks.cache_clear()
    rows, student, told = scene(2, 1.0, 3)
    batch, _ = as_batch(rows, student, told["tokens"])
    with caplog.at_level(logging.WARNING, logger="fdistill"):
        for _ in range(2):
            sequence_loss(objective("kl"), "teacher", **batch, compiled=True).loss.backward()
    sparse_chunks.cache_clear()
    messages = [record.message for record in caplog.records]
    assert messages == ["The loss goes on uncompiled: torch.compile says this Python is too new"]
