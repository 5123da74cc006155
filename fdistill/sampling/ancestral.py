"""Ancestral sampling: token by token on the key-value cache, with counted random numbers and dropout off."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from fdistill.errors import FDistillError, TrainingError
from fdistill.models import Decoding, Encoded, Prompts, evaluating, unwrap
from fdistill.sampling.choice import choose, truncated
from fdistill.sampling.random import DrawKeys, row_bits, uniforms
from fdistill.sampling.samples import Samples, wide


@torch.no_grad()
def sample(
    model: Any,
    prompts: Prompts,
    keys: DrawKeys,
    *,
    max_length: int,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    encoded: Encoded | None = None,
    vocab_size: int | None = None,
) -> Samples:
    """Draw one completion for every prompt, token by token (ancestral sampling), with dropout off.

    The same keys give the same random numbers whatever the batch, the rank or the restart.

    Args:
        model: a Transformers model of either kind.
        prompts: the sources, one a row; repeat rows for several draws of one source.
        keys: who the rows are; one key a row.
        max_length: the most tokens a completion gets, forced tokens and EOS included.
        temperature: above 0; the logits are divided by it before drawing.
        top_k: draw among the k likeliest tokens only; 0: among all.
        top_p: draw among the fewest tokens that hold this probability; 1: among all.
        encoded: the encoder's output for the same rows (encoder-decoder models).
        vocab_size: cuts the vocabulary, for embedding tables padded past the tokenizer.

    Returns:
        Samples with log-probabilities under the model itself, as a scoring pass gives them.
    """
    _check_settings(max_length, temperature, top_k, top_p)
    if len(keys.example) != len(prompts):
        raise FDistillError(f"{len(prompts)} prompts but {len(keys.example)} draw keys: sampling needs one key a row.")
    plain = temperature == 1.0 and top_k == 0 and top_p == 1.0
    with evaluating(unwrap(model)):
        decoding = Decoding(model, prompts, max_length, encoded)
        rows = _Rows(decoding, row_bits(keys).to(prompts.ids.device), max_length)
        for position in range(max_length):
            forced = rows.forced_at(position)
            if forced is None:
                log_probs = wide(decoding.next_logits()[:, :vocab_size]).log_softmax(-1)
                weights = log_probs if plain else truncated(log_probs, temperature, top_k, top_p)
                token = choose(weights, uniforms(rows.bits, position, weights.dtype))
                rows.take(position, token, log_probs.gather(-1, token[:, None]).squeeze(-1))
            else:
                rows.give(position, forced)
            if rows.finished(position):
                break
    return rows.samples()


def _check_settings(max_length: int, temperature: float, top_k: int, top_p: float) -> None:
    if max_length < 1:
        raise FDistillError(f"max_length is {max_length}: a completion needs room for at least one token.")
    if not temperature > 0 or not math.isfinite(temperature):
        raise FDistillError(f"temperature is {temperature}: it must be above 0. For greedy decoding use beam_search.")
    if top_k < 0 or not 0 < top_p <= 1:
        raise FDistillError(f"top_k is {top_k} and top_p is {top_p}: they must be at least 0, and above 0 up to 1.")


class _Rows:
    """The rows of one call of `sample`: which are going on, and what all of them have got so far."""

    def __init__(self, decoding: Decoding, bits: Tensor, max_length: int) -> None:
        self.decoding = decoding
        self.special = decoding.special
        self.bits = bits
        self.max_length = max_length
        self.index = torch.arange(len(bits), device=bits.device)  # where the rows still decoded stand in the batch
        self.active = torch.ones_like(bits, dtype=torch.bool)
        self.eos = torch.tensor(self.special.eos, dtype=torch.long, device=bits.device)
        self.tokens = torch.full((len(bits), max_length), self.special.pad, device=bits.device)
        self.mask = torch.zeros((len(bits), max_length), dtype=torch.bool, device=bits.device)
        self.log_probs: Tensor | None = None

    def forced_at(self, position: int) -> int | None:
        """Return the token that decoding gives at this position, if it gives one."""
        if position == 0 and self.special.forced_first is not None:
            return self.special.forced_first
        return self.special.forced_last if position == self.max_length - 1 else None

    def take(self, position: int, token: Tensor, log_prob: Tensor) -> None:
        """Record a drawn token for the rows that go on."""
        if self.log_probs is None:
            self.log_probs = log_prob.new_zeros(self.tokens.shape)
        self.mask[self.index, position] = self.active
        self.log_probs[self.index, position] = log_prob.masked_fill(~self.active, 0.0)
        self._append(position, token)
        self.active = self.active & ~torch.isin(token, self.eos)

    def give(self, position: int, token: int) -> None:
        """Record a forced token, which does not count, for the rows that go on."""
        self._append(position, torch.full_like(self.index, token))

    def _append(self, position: int, token: Tensor) -> None:
        token = torch.where(self.active, token, self.special.pad)
        self.tokens[self.index, position] = token
        self.decoding.append(token)

    def finished(self, position: int) -> bool:
        """Tell whether no row goes on; once half of them have ended, they are no longer decoded.

        On an accelerator it looks at every eighth token only, since looking waits for the device.
        """
        if self.bits.device.type != "cpu" and position % 8 != 7:
            return False
        going = int(self.active.sum())
        if 0 < 2 * going <= len(self.active):
            rows = self.active.nonzero().squeeze(-1)
            self.decoding.keep(rows)
            self.index, self.bits, self.active = self.index[rows], self.bits[rows], self.active[rows]
        return going == 0

    def samples(self) -> Samples:
        log_probs = (
            torch.zeros(self.tokens.shape, device=self.bits.device) if self.log_probs is None else self.log_probs
        )
        if not bool(torch.isfinite(log_probs).all()):
            raise TrainingError(
                "the model's logits are NaN or infinite, so that nothing can be drawn from it. "
                "Check its weights, and the dtype that it runs in."
            )
        counted = self.mask.any(0).nonzero()
        length = max(int(counted[-1]) + 1 if len(counted) else 0, len(self.special.forced) + 1)
        return Samples(self.tokens[:, :length], self.mask[:, :length], log_probs[:, :length])
