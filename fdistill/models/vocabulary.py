"""Do teacher and student share one vocabulary? Distillation compares their next-token probabilities, so they must."""

from __future__ import annotations

from typing import Any

from fdistill.errors import VocabularyError

# Encoded with both tokenizers: digits, case, space, punctuation, other scripts, and joins that merges differ in.
PROBES = (
    "The quick brown fox jumps over the lazy dog.",
    "name[The Eagle], eatType[coffee shop], priceRange[£20-25]",
    "  two  spaces\tand\na line; 3.14159 and 1,000,000 (50%)",
    "UPPER lower MiXed don't it's unbelievable internationalisation",
    "Zażółć gęślą jaźń, ștefan țară, 日本語, привет, 🙂",
)

_WHY = (
    "Distillation compares next-token probabilities, so both need one tokenizer. Use a student made with "
    "make_student(teacher), or a teacher of the same family."
)


def tokenizer_size(tokenizer: Any) -> int:
    """Return how many rows of an embedding table the tokenizer can name: its largest id and one."""
    return max(tokenizer.get_vocab().values()) + 1


def shared_vocab_size(teacher: Any, student: Any, tokenizer: Any = None) -> int:
    """Return the size to which the logits of both models are cut: what all of models and tokenizer have.

    Embedding tables are often padded past the tokenizer, and not both by the same number.
    """
    sizes = [_table_size(teacher), _table_size(student)]
    return min(sizes if tokenizer is None else [*sizes, tokenizer_size(tokenizer)])


def check_vocabularies(
    teacher_tokenizer: Any, student_tokenizer: Any, teacher: Any = None, student: Any = None
) -> None:
    """Raise VocabularyError unless both tokenizers give every text the same ids and both models have rows for them.

    Args:
        teacher_tokenizer, student_tokenizer: may be one object, which is quick.
        teacher, student: models, whose embedding tables are compared with the tokenizers where they are given.
    """
    if teacher_tokenizer is not student_tokenizer:
        _check_same_ids(teacher_tokenizer, student_tokenizer)
    for role, model, tokenizer in (("teacher", teacher, teacher_tokenizer), ("student", student, student_tokenizer)):
        if model is not None:
            _check_table(role, model, tokenizer)


def _check_same_ids(teacher: Any, student: Any) -> None:
    teacher_vocab, student_vocab = teacher.get_vocab(), student.get_vocab()
    sizes = f"{len(teacher_vocab)} and {len(student_vocab)} tokens"
    if teacher_vocab != student_vocab:
        raise VocabularyError(
            f"teacher and student do not share a vocabulary: {sizes}, and "
            f"{_difference(teacher_vocab, student_vocab)} {_WHY}"
        )
    ends = teacher.eos_token_id, student.eos_token_id
    if ends[0] != ends[1]:
        raise VocabularyError(
            f"teacher and student do not share a vocabulary: {sizes}, but the end-of-text token is {ends[0]} for one "
            f"and {ends[1]} for the other. {_WHY}"
        )
    for text in PROBES:
        ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for tokenizer in (teacher, student)]
        if ids[0] != ids[1]:
            raise VocabularyError(
                f"teacher and student do not share a tokenizer: both know the same {len(teacher_vocab)} tokens, but "
                f"{text!r} is {_shortened(ids[0])} for one and {_shortened(ids[1])} for the other. {_WHY}"
            )


def _difference(teacher_vocab: dict[str, int], student_vocab: dict[str, int]) -> str:
    """Name the first token id that means something else, or that only one of the two has."""
    teacher_tokens = {index: token for token, index in teacher_vocab.items()}
    student_tokens = {index: token for token, index in student_vocab.items()}
    for index in sorted(teacher_tokens.keys() & student_tokens.keys()):
        one, other = teacher_tokens[index], student_tokens[index]
        if one != other:
            return f'token {index} is "{one}" for one and "{other}" for the other.'
    index = min(teacher_tokens.keys() ^ student_tokens.keys())
    owner, tokens = ("teacher", teacher_tokens) if index in teacher_tokens else ("student", student_tokens)
    return f'only the {owner} has token {index}, "{tokens[index]}".'


def _check_table(role: str, model: Any, tokenizer: Any) -> None:
    rows, size = _table_size(model), tokenizer_size(tokenizer)
    if rows < size:
        raise VocabularyError(
            f"the {role}'s embedding table has {rows} rows, but its tokenizer has {size} tokens: the ids from {rows} "
            "on cannot be read. Use the tokenizer that the model was trained with, or resize_token_embeddings."
        )


def _table_size(model: Any) -> int:
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    head = inner.get_output_embeddings()
    weight = getattr(head, "weight", None)
    return int(weight.shape[0]) if weight is not None and weight.ndim == 2 else int(inner.config.vocab_size)


def _shortened(ids: list[int]) -> str:
    return str(ids) if len(ids) <= 6 else "[" + ", ".join(map(str, ids[:6])) + ", …]"
