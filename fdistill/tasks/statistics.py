"""What a data set looks like in numbers, and a fingerprint that changes with any of its texts."""

from __future__ import annotations

import hashlib
import json
import statistics as numbers
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from fdistill.tasks.example import Example, plain_text, text_key


def statistics(
    examples: Sequence[Example],
    *,
    prompt_tokens: Sequence[int] | None = None,
    completion_tokens: Sequence[int] | None = None,
    max_prompt_length: int | None = None,
    max_completion_length: int | None = None,
) -> dict[str, Any]:
    """Count examples, distinct inputs and references, and measure lengths.

    Args:
        examples: of one split.
        prompt_tokens: tokens of every example's prompt, where a tokenizer was at hand.
        completion_tokens: tokens of every text (of all references), likewise.
        max_prompt_length: with prompt_tokens, longer prompts count as truncated.
        max_completion_length: with completion_tokens, likewise.

    Returns:
        examples, inputs (distinct prompts), texts (completions or references); references_per_input, and
        prompt and completion lengths in words, characters and (where given) tokens, each as
        {min, median, mean, p95, max}; truncated, the share of prompts and completions cut, where it can be known.
    """
    per_input: Counter[str] = Counter()
    for example in examples:
        per_input[text_key(example.prompt)] += len(example.texts)
    completions = [text for example in examples for text in example.texts]
    result: dict[str, Any] = {
        "examples": len(examples),
        "inputs": len(per_input),
        "texts": len(completions),
        "references_per_input": _spread(list(per_input.values())),
        "prompt": _lengths([plain_text(example.prompt) for example in examples], prompt_tokens),
        "completion": _lengths(completions, completion_tokens),
    }
    limits = {
        "prompt": (prompt_tokens, max_prompt_length),
        "completion": (completion_tokens, max_completion_length),
    }
    truncated = {
        name: sum(length > limit for length in lengths) / len(lengths)
        for name, (lengths, limit) in limits.items()
        if lengths and limit is not None
    }
    return result | ({"truncated": truncated} if truncated else {})


def data_fingerprint(examples: Iterable[Example]) -> str:
    """SHA-256 (hexadecimal) of all texts in their order."""
    digest = hashlib.sha256()
    for example in examples:
        entry = [example.prompt, example.completion, list(example.references)]
        digest.update(json.dumps(entry, sort_keys=True, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()


def _lengths(texts: list[str], tokens: Sequence[int] | None) -> dict[str, dict[str, float]]:
    result = {"words": _spread([len(text.split()) for text in texts]), "characters": _spread(list(map(len, texts)))}
    return result | ({"tokens": _spread(list(tokens))} if tokens else {})


def _spread(values: list[int]) -> dict[str, float]:
    """Least, median, mean, 95th percentile (the smallest value that 95 % do not exceed) and greatest."""
    if not values:
        return {"min": 0, "median": 0, "mean": 0.0, "p95": 0, "max": 0}
    values = sorted(values)
    return {
        "min": values[0],
        "median": numbers.median(values),
        "mean": sum(values) / len(values),
        "p95": values[-(-95 * len(values) // 100) - 1],
        "max": values[-1],
    }
