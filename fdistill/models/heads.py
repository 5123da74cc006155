"""Language-model heads as data: what turns a model's last hidden states into logits, family by family."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from fdistill.logits import LinearLogits

# Families whose logits are known to be softcap · tanh((scale · h Wᵀ + bias) / softcap), each held to it by a test.
KNOWN_HEADS = frozenset(
    {
        "bart",
        "cohere",
        "gemma",
        "gemma2",
        "gemma3_text",
        "gpt2",
        "gpt_neo",
        "gpt_neox",
        "granite",
        "llama",
        "marian",
        "mbart",
        "mistral",
        "mt5",
        "olmo",
        "olmo2",
        "opt",
        "pegasus",
        "phi3",
        "qwen2",
        "qwen3",
        "smollm3",
        "t5",
        "umt5",
    }
)


def has_linear_head(model: Any) -> bool:
    """Tell whether `linear_logits` holds for this model: a family known above, and a head that nothing has wrapped."""
    return model.config.model_type in KNOWN_HEADS and type(model.get_output_embeddings()) is nn.Linear


def linear_logits(model: Any, hidden: Tensor, vocab_size: int | None = None) -> LinearLogits:
    """Return the logits of `hidden`, [B, T, d], as a head that has not been applied yet.

    Rows of the head past `vocab_size` are cut, so that a table padded past the tokenizer does not take part.
    """
    head = model.get_output_embeddings()
    bias = head.bias
    final_bias = getattr(model, "final_logits_bias", None)  # BART's, a buffer [1, V]
    if final_bias is not None:
        bias = final_bias.reshape(-1) if bias is None else bias + final_bias.reshape(-1)
    softcap = getattr(model.config, "final_logit_softcapping", None)
    return LinearLogits(
        hidden,
        head.weight[:vocab_size],
        None if bias is None else bias[:vocab_size],
        scale=_scale(model.config),
        softcap=None if softcap is None else float(softcap),
    )


def _scale(config: Any) -> float:
    """What a family multiplies its logits by, moved in front of the hidden states."""
    if config.model_type in ("t5", "umt5"):  # tied T5 heads are scaled, those of version 1.1 are not
        scaled = getattr(config, "scale_decoder_outputs", getattr(config, "tie_word_embeddings", True))
        return float(config.d_model**-0.5) if scaled else 1.0
    if config.model_type == "cohere":
        return float(config.logit_scale)
    if config.model_type == "granite":
        return 1.0 / float(config.logits_scaling)
    return 1.0
