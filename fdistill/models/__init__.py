"""Models of both kinds behind one interface, and students made from teachers.

Chapters: batches (padded ids), special (token roles), adapters (aligned logits), heads (logits not yet computed),
decoding (step by step on a cache), loading (from disk, from a config), text (tokenizers), vocabulary (do two models
share one), students (make_student).
"""

from fdistill.models.adapters import (
    Adapter,
    DecoderOnlyAdapter,
    EncoderDecoderAdapter,
    HiddenStates,
    adapter_for,
    unwrap,
)
from fdistill.models.batches import Completions, Encoded, Prompts, pad_completions, pad_prompts
from fdistill.models.decoding import Decoding, evaluating
from fdistill.models.heads import has_linear_head, linear_logits
from fdistill.models.loading import build_model, load_model, load_tokenizer, model_kind
from fdistill.models.special import SpecialTokens, special_tokens
from fdistill.models.students import count_parameters, make_student
from fdistill.models.text import tokenize_completion, tokenize_example, tokenize_prompt, train_tokenizer
from fdistill.models.vocabulary import check_vocabularies, shared_vocab_size, tokenizer_size

__all__ = [
    "Adapter",
    "Completions",
    "DecoderOnlyAdapter",
    "Decoding",
    "Encoded",
    "EncoderDecoderAdapter",
    "HiddenStates",
    "Prompts",
    "SpecialTokens",
    "adapter_for",
    "build_model",
    "check_vocabularies",
    "count_parameters",
    "evaluating",
    "has_linear_head",
    "linear_logits",
    "load_model",
    "load_tokenizer",
    "make_student",
    "model_kind",
    "pad_completions",
    "pad_prompts",
    "shared_vocab_size",
    "special_tokens",
    "tokenize_completion",
    "tokenize_example",
    "tokenize_prompt",
    "tokenizer_size",
    "train_tokenizer",
    "unwrap",
]
