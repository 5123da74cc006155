"""The step logic of the paper's authors, as their published code goes about it, written anew for comparison.

Transformers' `generate` draws from the student; then two student passes, each with its encoder, and two teacher passes;
probabilities first and logarithms after; the mean over all tokens. TVD runs the teacher with gradients on.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

EPSILON = 1e-10


def js_half(p: Tensor, q: Tensor) -> Tensor:
    """KL of the first to the average of both, per token [B, T], from probabilities."""
    middle = 0.5 * p + 0.5 * q
    return (p * ((p + EPSILON).log() - (middle + EPSILON).log())).sum(-1)


def tvd_half(p: Tensor, q: Tensor) -> Tensor:
    return 0.5 * (p - q).abs().sum(-1)


class AuthorsStep:
    """One optimizer step on a batch of source ids, their mask and the teacher's completions.

    Args:
        objective: "js" or "tvd".
        beams: of the student's sampling; 6 with top-k 40 are theirs, 1 samples from the student itself.
        max_length: tokens of a sample.
    """

    def __init__(self, student: Any, teacher: Any, objective: str, beams: int, max_length: int, optimizer: Any) -> None:
        self.student, self.teacher, self.optimizer = student, teacher, optimizer
        self.objective = objective
        self.sampling = {
            "do_sample": True,
            "num_beams": beams,
            "top_k": 40 if beams > 1 else 0,
            "max_new_tokens": max_length,
        }
        self.pad = student.config.pad_token_id

    def __call__(self, source: Tensor, mask: Tensor, completions: Tensor) -> float:
        with torch.no_grad():
            drawn = self.student.generate(input_ids=source, attention_mask=mask, **self.sampling)[:, 1:]
        loss = 0.5 * self._half(source, mask, completions, True) + 0.5 * self._half(source, mask, drawn, False)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss.detach())

    def _half(self, source: Tensor, mask: Tensor, tokens: Tensor, from_teacher: bool) -> Tensor:
        q = self._probabilities(self.student, source, mask, tokens)
        with torch.no_grad() if self.objective == "js" else nullcontext():
            p = self._probabilities(self.teacher, source, mask, tokens)
        value: Callable[[Tensor, Tensor], Tensor] = js_half if self.objective == "js" else tvd_half
        per_token = value(p, q) if from_teacher else value(q, p)
        counted = tokens != self.pad
        return (per_token * counted).sum() / counted.sum()

    def _probabilities(self, model: Any, source: Tensor, mask: Tensor, tokens: Tensor) -> Tensor:
        start = torch.full_like(tokens[:, :1], model.config.decoder_start_token_id)
        inputs = torch.cat([start, tokens[:, :-1]], 1)
        logits = model(input_ids=source, attention_mask=mask, decoder_input_ids=inputs, use_cache=False).logits
        return logits.softmax(-1)
