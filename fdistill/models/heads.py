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


#: Up to so many rows a head's product is written as weight · hiddenᵀ on a CPU: see `next_token_logits`.
FEW_ROWS = 64


def has_linear_head(model: Any) -> bool:
    """Tell whether `linear_logits` holds for this model: a family known above, and a head that nothing has wrapped.

    A head whose weights are sharded over devices is not whole here; its module must be called to gather them.
    """
    head = model.get_output_embeddings()
    if model.config.model_type not in KNOWN_HEADS or type(head) is not nn.Linear:
        return False
    return "forward" not in vars(head) and not head._forward_hooks and not head._forward_pre_hooks


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


def next_token_logits(model: Any, hidden: Tensor) -> Tensor:
    """Return the logits of one position a row, hidden [B, d] to [B, V], for a model that `has_linear_head`.

    The product reads the whole head for a handful of rows. BLAS copies the right-hand factor of a product into blocks
    before it multiplies: with the few rows on the right it copies them, and reads the head once from where it lies.
    """
    head = linear_logits(model, hidden)
    if hidden.device.type != "cpu" or hidden.shape[0] > FEW_ROWS:
        return head.dense()
    scaled = head.scaled()
    logits = (head.weight.to(scaled.dtype) @ scaled.T).T
    if head.bias is not None:
        logits = logits + head.bias.to(logits.dtype)
    return head.capped(logits)


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
