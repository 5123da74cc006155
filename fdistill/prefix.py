"""What a step knows about the prefix before it: how much likelier the teacher finds it than the student does.

All statistics are sums over the tokens *before* a step, restarting with every document of a packed row; masked tokens
add nothing. With r = P(prefix)/Q(prefix): the posterior that the teacher wrote the prefix is sigmoid(logit π + log r),
which is the weight of the exact middle distribution (Wen et al., 2023, Eqn. 12).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Prefix:
    """Statistics of every step's prefix, each of shape [B, T].

    Attributes:
        log_ratio: log r = log P(prefix) - log Q(prefix), in nats; ±inf where one model cannot write the prefix.
        log_overlap_teacher: Σ log min(1, q/p) over the tokens before.
        log_overlap_student: Σ log min(1, p/q) over the tokens before.
        reachable: False where neither model can write the prefix; such steps weigh nothing. None: all are.
        token_log_ratio: log p(y_t) - log q(y_t) of the step's own token, from which `decayed` starts. None: not known.
        starts: index of the first step of the document that the step belongs to. None: 0 everywhere.
    """

    log_ratio: Tensor
    log_overlap_teacher: Tensor
    log_overlap_student: Tensor
    reachable: Tensor | None = None
    token_log_ratio: Tensor | None = None
    starts: Tensor | None = None

    def detach(self) -> Prefix:
        """The same numbers as constants: what the step-wise gradient sees."""
        held = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: value.detach() for name, value in held.items() if value is not None})

    def decayed(self, memory: float) -> Tensor:
        """Return log r of a reader who forgets: log r ← memory · log r + the next token's, shape [B, T].

        Args:
            memory: γ in [0, 1]; 1 is `log_ratio`, 0 the last token alone.
        """
        import torch

        if memory == 1.0:
            return self.log_ratio
        if self.token_log_ratio is None:
            raise ValueError("this Prefix holds no token_log_ratio, so its memory cannot be shortened.")
        steps = self.token_log_ratio.unbind(1)
        first_steps = document_starts(self.token_log_ratio, self.starts).unbind(1)
        state = torch.zeros_like(steps[0])
        out = []
        for index, step in enumerate(steps):
            state = state.masked_fill(first_steps[index] == index, 0.0)
            out.append(state)
            state = memory * state.where(state.isfinite() | (memory > 0), torch.zeros_like(state)) + step
        return torch.stack(out, dim=1).nan_to_num(nan=0.0, posinf=math.inf, neginf=-math.inf)


def document_starts(like: Tensor, starts: Tensor | None) -> Tensor:
    """`starts`, or zeros of the shape of `like` where every row is one document."""
    import torch

    return torch.zeros_like(like, dtype=torch.long) if starts is None else starts


def first_steps(documents: Tensor) -> Tensor:
    """Index of the first step of each step's document, int64 [B, T]; a document is a run of equal numbers."""
    import torch

    steps = torch.arange(documents.shape[1], device=documents.device).expand_as(documents)
    changed = torch.ones_like(documents, dtype=torch.bool)
    changed[:, 1:] = documents[:, 1:] != documents[:, :-1]
    return torch.where(changed, steps, torch.zeros_like(steps)).cummax(dim=1).values


def sums_before(values: Tensor, starts: Tensor | None) -> Tensor:
    """Sum of `values` [B, T] over the steps before each step, within its document.

    A document's own sum must not depend on its neighbours in a packed row, not even in the last bit or through an
    infinity, so the running sum is taken per document and not as a difference of running sums.
    """
    import torch

    if starts is None:
        before = values.cumsum(dim=1)
        return torch.cat([torch.zeros_like(before[:, :1]), before[:, :-1]], dim=1)
    state = torch.zeros_like(values[:, 0])
    out = []
    for step in range(values.shape[1]):
        state = state.masked_fill(starts[:, step] == step, 0.0)
        out.append(state)
        state = state + values[:, step]
    return torch.stack(out, dim=1)


def prefix_statistics(
    token_log_probs_teacher: Tensor, token_log_probs_student: Tensor, mask: Tensor, documents: Tensor | None = None
) -> Prefix:
    """Return the statistics of every step's prefix.

    Args:
        token_log_probs_teacher: log p(y_t | y_<t), [B, T]; anything where masked.
        token_log_probs_student: log q(y_t | y_<t), [B, T]; anything where masked.
        mask: bool [B, T]; masked tokens add nothing.
        documents: int [B, T], which document of a packed row a token belongs to; None: one a row.
    """
    starts = None if documents is None else first_steps(documents)
    log_p = token_log_probs_teacher.masked_fill(~mask, 0.0)
    log_q = token_log_probs_student.masked_fill(~mask, 0.0)
    impossible = (log_p == -math.inf) & (log_q == -math.inf)
    ratio = (log_p - log_q).masked_fill(impossible, 0.0)
    impossible_before = sums_before(impossible.to(ratio.dtype), starts) > 0
    log_ratio = sums_before(ratio, starts)
    # One model cannot write one earlier token and the other cannot write another: inf - inf.
    reachable = ~(impossible_before | log_ratio.isnan())
    return Prefix(
        log_ratio=log_ratio.masked_fill(~reachable, 0.0),
        # relu and not clamp: at equality, a kink, the derivative is that of neither side, 0.
        log_overlap_teacher=sums_before(-ratio.relu(), starts),
        log_overlap_student=sums_before(-(-ratio).relu(), starts),
        reachable=reachable,
        token_log_ratio=ratio,
        starts=starts,
    )


def log_overlap_share(log_ratio: Tensor, teacher_weight: float) -> Tensor:
    """log of ω/M with ω = min(P, Q) and M = πP + (1-π)Q of a prefix: 1/(π max(1, r) + (1-π) max(1, 1/r))."""
    import torch

    teacher_part = math.log(teacher_weight) + log_ratio.relu()
    student_part = math.log1p(-teacher_weight) + (-log_ratio).relu()
    return -torch.logaddexp(teacher_part, student_part)


def log_inverse_posterior(log_ratio: Tensor, teacher_weight: float) -> Tensor:
    """log of π/w = π + (1-π)/r, w the posterior that the teacher wrote the prefix; call with -log r, 1-π for its mirror."""
    import torch

    own = log_ratio.new_full((), math.log(teacher_weight))
    return torch.logaddexp(own, math.log1p(-teacher_weight) - log_ratio)
