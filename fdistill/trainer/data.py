"""From rows of text to padded batches: the dataset, tokenised once, and the collator.

A batch is a dictionary of tensors: ``input_ids`` and ``attention_mask`` (the prompts, [B, S]), ``example`` [B], and by
source "data" or "teacher" ``<source>_tokens`` and ``<source>_mask`` [B, T]; from a store with top-k also
``teacher_top_ids`` and ``teacher_top_log_probs`` [B, T, k], ``teacher_tail_log_prob`` and ``teacher_token_log_probs`` [B, T].
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import Dataset

from fdistill.errors import DataError
from fdistill.models import Adapter, tokenize_completion, tokenize_prompt
from fdistill.models.batches import pad_completions

logger = logging.getLogger("fdistill")


@dataclass(frozen=True)
class TextFormat:
    """How text becomes ids: the tokenizer, the student's adapter, its special tokens, and the limits in tokens."""

    tokenizer: Any
    adapter: Adapter
    pad_id: int
    forced: tuple[int, ...]
    max_prompt_length: int | None
    max_completion_length: int


class TokenizedDataset(Dataset):
    """Examples as token ids; the index of a row is the example's id, by which its draws are keyed.

    Attributes:
        prompts, completions: ids by example; completions are None where no objective reads them.
        draws: by example, the teacher's completions that came with the data; None where there are none.
        store: a `TeacherStore` that has them, read as rows are asked for; None where there is none.
        kind: which draws of the store are read, "sample" or "beam".
        max_completion_length: stored completions are cut to it.
        references: by example, the texts that outputs are scored with; None where nothing is scored.
    """

    def __init__(
        self,
        prompts: Sequence[Sequence[int]],
        completions: Sequence[Sequence[int]] | None = None,
        draws: Sequence[Sequence[Sequence[int]]] | None = None,
        store: Any = None,
        kind: str = "sample",
        max_completion_length: int | None = None,
    ) -> None:
        self.prompts, self.completions, self.draws = prompts, completions, draws
        self.store, self.kind = store, kind
        self.max_completion_length = max_completion_length
        self.references: list[list[str]] | None = None
        # In shared memory, so that loader workers that outlive an epoch see it move.
        self._epoch = torch.zeros((), dtype=torch.long).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Choose which of several teacher completions an example shows: they take turns, one an epoch."""
        self._epoch.fill_(epoch)

    def lengths(self) -> list[int]:
        """Tokens of every example, by which batches of similar lengths are made: its prompt and the completions kept here."""
        found = [len(prompt) for prompt in self.prompts]
        if self.completions is not None:
            found = [length + len(ids) for length, ids in zip(found, self.completions, strict=True)]
        if self.draws is not None:
            found = [length + max(map(len, draws)) for length, draws in zip(found, self.draws, strict=True)]
        return found

    @property
    def has_teacher_completions(self) -> bool:
        return self.draws is not None or self.store is not None

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row: dict[str, Any] = {"input_ids": self.prompts[index], "example": index}
        if self.completions is not None:
            row["data"] = self.completions[index]
        if self.draws is not None:
            row["teacher"] = self.draws[index][int(self._epoch) % len(self.draws[index])]
        elif self.store is not None:
            stored = self.store.get(index, int(self._epoch) % draws_of(self.store, self.kind), self.kind)
            kept = slice(self.max_completion_length)
            row["teacher"] = stored.tokens[kept]
            if stored.top_k is not None:
                row["top_k"] = tuple(part[kept] for part in stored.top_k)
                row["teacher_log_probs"] = stored.log_probs[kept]
        return row


def draws_of(store: Any, kind: str) -> int:
    """How many completions of that kind a store holds for every example."""
    return max(int(store.draws), 1) if kind == "sample" else 1


def tokenize_dataset(
    dataset: Any, form: TextFormat, *, name: str, needs_completion: bool, store: Any = None, kind: str = "sample"
) -> TokenizedDataset:
    """Tokenise a dataset's ``prompt``, ``completion`` and teacher columns.

    Args:
        dataset: anything with a length that gives dictionaries by index.
        form: how text becomes ids.
        name: what messages call it, "train_dataset".
        needs_completion: whether the objective reads reference completions.
        store: teacher samples kept on disk; columns of the dataset come before it.
        kind: which of the store's draws to read.

    Raises:
        DataError: an empty dataset, a missing column, a completion of which nothing is left.
    """
    if isinstance(dataset, TokenizedDataset):
        return dataset
    columns = check_columns(dataset, name, needs_completion)
    prompts, completions, draws = [], [], []
    with_ids = "teacher_completion_ids" in columns
    with_text = "teacher_completion" in columns and not with_ids
    if with_text:
        logger.warning(
            "%s gives the teacher's completions as text. Text to ids is not a round trip: the ids may differ from those "
            "the teacher drew. Use the column teacher_completion_ids.",
            name,
        )
    for index in range(len(dataset)):
        row, where = dataset[index], f"row {index} of {name}"
        prompts.append(_prompt(form, row["prompt"], where))
        if needs_completion:
            completions.append(_completion(form, row["prompt"], row["completion"], where))
        if with_ids:
            draws.append([_checked_ids(form, ids, where) for ids in _draws(row["teacher_completion_ids"])])
        elif with_text:
            texts = row["teacher_completion"]
            several = isinstance(texts, list) and texts and not isinstance(texts[0], Mapping)
            draws.append([_completion(form, row["prompt"], text, where) for text in (texts if several else [texts])])
        if (with_ids or with_text) and not draws[-1]:
            raise DataError(f"{where} has an empty list of teacher completions.")
    has_draws = with_ids or with_text
    return TokenizedDataset(
        prompts,
        completions if needs_completion else None,
        draws if has_draws else None,
        None if has_draws else store,
        kind,
        form.max_completion_length,
    )


def check_columns(dataset: Any, name: str, needs_completion: bool) -> list[str]:
    """Return a dataset's columns, seen in its first row; refuse one that is empty or lacks what is needed."""
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise DataError(
            f"{name} is a {type(dataset).__name__}, which has no length or index. Draws are keyed by the index of an "
            "example; give a list of dictionaries or a dataset with __len__ and __getitem__."
        )
    if len(dataset) == 0:
        raise DataError(f"{name} is empty. Check the file, the split and any filter it went through.")
    if not isinstance(dataset[0], Mapping):
        raise DataError(f"rows of {name} are {type(dataset[0]).__name__}, not dictionaries with a 'prompt'.")
    columns = list(dataset[0])
    for column in ["prompt", "completion"] if needs_completion else ["prompt"]:
        if column not in columns:
            why = (
                "the objective learns from reference completions" if column == "completion" else "every example has one"
            )
            raise DataError(
                f"{name} has no column {column!r} ({why}); it has: {', '.join(map(str, columns))}. Rename its columns to "
                "prompt and completion."
            )
    return columns


