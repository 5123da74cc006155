"""Text to token ids and back: prompts and completions as training and generation read them, and new tokenizers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from fdistill.errors import DataError, RecipeError
from fdistill.models.adapters import Adapter

Messages: TypeAlias = list[dict[str, Any]]

PAD, EOS, UNK, BOS = "<pad>", "</s>", "<unk>", "<s>"
SPECIAL = [PAD, EOS, UNK, BOS]  # ids 0 to 3


def tokenize_example(
    tokenizer: Any,
    adapter: Adapter,
    prompt: str | Messages,
    completion: str | Messages,
    max_prompt_length: int | None = None,
    max_completion_length: int | None = None,
) -> tuple[list[int], list[int]]:
    """Return the ids of a prompt and of its completion; the latter ends with EOS unless it was truncated."""
    prompt_ids = tokenize_prompt(tokenizer, adapter, prompt, max_prompt_length)
    return prompt_ids, tokenize_completion(tokenizer, completion, max_completion_length, prompt=prompt)


def tokenize_prompt(
    tokenizer: Any, adapter: Adapter, prompt: str | Messages, max_prompt_length: int | None = None
) -> list[int]:
    """Return a prompt's ids, at least one.

    An encoder reads what the tokenizer makes of the text, EOS at its end, and a long text loses its end. A decoder-only
    model goes on from the prompt, so that no EOS is added and a long text loses its beginning.

    Args:
        prompt: text, or chat messages, which the tokenizer's template turns into text.
    """
    before, ids, after = _framed(tokenizer, prompt)
    if adapter.kind == "decoder-only":
        after = []
    elif not after and tokenizer.eos_token_id is not None:
        after = [tokenizer.eos_token_id]
    if not before and not ids and not after:
        before = [_beginning(tokenizer)]
    if max_prompt_length is None:
        return before + ids + after
    room = max_prompt_length - len(before) - len(after)
    if room < min(1, len(ids)):
        raise DataError(
            f"max_prompt_length is {max_prompt_length}: nothing of the prompt is left beside "
            f"{len(before) + len(after)} special tokens. Raise it."
        )
    kept = ids[max(len(ids) - room, 0) :] if adapter.kind == "decoder-only" else ids[:room]
    return before + kept + after


def tokenize_completion(
    tokenizer: Any,
    completion: str | Messages,
    max_completion_length: int | None = None,
    *,
    prompt: str | Messages | None = None,
) -> list[int]:
    """Return a completion's ids, EOS last; longer ones are truncated and then end without it.

    `prompt` matters for chat messages alone, whose template sees the whole conversation.
    """
    if isinstance(prompt, list) or isinstance(completion, list):
        text = _chat_completion(tokenizer, prompt, completion)
    else:
        text = completion
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if not ids:
        raise DataError(f"a completion has no tokens (its text is {text!r}). Remove the example.")
    eos = tokenizer.eos_token_id
    ids = ids[: ids.index(eos) + 1] if eos in ids else [*ids, eos]
    if max_completion_length is None:
        return ids
    if max_completion_length < 1:
        raise DataError(f"max_completion_length is {max_completion_length}: every completion truncates to nothing.")
    return ids[:max_completion_length]


def _framed(tokenizer: Any, prompt: str | Messages) -> tuple[list[int], list[int], list[int]]:
    """Split a prompt's ids into what the tokenizer puts in front, the text itself, and what it puts behind."""
    if isinstance(prompt, list):  # a chat template writes the special tokens itself
        text = _chat_text(tokenizer, prompt, generation=True)
        return [], tokenizer(text, add_special_tokens=False)["input_ids"], []
    ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    framed = tokenizer(prompt, add_special_tokens=True)["input_ids"]
    if not ids:  # special tokens only: an EOS stands behind an empty text, everything else in front of it
        cut = framed.index(tokenizer.eos_token_id) if tokenizer.eos_token_id in framed else len(framed)
        return framed[:cut], [], framed[cut:]
    for start in range(len(framed) - len(ids) + 1):
        if framed[start : start + len(ids)] == ids:
            return framed[:start], ids, framed[start + len(ids) :]
    return [], framed, []


def _chat_text(tokenizer: Any, messages: Messages, *, generation: bool) -> str:
    if getattr(tokenizer, "chat_template", None) is None:
        raise DataError(
            "the data holds chat messages, but the tokenizer has no chat template to turn them into text. "
            "Use plain text in prompt and completion, or a tokenizer with a template."
        )
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generation)


def _chat_completion(tokenizer: Any, prompt: str | Messages | None, completion: str | Messages) -> str:
    """Return what the template writes after the prompt."""
    if not isinstance(prompt, list):
        raise DataError("completion is a list of chat messages, so prompt must be one too.")
    answer = [{"role": "assistant", "content": completion}] if isinstance(completion, str) else completion
    before = _chat_text(tokenizer, prompt, generation=True)
    whole = _chat_text(tokenizer, prompt + answer, generation=False)
    if not whole.startswith(before):
        raise DataError(
            "the tokenizer's chat template writes the prompt otherwise once the answer follows, so that the two cannot "
            "be told apart. Use plain text in prompt and completion."
        )
    return whole[len(before) :]


def _beginning(tokenizer: Any) -> int:
    return tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id


def train_tokenizer(texts: Iterable[str], vocab_size: int, kind: str = "encoder-decoder") -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer, which writes any text back as it was.

    Args:
        texts: what the tokens are learned from.
        vocab_size: how many tokens it gets at most; 4 special ones and the 256 bytes are always among them.
        kind: "encoder-decoder": prompts end with EOS; "decoder-only": they do not, and padding goes to the left.
    """
    smallest = len(SPECIAL) + 256
    if vocab_size < smallest:
        raise RecipeError(f"vocab_size is {vocab_size}: a byte-level tokenizer needs at least {smallest}.")
    if kind not in ("encoder-decoder", "decoder-only"):
        raise RecipeError(f"kind is {kind!r}: it must be 'encoder-decoder' or 'decoder-only'.")
    tokenizer = Tokenizer(models.BPE(unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if kind == "encoder-decoder":
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"$A {EOS}", pair=f"$A {EOS} $B {EOS}", special_tokens=[(EOS, SPECIAL.index(EOS))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNK,
        bos_token=BOS,
        padding_side="left" if kind == "decoder-only" else "right",
        clean_up_tokenization_spaces=False,
    )
