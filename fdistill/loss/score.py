"""What student samples add to the full gradient: the score-function part of E_{y~q} Σ_t ℓ_t.

The gradient of that expectation is E[Σ_t ∇ℓ_t] + E[Σ_t ∇log q(y_t|y_<t) · Σ_{j>t} ℓ_j]. The return starts at t+1, since
step t is summed over the vocabulary explicitly. Wen et al. (2023, section 7) leave the second part out.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fdistill.loss.contract import Batch
from fdistill.prefix import first_steps


def score_function_part(batch: Batch, steps: Tensor, token_log_q: Tensor) -> Tensor:
    """(log q(y_t) - sg) · sg(Σ_{j>t} ℓ_j - baseline): value 0, and the gradient that sampling adds, [B, T].

    Args:
        steps: weighted step losses [B, T], 0 where masked.
        token_log_q: log q(y_t | y_<t) with gradient, [B, T], 0 where masked.
    """
    returns = returns_to_go(steps.detach(), batch.documents)
    # An infinite loss has no gradient, but its value must stay infinite: 0 · inf would make it NaN.
    advantage = (returns - baseline_of(batch, returns)).nan_to_num(0.0, 1e30, -1e30)
    log_q = token_log_q.masked_fill(token_log_q == -math.inf, 0.0)
    return ((log_q - log_q.detach()) * advantage).masked_fill(~batch.mask, 0.0)


def returns_to_go(steps: Tensor, documents: Tensor | None) -> Tensor:
    """Σ_{j>t} ℓ_j within the document of step t, [B, T]."""
    if documents is None:
        from_here = steps.flip(1).cumsum(1).flip(1)
        return torch.cat([from_here[:, 1:], torch.zeros_like(from_here[:, :1])], dim=1)
    starts = first_steps(documents)
    state = torch.zeros_like(steps[:, 0])
    out = []
    for step in reversed(range(steps.shape[1])):
        out.append(state)
        state = (state + steps[:, step]).masked_fill(starts[:, step] == step, 0.0)
    return torch.stack(out[::-1], dim=1)


def baseline_of(batch: Batch, returns: Tensor) -> Tensor:
    """The baseline [B, T]: 0, the given one, or the mean return-to-go of the group's other samples at the same step."""
    if batch.baseline is None:
        return torch.zeros_like(returns)
    if isinstance(batch.baseline, Tensor):
        return batch.baseline.to(returns.dtype)
    assert batch.groups is not None
    _, group, sizes = torch.unique(batch.groups, return_inverse=True, return_counts=True)
    total = returns.new_zeros(len(sizes), returns.shape[1]).index_add(0, group, returns)
    return (total[group] - returns) / (sizes[group] - 1).unsqueeze(1)
