"""Making a store of teacher samples: shard by shard, so that a build killed at any moment goes on where it stopped."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from fdistill.errors import DataError, StoreError
from fdistill.models import adapter_for, shared_vocab_size, tokenize_prompt, unwrap
from fdistill.store.drawing import Drawing, Row
from fdistill.store.fingerprints import model_fingerprint, settings_fingerprint, text_fingerprint, tokenizer_fingerprint
from fdistill.store.reader import TeacherStore
from fdistill.store.shards import VERSION, locked, read_index, remove_partials, shard_problem, write_index, write_shard

logger = logging.getLogger("fdistill")


@dataclass(frozen=True)
class _Shard:
    """One file of the store: (example, draw) of every row that it will hold."""

    kind: str
    file: str
    rows: list[Row]


def build_store(
    path: str | Path,
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Any],
    *,
    draws: int = 1,
    beams: int = 0,
    top_k: int = 0,
    seed: int = 0,
    batch_size: int = 32,
    max_prompt_length: int | None = None,
    max_completion_length: int = 128,
    length_penalty: float = 1.0,
    vocab_size: int | None = None,
    shard_draws: int = 512,
    data_fingerprint: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> TeacherStore:
    """Draw from the teacher for every prompt and keep it at `path`; go on where an earlier call was stopped.

    A store that is there already and complete is opened (its damaged shards are made again); one of another teacher,
    tokenizer, data or settings is refused.

    Args:
        path: the store's folder.
        model: the teacher.
        tokenizer: the teacher's.
        prompts: texts or chat messages; a prompt's index is its example's number in the store.
        draws: ancestral samples of every example; 0: none.
        beams: width of the beam search whose result is the example's one "beam" draw; 0: none.
        top_k: how many of the likeliest tokens are kept with their log-probabilities at every step of a sample.
        seed: of the random numbers, which depend on it and on (example, draw) alone.
        batch_size: rows decoded at once. It may change between calls.
        max_prompt_length, max_completion_length: in tokens.
        length_penalty: of the beam search.
        vocab_size: where the vocabulary is cut; None: at the tokenizer's size.
        shard_draws: draws in one file: what an interruption can cost at most.
        data_fingerprint: of the data that the prompts come from; None: of the prompts themselves.
        progress: called with (draws there, draws in all) after every batch.
    """
    if len(prompts) == 0:
        raise DataError("there are no prompts to sample completions for: the training data is empty.")
    if draws < 0 or beams < 0 or (draws == 0 and beams == 0) or shard_draws < 1 or batch_size < 1:
        raise StoreError(f"a store needs draws or beams: draws is {draws} and beams is {beams}.")
    model = unwrap(model)
    vocab_size = vocab_size or shared_vocab_size(model, model, tokenizer)
    settings = {
        "draws": draws,
        "beams": beams,
        "top_k": min(top_k, vocab_size),
        "seed": seed,
        "max_prompt_length": max_prompt_length,
        "max_completion_length": max_completion_length,
        "length_penalty": length_penalty,
        "vocab_size": vocab_size,
    }
    fingerprint = {
        "teacher": model_fingerprint(model),
        "tokenizer": tokenizer_fingerprint(tokenizer),
        "data": data_fingerprint or text_fingerprint(prompts),
        "sampling": settings_fingerprint(settings),
    }
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        remove_partials(folder)
        index = _start_or_resume(folder, fingerprint, settings, len(prompts), shard_draws)
        ids = [tokenize_prompt(tokenizer, adapter_for(model), prompt, max_prompt_length) for prompt in prompts]
        shards = _plan([len(row) for row in ids], draws, beams, index["shard_draws"])
        _build(folder, index, shards, Drawing(model, ids, settings), batch_size, progress)
    return TeacherStore.open(folder)


def _start_or_resume(
    folder: Path, fingerprint: dict[str, str], settings: dict[str, Any], examples: int, shard_draws: int
) -> dict[str, Any]:
    """Return the contents of store.json: those on disk where they are of this very store, new ones where none are."""
    index = read_index(folder)
    if index is not None:
        TeacherStore(folder, index).check(fingerprint)
        if index["examples"] != examples:
            raise StoreError(
                f"the teacher store at {folder} is of {index['examples']} examples, and there are {examples} prompts. "
                "Delete that folder to sample again, or use another one for this run."
            )
        return index
    rows = [examples * settings["draws"], examples if settings["beams"] else 0]
    index = {
        "version": VERSION,
        "fingerprint": fingerprint,
        "settings": settings,
        "examples": examples,
        "shard_draws": shard_draws,
        "planned": sum(-(-count // shard_draws) for count in rows),
        "shards": [],
    }
    write_index(folder, index)
    return index


def _plan(lengths: list[int], draws: int, beams: int, shard_draws: int) -> list[_Shard]:
    """Return all shards in the order in which they are made: examples of similar lengths side by side."""
    order = sorted(range(len(lengths)), key=lambda example: (lengths[example], example))
    shards = []
    for kind, count in (("sample", draws), ("beam", 1 if beams else 0)):
        rows = [(example, draw) for example in order for draw in range(count)]
        for number, start in enumerate(range(0, len(rows), shard_draws)):
            shards.append(_Shard(kind, f"{kind}-{number:05d}.arrow", rows[start : start + shard_draws]))
    return shards


def _build(
    folder: Path,
    index: dict[str, Any],
    shards: list[_Shard],
    drawing: Drawing,
    batch_size: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Make every shard that is not there yet, or is not whole."""
    written = {entry["file"]: entry for entry in index["shards"]}
    total = sum(len(shard.rows) for shard in shards)
    done = 0
    for shard in shards:
        if not _is_whole(folder, written.get(shard.file)):
            parts = []
            for start in range(0, len(shard.rows), batch_size):
                parts.append(drawing.draw(shard.kind, shard.rows[start : start + batch_size]))
                if progress is not None and start + batch_size < len(shard.rows):
                    progress(done + start + batch_size, total)
            entry = write_shard(folder / shard.file, pa.concat_tables(parts))
            written[shard.file] = {"kind": shard.kind, **entry}
            index["shards"] = [written[other.file] for other in shards if other.file in written]
            write_index(folder, index)
        done += len(shard.rows)
        if progress is not None:
            progress(done, total)


def _is_whole(folder: Path, entry: dict[str, Any] | None) -> bool:
    """Tell whether a shard need not be made (again)."""
    if entry is None:
        return False
    problem = shard_problem(folder / entry["file"], entry)
    if problem is not None:
        logger.warning("%s %s; it is made again", folder / entry["file"], problem)
    return problem is None
