"""Beam search and greedy decoding, through Transformers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig
from transformers.modeling_outputs import BaseModelOutput

from fdistill.errors import FDistillError
from fdistill.models import (
    Completions,
    Encoded,
    Prompts,
    SpecialTokens,
    adapter_for,
    evaluating,
    special_tokens,
    unwrap,
)
from fdistill.models.adapters import check_length
from fdistill.sampling.samples import Samples, score


@torch.no_grad()
def beam_search(
    model: Any,
    prompts: Prompts,
    *,
    num_beams: int,
    max_length: int,
    length_penalty: float = 1.0,
    encoded: Encoded | None = None,
    vocab_size: int | None = None,
    scored: bool = False,
) -> Samples:
    """Decode the likeliest completion that `num_beams` beams find, through Transformers; one beam is greedy decoding.

    Nothing of the model's own generation settings but its special tokens takes part (no minimum length, no ban on
    repeated n-grams). `scored` adds the tokens' log-probabilities, at the price of one more pass.
    """
    if num_beams < 1 or max_length < 1:
        raise FDistillError(f"num_beams is {num_beams} and max_length is {max_length}: both must be at least 1.")
    model = unwrap(model)
    special = special_tokens(model)
    inputs: dict[str, Any] = {"input_ids": prompts.ids, "attention_mask": prompts.mask.long()}
    with evaluating(model):
        if model.config.is_encoder_decoder:
            check_length(model, max_length, "completion")
            encoded = adapter_for(model).encode(model, prompts) if encoded is None else encoded
            assert encoded is not None
            # Transformers expands the encoder's output to the beams in place of the caller's object.
            inputs["encoder_outputs"] = BaseModelOutput(last_hidden_state=encoded.hidden)
        else:
            check_length(model, prompts.ids.shape[1] + max_length - 1, "prompt and completion together")
        settings = _generation_config(model, special, num_beams, max_length, length_penalty, vocab_size)
        tokens = _generate(model, settings, inputs)
    tokens = tokens[:, 1:] if model.config.is_encoder_decoder else tokens[:, prompts.ids.shape[1] :]
    mask = _counted(tokens, special, max_length)
    log_probs = None
    if scored:
        log_probs = score(model, prompts, Completions(tokens, mask), encoded=encoded, vocab_size=vocab_size)
    return Samples(tokens, mask, log_probs)


def _generate(model: Any, settings: GenerationConfig, inputs: dict[str, Any]) -> Tensor:
    """Call the model's `generate` with these settings alone: what they leave open, its own config would fill."""
    own = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        with _cache_for_decoder(model.config):
            return model.generate(**inputs, generation_config=settings)
    finally:
        model.generation_config = own


@contextmanager
def _cache_for_decoder(config: Any) -> Iterator[None]:
    """Let `generate` make a cache as deep as a T5's decoder: it counts the encoder's layers, which may be fewer."""
    before, wanted = getattr(config, "num_layers", 0), getattr(config, "num_decoder_layers", 0)
    deeper = config.is_encoder_decoder and 0 < before < wanted
    if deeper:
        config.num_layers = wanted
    try:
        yield
    finally:
        if deeper:
            config.num_layers = before


def _generation_config(
    model: Any, special: SpecialTokens, num_beams: int, max_length: int, length_penalty: float, vocab_size: int | None
) -> GenerationConfig:
    padded = vocab_size is not None and vocab_size < model.config.vocab_size
    return GenerationConfig(
        num_beams=num_beams,
        do_sample=False,
        max_new_tokens=max_length,
        length_penalty=length_penalty if num_beams > 1 else 1.0,
        eos_token_id=list(special.eos) or None,
        pad_token_id=special.pad,
        decoder_start_token_id=special.start,
        forced_bos_token_id=special.forced_first,
        forced_eos_token_id=special.forced_last,
        suppress_tokens=list(range(vocab_size or 0, model.config.vocab_size)) if padded else None,
        renormalize_logits=padded,  # beams are compared under the distribution over the tokens that are left
    )


def _counted(tokens: Tensor, special: SpecialTokens, max_length: int) -> Tensor:
    """Return which of `tokens` count, bool [B, T]: up to the first EOS and with it, without what decoding forced."""
    first = len(special.forced)
    ends = torch.isin(tokens, torch.tensor(special.eos, dtype=torch.long, device=tokens.device))
    ends[:, :first] = False
    ended_before = ends.long().cumsum(-1) - ends.long() > 0
    mask = ~ended_before
    mask[:, :first] = False
    if special.forced_last is not None and tokens.shape[1] == max_length:
        mask[:, -1] = False  # at the limit the last token is given, whatever the model says
    return mask
