"""Completions that a model has drawn, and their log-probabilities by a scoring pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fdistill.models import Completions, Encoded, Prompts, adapter_for, evaluating, unwrap


@dataclass(frozen=True)
class Samples:
    """Completions that a model has drawn, right-padded.

    Attributes:
        tokens: long [B, T], forced tokens included.
        mask: which of them count, bool [B, T]; False at padding and at forced tokens.
        log_probs: log-probability of every counted token under the model itself (no temperature, no truncation),
            [B, T], 0 where the mask is False; None where it was not asked for.
    """

    tokens: Tensor
    mask: Tensor
    log_probs: Tensor | None = None

    def __len__(self) -> int:
        return self.tokens.shape[0]

    @property
    def completions(self) -> Completions:
        return Completions(self.tokens, self.mask)

    def token_lists(self) -> list[list[int]]:
        """Return the counted tokens of every row: what `pad_completions` takes, and what a store holds."""
        tokens, mask = self.tokens.cpu(), self.mask.cpu()
        return [row[keep].tolist() for row, keep in zip(tokens, mask, strict=True)]


@torch.no_grad()
def score(
    model: Any,
    prompts: Prompts,
    completions: Completions,
    *,
    encoded: Encoded | None = None,
    vocab_size: int | None = None,
) -> Tensor:
    """Return the log-probability of every counted token, [B, T], 0 where the mask is False; dropout off."""
    with evaluating(unwrap(model)):
        adapter = adapter_for(model)
        logits = adapter.logits(model, prompts, completions.tokens, encoded=encoded, vocab_size=vocab_size)
        assert isinstance(logits, Tensor)
        tokens = completions.tokens.masked_fill(~completions.mask, 0)
        log_probs = wide(logits).log_softmax(-1).gather(-1, tokens[..., None]).squeeze(-1)
        return log_probs.masked_fill(~completions.mask, 0.0)


def wide(logits: Tensor) -> Tensor:
    """Return logits as float32, or as they are where they are float64."""
    return logits if logits.dtype == torch.float64 else logits.float()
