"""Rows of a top-k teacher: beside the k tokens that it names, a gradient is one multiple of q a row.

Both models are merged to the teacher's k likeliest tokens and one bucket of all others. A token of the bucket moves the bucket
by its share of it, s_y = s_bucket q_y / q_bucket, so that s_y - q_y Σ s is q_y times one number of the row; at the k tokens the
forms of `slopes` are asked on [n, k + 1] alone. What is left over the vocabulary is e^x, written where the gradient will stand,
its sums, and one product.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from fdistill import divergences
from fdistill.loss.compiled import Compiled, Knowledge, Sums, energy_of
from fdistill.loss.rows import TopKRows
from fdistill.loss.slopes import SLOPES, Chunk, Distribution

WordFunction = Callable[..., Tensor]


def exponentials(logits: Tensor, out: Tensor) -> Sums:
    """e^x to `out` [n, V], x the logits less their maximum; return what was summed on the way."""
    logits = logits.to(out.dtype)
    maximum = logits.amax(-1, keepdim=True)
    shifted = logits - maximum
    exps = torch.exp(shifted, out=out)
    return Sums(maximum.squeeze(-1), exps.sum(-1), energy_of(exps, shifted))


class SparseChunks:
    """Value and gradient of some terms on chunks of rows of a top-k teacher, in the manner of `compiled.FusedChunks`."""

    def __init__(self, functions: tuple[WordFunction, ...], compiled: bool) -> None:
        self.functions = functions
        self._program = Compiled(exponentials) if compiled else None

    def __call__(
        self,
        teacher: TopKRows,
        student: Tensor,
        tokens: Tensor,
        known: Knowledge,
        pulls: list[Tensor],
        out: Tensor,
        dtype: torch.dtype,
    ) -> list[Tensor] | None:
        """Values of every term, entropy and token log-probability, [n] each; the gradient goes to `out` [n, V].

        None where a bucket is so small that its tokens' shares of it are lost.

        Args:
            teacher: as many rows as the student has.
            student: logits [n, V] of any dtype.
            tokens: [n].
            known: keyword arguments of every term's function.
            pulls: what each row's slope counts in the gradient, by term, [n] each.
            out: in the working precision `dtype`, and other memory than the logits.
        """
        read = None
        if self._program is not None and len(student) > 1:
            read = self._program((student, out), student, out)
        if read is None:
            read = exponentials(student, out)
        scale, ids, k = read.scale, teacher.ids, teacher.ids.shape[-1]
        log_p, log_q = teacher.log_probs_of_ids, read.log_probs_at(student, ids)
        q = out.gather(-1, ids) / scale.unsqueeze(-1)
        out.scatter_(-1, ids, 0.0)
        others = torch.ones_like(scale)
        if k < out.shape[-1]:
            outside = out.sum(-1)
            if bool((outside < out.shape[-1] * torch.finfo(dtype).tiny).any()):
                return None
            others = outside / scale
            log_p = torch.cat([log_p, teacher.tail.unsqueeze(-1)], dim=-1)
            log_q = torch.cat([log_q, others.log().unsqueeze(-1)], dim=-1)
            q = torch.cat([q, others.unsqueeze(-1)], dim=-1)
        chunk = Chunk(
            Distribution.of_log_probs(log_p, log_p.exp()),
            Distribution.of_log_probs(log_q, q),
            (torch.empty_like(q), torch.empty_like(q)),
        )
        token_log_q = read.log_probs_at(student, tokens.unsqueeze(-1)).squeeze(-1)
        slope, back, at_token, values = torch.zeros_like(q), torch.zeros_like(scale), torch.zeros_like(scale), []
        for function, keywords, pull in zip(self.functions, known, pulls, strict=True):
            if function is divergences.nll:
                values.append(-token_log_q)
                at_token, back = at_token - pull, back - pull
                continue
            found = SLOPES[function](chunk, **keywords)
            values.append(found.value)
            factor = pull * found.factor
            slope.addcmul_(found.slope, factor.unsqueeze(-1))
            back = back + factor * found.total
        rest = slope[:, -1] / others if k < out.shape[-1] else torch.zeros_like(scale)
        out.mul_(((rest - back) / scale).unsqueeze(-1))
        out.scatter_(-1, ids, (slope - q * back.unsqueeze(-1))[:, :k])
        out.scatter_add_(-1, tokens.unsqueeze(-1), at_token.unsqueeze(-1))
        return [*values, read.entropy(), token_log_q]


@lru_cache(maxsize=64)
def sparse_chunks(functions: tuple[WordFunction, ...], compiled: bool) -> SparseChunks | None:
    """The execution for these terms; None where one of them has no closed form, or there are none."""
    have_forms = all(function in SLOPES for function in functions)
    return SparseChunks(functions, compiled) if functions and have_forms else None
