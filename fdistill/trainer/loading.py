"""Models and tokenizer of a trainer: by name or as objects, checked against each other before anything long starts."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from transformers import set_seed

from fdistill.errors import TrainingError, VocabularyError
from fdistill.models import (
    adapter_for,
    check_vocabularies,
    count_parameters,
    load_model,
    load_tokenizer,
    shared_vocab_size,
    special_tokens,
)
from fdistill.trainer.forward import check_adapters

logger = logging.getLogger("fdistill")


def resolve_model(model: Any, kwargs: Any, what: str, setting: str) -> Any:
    """Load a model given by name or folder; return one given as an object as it is.

    Args:
        model: a name, a folder or a model.
        kwargs: for from_pretrained, where it is loaded.
        what: "student" or "teacher", for messages.
        setting: the setting `kwargs` came from.
    """
    if model is None:
        raise TrainingError(f"there is no {what}: pass model= a name, a folder or a model.")
    if loaded(model) is None:
        return load_model(str(model), **dict(kwargs or {}))
    if kwargs:
        raise TrainingError(f"{setting} are for loading by name, but the {what} is a model already. Leave them out.")
    return model


def loaded(model: Any) -> Any:
    """A model given as an object; None for one given by name."""
    return None if isinstance(model, str) or hasattr(model, "__fspath__") else model


def resolve_tokenizer(tokenizer: Any, model: Any) -> Any:
    """Return the tokenizer, loaded from where the model came from if it was not given."""
    if tokenizer is not None:
        return tokenizer
    name = getattr(getattr(model, "config", None), "_name_or_path", "")
    if not name:
        raise TrainingError(
            "there is no tokenizer: the student is a model without a name to load one by. Pass processing_class=."
        )
    return load_tokenizer(name)


def add_adapters(model: Any, peft_config: Any, args: Any) -> Any:
    """Wrap the student in PEFT adapters; only they are trained. Their first weights are those of the run's seed."""
    if peft_config is not None:
        try:
            from peft import get_peft_model
        except ImportError:
            raise TrainingError("peft_config needs the package peft: pip install 'fdistill[peft]'.") from None
        set_seed(args.seed)
        model = get_peft_model(model, peft_config)
    check_adapters(model)
    if args.gradient_checkpointing and hasattr(model, "peft_config"):
        model.enable_input_require_grads()  # a checkpointed layer has no gradient unless one of its inputs does
    return model


#: Embedding tables of one family are padded by less than this.
LARGEST_PADDING = 1024


def check_vocabulary(student: Any, teacher: Any, tokenizer: Any) -> int:
    """Return how many tokens the models share; refuse models of different vocabularies.

    The teacher's own tokenizer is compared where its folder has one; tables of quite different sizes are refused anyway.
    """
    folder = getattr(getattr(teacher, "config", None), "_name_or_path", "")
    theirs = load_tokenizer(folder) if folder and (Path(folder) / "tokenizer_config.json").is_file() else tokenizer
    check_vocabularies(theirs, tokenizer, teacher, student)
    if teacher is not None:
        rows = [shared_vocab_size(model, model) for model in (teacher, student)]
        if abs(rows[0] - rows[1]) >= LARGEST_PADDING:
            raise VocabularyError(
                f"teacher and student do not share a vocabulary: their embedding tables have {rows[0]} and {rows[1]} rows, "
                "more apart than padding explains. Distillation compares next-token probabilities, so both need one "
                "tokenizer. Use a student made with make_student(teacher), or a teacher of the same family."
            )
    return shared_vocab_size(teacher if teacher is not None else student, student, tokenizer)


def check_pair(student: Any, teacher: Any) -> None:
    """Refuse a teacher that cannot teach this student (vocabularies are checked apart), warn of a smaller one."""
    if teacher is student:
        raise TrainingError(
            "teacher and student are one object: training would change the teacher. Pass a copy (make_student(teacher))."
        )
    ours, theirs = adapter_for(student), adapter_for(teacher)
    if ours.kind != theirs.kind:
        raise TrainingError(
            f"the student is {ours.kind} and the teacher {theirs.kind}; both need to be of one kind, so that they read "
            "one prompt and one prefix. Use make_student(teacher), or a teacher of the student's kind."
        )
    if special_tokens(student).forced != special_tokens(teacher).forced:
        raise VocabularyError(
            f"decoding forces the first tokens {special_tokens(student).forced} of the student and "
            f"{special_tokens(teacher).forced} of the teacher. Set forced_bos_token_id of both generation configs to one value."
        )
    ends = special_tokens(student).eos, special_tokens(teacher).eos
    if not set(ends[0]) & set(ends[1]):
        raise VocabularyError(
            f"completions of the student end with token {_words(ends[0])} and the teacher's with {_words(ends[1])}. Set "
            "eos_token_id of both generation configs to one value."
        )
    small, large = count_parameters(teacher), count_parameters(student)
    if small < large:
        logger.warning(
            "the teacher has %s parameters and the student %s: are they swapped? Training goes on.",
            f"{small:,}",
            f"{large:,}",
        )


def _words(ids: tuple[int, ...]) -> str:
    return " or ".join(map(str, ids)) or "none at all"
