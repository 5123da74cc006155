"""Tiny models of four families and a tokenizer for tests of models, sampling and the store."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from fdistill.models import (
    Completions,
    Prompts,
    adapter_for,
    build_model,
    special_tokens,
    tokenize_example,
    train_tokenizer,
)

torch.set_num_threads(1)

TEXTS = [
    "name[The Eagle], food[Fast food], area[riverside]",
    "The Eagle serves fast food near the river.",
    "A cheap place.",
    "name[Zizzi], priceRange[cheap]",
]

CONFIGS: dict[str, dict[str, Any]] = {
    "t5": {
        "model_type": "t5",
        "d_model": 16,
        "d_kv": 8,
        "d_ff": 32,
        "num_layers": 4,
        "num_decoder_layers": 3,
        "num_heads": 2,
    },
    "bart": {
        "model_type": "bart",
        "d_model": 16,
        "encoder_layers": 4,
        "decoder_layers": 3,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "max_position_embeddings": 64,
    },
    "gpt2": {"model_type": "gpt2", "n_embd": 16, "n_layer": 4, "n_head": 2, "n_positions": 64},
    "llama": {
        "model_type": "llama",
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 64,
    },
}
FAMILIES = tuple(CONFIGS)
DECODER_ONLY = ("gpt2", "llama")


@cache
def tiny_tokenizer(kind: str = "encoder-decoder") -> Any:
    """A tokenizer of 280 tokens; not to be changed by tests."""
    return train_tokenizer(TEXTS, 280, kind)


def tokenizer_of(family: str) -> Any:
    return tiny_tokenizer("decoder-only" if family in DECODER_ONLY else "encoder-decoder")


def tiny_model(family: str, dtype: torch.dtype = torch.float64, noise: float = 0.3, **fields: Any) -> Any:
    """A model whose next-token distributions are far from uniform, in evaluation mode."""
    model = build_model(CONFIGS[family] | fields, tokenizer_of(family)).to(dtype)
    randomise(model, noise)
    return model.eval()


def randomise(model: torch.nn.Module, noise: float) -> None:
    """Add noise to every parameter and to BART's bias, the same on every call."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(noise * torch.randn(parameter.shape, generator=generator).to(parameter.dtype))
        bias = getattr(model, "final_logits_bias", None)
        if bias is not None:
            bias.add_(noise * torch.randn(bias.shape, generator=generator).to(bias.dtype))


def tiny_batch(model: Any, family: str) -> tuple[Prompts, Completions]:
    """Two examples of different lengths, padded."""
    tokenizer, adapter, special = tokenizer_of(family), adapter_for(model), special_tokens(model)
    pairs = [(TEXTS[0], TEXTS[2]), ("name[Zizzi]", "Zizzi is cheap.")]
    ids = [tokenize_example(tokenizer, adapter, prompt, completion, 20, 12) for prompt, completion in pairs]
    prompts = adapter.pad_prompts([prompt for prompt, _ in ids], special.pad)
    assert not prompts.mask.all()
    return prompts, adapter.pad_completions([completion for _, completion in ids], special.pad, forced=special.forced)
