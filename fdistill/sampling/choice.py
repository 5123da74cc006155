"""Choosing one token from a next-token distribution by a uniform number, after temperature and truncation if asked."""

from __future__ import annotations

import torch
from torch import Tensor


def choose(log_probs: Tensor, uniform: Tensor) -> Tensor:
    """Return the token at which the cumulative distribution passes `uniform`; never one of probability zero.

    Args:
        log_probs: [B, V], float32 or float64; -inf where a token is excluded.
        uniform: in [0, 1), [B].

    Returns:
        long [B].
    """
    probs = log_probs.exp()
    cumulative = probs.cumsum(-1)
    total = cumulative[:, -1:]
    # u * total can round up to total; the number below it keeps the crossing inside the row.
    threshold = torch.minimum(uniform[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
    chosen = torch.searchsorted(cumulative, threshold, right=True).clamp(max=probs.shape[-1] - 1)
    # A parallel cumulative sum is monotone only up to rounding: where that hit an impossible token, take the likeliest.
    possible = probs.gather(-1, chosen) > 0
    if possible.device.type == "cpu" and bool(possible.all()):
        return chosen.squeeze(-1)
    return torch.where(possible, chosen, probs.argmax(-1, keepdim=True)).squeeze(-1)


def truncated(logits: Tensor, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """Return log-probabilities after temperature, top-k and nucleus truncation, [B, V]; -inf where one is excluded."""
    logits = logits / temperature
    if 0 < top_k < logits.shape[-1]:
        threshold = logits.topk(top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < threshold, -torch.inf)
    log_probs = logits.log_softmax(-1)
    if top_p < 1.0:
        ordered, order = log_probs.sort(dim=-1, descending=True, stable=True)
        before = ordered.exp().cumsum(-1) - ordered.exp()  # mass of likelier tokens: 0 for the first, which stays
        excluded = torch.zeros_like(before, dtype=torch.bool).scatter(-1, order, before >= top_p)
        log_probs = log_probs.masked_fill(excluded, -torch.inf).log_softmax(-1)
    return log_probs