def _prompt(form: TextFormat, prompt: Any, where: str) -> array:
    with _at(where):
        return array("i", tokenize_prompt(form.tokenizer, form.adapter, prompt, form.max_prompt_length))


def _completion(form: TextFormat, prompt: Any, completion: Any, where: str) -> array:
    with _at(where):
        return array("i", tokenize_completion(form.tokenizer, completion, form.max_completion_length, prompt=prompt))


@contextmanager
def _at(where: str) -> Iterator[None]:
    """Say in an error in which row it is."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{where}: prompt and completion must be text or chat messages ({error}).") from error


def _draws(ids: Any) -> list[Sequence[int]]:
    """One completion's ids, or several completions', as a list of completions."""
    ids = ids.tolist() if hasattr(ids, "tolist") else list(ids)
    return [ids] if ids and not isinstance(ids[0], (list, tuple)) else ids


def _checked_ids(form: TextFormat, ids: Sequence[int], where: str) -> array:
    if len(ids) == 0:
        raise DataError(
            f"teacher_completion_ids in {where} are empty: a completion has at least its end-of-text token."
        )
    size = len(form.tokenizer)
    if min(ids) < 0 or max(ids) >= size:
        raise DataError(
            f"teacher_completion_ids in {where} go from {min(ids)} to {max(ids)}, outside the tokenizer's {size} tokens. "
            "They must be ids of the same tokenizer, without padding."
        )
    return array("i", ids[: form.max_completion_length])


class Collator:
    """Pads rows of a `TokenizedDataset` to a batch."""

    def __init__(self, form: TextFormat) -> None:
        self.form = form

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        prompts = self.form.adapter.pad_prompts([row["input_ids"] for row in rows], self.form.pad_id)
        batch = {
            "input_ids": prompts.ids,
            "attention_mask": prompts.mask,
            "example": torch.tensor([row["example"] for row in rows]),
        }
        for source in ("data", "teacher"):
            if source in rows[0]:
                padded = pad_completions([row[source] for row in rows], self.form.pad_id, forced=self.form.forced)
                batch[f"{source}_tokens"], batch[f"{source}_mask"] = padded.tokens, padded.mask
        if "top_k" in rows[0]:
            batch.update(self._top_k(rows, batch["teacher_tokens"].shape[1]))
        return batch

    def _top_k(self, rows: list[dict[str, Any]], width: int) -> dict[str, Tensor]:
        first = len(self.form.forced)
        ids, log_probs, tails, tokens = [], [], [], []
        for row in rows:
            top_ids, top_log_probs, tail = (torch.as_tensor(part) for part in row["top_k"])
            room = (first, width - first - len(top_ids))
            ids.append(pad(top_ids.long(), (0, 0, *room)))
            log_probs.append(pad(top_log_probs, (0, 0, *room)))
            tails.append(pad(tail, room))
            tokens.append(pad(torch.as_tensor(row["teacher_log_probs"]), room))
        return {
            "teacher_top_ids": torch.stack(ids),
            "teacher_top_log_probs": torch.stack(log_probs),
            "teacher_tail_log_prob": torch.stack(tails),
            "teacher_token_log_probs": torch.stack(tokens),
        }
