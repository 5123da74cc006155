"""Models, tokenizer and text that steps are measured on: random weights, one made-up word a token, fixed lengths."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from fdistill import make_student
from fdistill.models import build_model

PAD, EOS, UNKNOWN, FIRST_WORD = 0, 1, 2, 3


@cache
def word_tokenizer(vocab: int, padding_side: str = "right") -> Any:
    """A tokenizer of `vocab` tokens whose words are "w3", "w4", …"""
    words = {"<pad>": PAD, "</s>": EOS, "<unk>": UNKNOWN} | {f"w{index}": index for index in range(FIRST_WORD, vocab)}
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", padding_side=padding_side
    )


def text(generator: torch.Generator, vocab: int, words: int) -> str:
    return " ".join(f"w{index}" for index in torch.randint(FIRST_WORD, vocab, (words,), generator=generator).tolist())


def rows(size: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Prompts and completions of full length, each with ids that stand for the teacher's sample."""
    random = torch.Generator().manual_seed(0)
    vocab, source, target = size["vocab"], size["source"], size["target"]
    made = []
    for _ in range(count):
        ids = torch.randint(FIRST_WORD, vocab, (target - 1,), generator=random).tolist()
        made.append(
            {
                "prompt": text(random, vocab, source - 1),
                "completion": " ".join(f"w{index}" for index in ids),
                "teacher_completion_ids": [*ids, EOS],
            }
        )
    return made


def t5_pair(size: dict[str, Any]) -> tuple[Any, Any]:
    """A T5 teacher and a student of 3 + 1 of its layers, as in the paper (Wen et al., 2023, section 4); no dropout."""
    width, layers = size["width"], size["layers"]
    config = {
        "model_type": "t5",
        "d_model": width,
        "d_kv": 64 if width >= 128 else 8,
        "num_heads": max(width // 64, 1),
        "d_ff": 4 * width,
        "num_layers": layers,
        "num_decoder_layers": layers,
        "dropout_rate": 0.0,
        "feed_forward_proj": "relu",
    }
    teacher = build_model(config, word_tokenizer(size["vocab"]))
    return teacher, make_student(teacher, encoder_layers=min(3, layers), decoder_layers=1)


def llama_pair(size: dict[str, Any]) -> tuple[Any, Any]:
    """A Llama-like teacher and a student of a third of its layers."""
    width, layers = size["width"], size["layers"]
    config = {
        "model_type": "llama",
        "hidden_size": width,
        "intermediate_size": 3 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": max(width // 64, 1),
        "num_key_value_heads": max(width // 64, 1),
        "max_position_embeddings": 2 * (size["source"] + size["target"]),
    }
    teacher = build_model(config, word_tokenizer(size["vocab"]))
    return teacher, make_student(teacher, decoder_layers=max(1, layers // 3))


def training_arguments(folder: str, size: dict[str, Any], steps: int) -> dict[str, Any]:
    """What every trainer is configured with, ours and others': nothing is saved, reported or drawn."""
    return {
        "output_dir": folder,
        "max_steps": steps,
        "per_device_train_batch_size": size["batch"],
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "disable_tqdm": True,
        "logging_steps": 10,
    }
