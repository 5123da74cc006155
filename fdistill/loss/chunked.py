"""Value and gradient a few rows at a time: the loss's gradient is formed in the forward pass and only it is kept.

A row's factor in the loss is known before the row is read (step-wise gradients hold functions of the prefix constant), so
each chunk is softmaxed, evaluated and differentiated while it sits in the cache, and no [N, V] tensor exists beside the
logits' own gradient; with `LinearLogits` not even that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fdistill.logits import LinearLogits
from fdistill.loss.rows import DenseRows, LinearRows, StudentRows, TeacherRows, TopKRows, at_tokens
from fdistill.loss.steps import TermRows, pair_log_probs

#: Elements of one chunk of log-probabilities: small enough for a core's cache on CPU, large enough to fill a GPU.
CHUNK_ELEMENTS = {"cpu": 1 << 18, "cuda": 1 << 26}


@dataclass(frozen=True)
class RowResults:
    """What a pass over the rows leaves, detached: a value per term, the student's token log-probability and entropy, [N] each."""

    terms: list[Tensor]
    token_log_q: Tensor
    entropy: Tensor


def chunks(rows: int, vocab_size: int, device: torch.device, heads: bool) -> Iterator[slice]:
    """Slices of at most that many rows; a head's matrix product wants more rows at once than a softmax does."""
    size = max(1, CHUNK_ELEMENTS.get(device.type, 1 << 22) // vocab_size)
    if heads:
        size = max(size, 256)
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


def token_log_probs(
    student: StudentRows, teacher: TeacherRows, tokens: Tensor, vocab_size: int
) -> tuple[Tensor, Tensor]:
    """Log-probability of every row's token under teacher and student, [N] each, without gradients."""
    ours, theirs = [], []
    heads = isinstance(student, LinearRows) or isinstance(teacher, LinearRows)
    with torch.no_grad():
        for part in chunks(len(tokens), vocab_size, tokens.device, heads):
            log_p, log_q = pair_log_probs(student, teacher, part)
            ours.append(at_tokens(log_q, tokens[part]))
            if log_p is not None:
                theirs.append(at_tokens(log_p, tokens[part]))
    empty = tokens.new_zeros(0, dtype=student.dtype)
    log_p_tokens = teacher.token_log_probs if isinstance(teacher, TopKRows) else torch.cat([empty, *theirs])
    return log_p_tokens, torch.cat([empty, *ours])


class _Gradients:
    """Where the gradients of the student's inputs are summed up, chunk by chunk."""

    def __init__(self, student: StudentRows, needs: list[bool]) -> None:
        self.student = student
        inputs = student_inputs(student)
        # A head's gradient is a sum over many chunks: in the working precision.
        dtypes = [x.dtype if number == 0 else student.dtype for number, x in enumerate(inputs)]
        self.sums: list[Tensor | None] = [
            torch.zeros_like(x, dtype=dtype) if need else None
            for x, dtype, need in zip(inputs, dtypes, needs, strict=True)
        ]

    def add(self, part: slice, grads: tuple[Tensor | None, ...]) -> None:
        if isinstance(self.student, DenseRows):
            (total,), (grad,) = self.sums, grads
            if total is None or grad is None:
                return
            if self.student.index is None:
                total[part] = grad
            else:
                total.index_copy_(0, self.student.index[part], grad.to(total.dtype))
            return
        for position, (total, grad) in enumerate(zip(self.sums, grads, strict=True)):
            if total is None or grad is None:
                continue
            if position == 0:
                total[part] = grad
            else:
                total += grad


def student_inputs(student: StudentRows) -> list[Tensor]:
    """The tensors whose gradients are wanted: flat logits, or hidden rows, head and bias."""
    if isinstance(student, DenseRows):
        return [student.logits]
    head = student.head
    return [student.hidden, head.weight] + ([] if head.bias is None else [head.bias])


def _leaf_rows(student: StudentRows, part: slice, needs: list[bool]) -> tuple[StudentRows, list[Tensor]]:
    """The chunk's rows on leaves of their own, so that differentiating the chunk touches nothing else."""
    if isinstance(student, DenseRows):
        leaves = [student.part(part).detach().requires_grad_(needs[0])]
        return DenseRows(leaves[0], None, student.dtype), leaves
    inputs = student_inputs(student)
    leaves = [inputs[0][part].detach(), *(x.detach() for x in inputs[1:])]
    leaves = [leaf.requires_grad_(need) for leaf, need in zip(leaves, needs, strict=True)]
    bias = leaves[2] if len(leaves) == 3 else None
    head = LinearLogits(leaves[0], leaves[1], bias, student.head.scale, student.head.softcap)
    return LinearRows(head, leaves[0], student.dtype), leaves


class _ChunkedLoss(torch.autograd.Function):
    """Σ_rows coefficient · Σ_terms value, with the gradient of the student's inputs formed on the way."""

    @staticmethod
    def forward(ctx: Any, work: _Work, *inputs: Tensor) -> Tensor:
        needs = list(ctx.needs_input_grad[1:])
        gradients = _Gradients(work.student, needs)
        loss = work.coefficients.new_zeros(())
        for part in work.parts():
            loss = loss + work.one_chunk(part, needs, gradients)
        ctx.save_for_backward(*(s for s in gradients.sums if s is not None))
        ctx.present = [s is not None for s in gradients.sums]
        ctx.dtypes = [x.dtype for x in inputs]
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        saved = iter(ctx.saved_tensors)
        grads = [next(saved) if there else None for there in ctx.present]
        scaled = [
            None if g is None else (g * grad_loss.to(g.dtype)).to(d) for g, d in zip(grads, ctx.dtypes, strict=True)
        ]
        return (None, *scaled)


@dataclass
class _Work:
    student: StudentRows
    teacher: TeacherRows | None
    tokens: Tensor
    terms: list[TermRows]
    coefficients: Tensor
    vocab_size: int
    values: list[list[Tensor]]
    token_log_q: list[Tensor]
    entropy: list[Tensor]

    def parts(self) -> Iterator[slice]:
        heads = isinstance(self.student, LinearRows) or isinstance(self.teacher, LinearRows)
        return chunks(len(self.tokens), self.vocab_size, self.tokens.device, heads)

    def one_chunk(self, part: slice, needs: list[bool], gradients: _Gradients) -> Tensor:
        with torch.enable_grad():
            student, leaves = _leaf_rows(self.student, part, needs)
            with torch.no_grad():
                log_p = self._teacher_part(part)
            log_q = student.log_probs()
            values = [term.value(self.teacher, log_p, log_q, part) for term in self.terms]
            loss = (self.coefficients[part] * sum(values)).sum() if values else log_q.new_zeros(())
        if any(needs) and loss.requires_grad:
            wanted = [leaf for leaf in leaves if leaf.requires_grad]
            found = iter(torch.autograd.grad(loss, wanted, allow_unused=True))
            gradients.add(part, tuple(next(found) if leaf.requires_grad else None for leaf in leaves))
        with torch.no_grad():
            self._record(part, log_q.detach(), values)
        return loss.detach()

    def _teacher_part(self, part: slice) -> Tensor | None:
        if self.teacher is None or isinstance(self.teacher, TopKRows):
            return None
        return self.teacher.log_probs(part)

    def _record(self, part: slice, log_q: Tensor, values: list[Tensor]) -> None:
        for store, value in zip(self.values, values, strict=True):
            store.append(value.detach())
        self.token_log_q.append(at_tokens(log_q, self.tokens[part]))
        self.entropy.append(entropy(log_q))


def entropy(log_q: Tensor) -> Tensor:
    """Entropy of every row, in nats: [n, V] to [n]."""
    return -(log_q.exp() * log_q.clamp(min=torch.finfo(log_q.dtype).min)).sum(-1)


@torch.compiler.disable
def chunked_loss(
    student: StudentRows,
    teacher: TeacherRows | None,
    tokens: Tensor,
    terms: list[TermRows],
    coefficients: Tensor,
    vocab_size: int,
) -> tuple[Tensor, RowResults]:
    """Σ_n coefficients[n] · Σ_terms value_n with its gradient, and every row's numbers.

    Args:
        coefficients: what each row counts in the loss, [N], constants.
        vocab_size: V, from which the size of a chunk follows.
    """
    work = _Work(student, teacher, tokens, terms, coefficients, vocab_size, [[] for _ in terms], [], [])
    loss = _ChunkedLoss.apply(work, *student_inputs(student))
    empty = coefficients.new_zeros(0)
    return loss, RowResults(
        [torch.cat([empty, *values]) for values in work.values],
        torch.cat([empty, *work.token_log_q]),
        torch.cat([empty, *work.entropy]),
    )
