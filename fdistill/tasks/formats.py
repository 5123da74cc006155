"""The formats by name: for each, how a file (or a hub data set) becomes pairs of prompt and completion."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fdistill.errors import DataError
from fdistill.tasks.dart import LINEARISATIONS, read_dart
from fdistill.tasks.example import Pair
from fdistill.tasks.files import Row
from fdistill.tasks.json_files import json_entries, json_rows
from fdistill.tasks.tables import column, csv_rows, parallel_lines, parquet_rows, table_rows


@dataclass(frozen=True)
class Format:
    """How one format is read.

    Attributes:
        summary: one line for people.
        read: from a path and the recipe's `data` keys to pairs; None where the text is built in.
        rows: from rows of columns to pairs, for formats that are tables and so may also come from a hub.
        parallel: reads two files of corresponding lines, where the format has such a form.
        skip_empty: whether entries with an empty text are left out (their official files hold some) or refused.
        options: the keys of `data` that the format understands beside those of every format.
        built_in: whether data.train and the others are numbers of examples that the package itself writes.
        completions: whether its examples have completions; where not, the teacher writes them.
    """

    summary: str
    read: Callable[[Path, Mapping[str, Any]], Iterator[Pair]] | None = None
    rows: Callable[[Iterable[Row], Mapping[str, Any]], Iterator[Pair]] | None = None
    parallel: Callable[[Path, Path, Mapping[str, Any]], Iterator[Pair]] | None = None
    skip_empty: bool = False
    options: tuple[str, ...] = field(default=())
    built_in: bool = False
    completions: bool = True


FORMATS: dict[str, Format] = {}

TRANSLATION_PREFIX = "translate English to Romanian: "
END_OF_TURN = "<|endoftext|>"


# --------------------------------------------------------------------------- E2E


def _e2e(rows: Iterable[Row], options: Mapping[str, Any]) -> Iterator[Pair]:
    for where, row in rows:
        yield Pair(_strip(column(row, "mr", where)), _strip(column(row, "ref", where)), where)


FORMATS["e2e"] = Format(
    "E2E NLG: csv with columns mr, ref",
    read=lambda path, options: _e2e(csv_rows(path), options),
    rows=_e2e,
)


# --------------------------------------------------------------------------- DART

FORMATS["dart"] = Format(
    "DART: json (tripleset, annotations) or WebNLG-style xml (mtriple, lex)",
    read=lambda path, options: read_dart(path, linearisation(options)),
    skip_empty=True,
    options=("linearisation",),
)


def linearisation(options: Mapping[str, Any]) -> str:
    name = options.get("linearisation") or "paper"
    if name not in LINEARISATIONS:
        raise DataError(f"data.linearisation is {name!r}; it must be one of {', '.join(LINEARISATIONS)}.")
    return name


# --------------------------------------------------------------------------- XSum


def _xsum(rows: Iterable[Row], options: Mapping[str, Any]) -> Iterator[Pair]:
    for where, row in rows:
        document, summary = column(row, "document", where), column(row, "summary", where)
        yield Pair(_strip(document), _strip(summary), where)


def _plain_parallel(first: Path, second: Path, options: Mapping[str, Any]) -> Iterator[Pair]:
    for where, source, target in parallel_lines(first, second):
        yield Pair(source.strip(), target.strip(), where)


def _strip(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else value


FORMATS["xsum"] = Format(
    "XSum: columns document, summary (csv, jsonl, parquet), or parallel FILE.source,FILE.target",
    read=lambda path, options: _xsum(table_rows(path), options),
    rows=_xsum,
    parallel=_plain_parallel,
    skip_empty=True,
)


# --------------------------------------------------------------------------- WMT16 EN-RO


def _prefix(options: Mapping[str, Any]) -> str:
    prefix = options.get("prefix")
    return TRANSLATION_PREFIX if prefix is None else prefix


def _wmt(rows: Iterable[Row], options: Mapping[str, Any]) -> Iterator[Pair]:
    prefix = _prefix(options)
    for where, row in rows:
        pair = column(row, "translation", where)
        if not isinstance(pair, Mapping) or not all(isinstance(pair.get(key), str) for key in ("en", "ro")):
            raise DataError(
                f'{where}: the column translation must be an object with texts for "en" and "ro". '
                "Other language pairs are read as parallel files or as prompt/completion."
            )
        yield _translation(prefix, pair["en"], pair["ro"], where)


def _wmt_parallel(first: Path, second: Path, options: Mapping[str, Any]) -> Iterator[Pair]:
    prefix = _prefix(options)
    for where, source, target in parallel_lines(first, second):
        yield _translation(prefix, source, target, where)


def _translation(prefix: str, source: str, target: str, where: str) -> Pair:
    source = source.strip()
    return Pair(prefix + source if source else "", target.strip(), where)  # a prefix alone is an empty prompt


FORMATS["wmt16-en-ro"] = Format(
    'WMT16 EN-RO: json lines {"translation": {"en", "ro"}}, or parallel FILE.en,FILE.ro',
    read=lambda path, options: _wmt(table_rows(path), options),
    rows=_wmt,
    parallel=_wmt_parallel,
    skip_empty=True,
    options=("prefix",),
)


# --------------------------------------------------------------------------- Commonsense-Dialogues


def _dialogues(path: Path, options: Mapping[str, Any]) -> Iterator[Pair]:
    """Every turn of every dialogue; its prompt is the context and the turns before it, each closed by the separator."""
    separator = options.get("separator")
    separator = END_OF_TURN if separator is None else separator
    for line, key, entry in json_entries(path):
        where = f"{path}, line {line}"
        context, turns = _dialogue(key, entry, where)
        history = context + separator
        for turn in turns:
            yield Pair(history, turn.strip(), where, group=context)
            history += turn.strip() + separator


def _dialogue(key: str | None, entry: Any, where: str) -> tuple[str, list[str]]:
    if key is None or not isinstance(entry, dict) or not {"context", "turns"} <= entry.keys():
        seen = ", ".join(map(str, entry)) if isinstance(entry, dict) else type(entry).__name__
        raise DataError(
            f"{where}: Commonsense-Dialogues' json is one object of dialogues, each with the keys context, speaker and "
            f"turns; here is: {seen}. Check whether this is the right file, or data.format."
        )
    context, turns = entry["context"], entry["turns"]
    if not isinstance(context, str) or not context.strip():
        raise DataError(f"{where}: the context of dialogue {key!r} must be a text.")
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, str) for turn in turns):
        raise DataError(f"{where}: the turns of dialogue {key!r} must be a list of at least one text.")
    return context.strip(), turns


FORMATS["commonsense-dialogue"] = Format(
    "Commonsense-Dialogues: json {id: {context, speaker, turns}}; every turn is an example",
    read=_dialogues,
    options=("separator",),
)


# --------------------------------------------------------------------------- prompt/completion


def _columns(rows: Iterable[Row], options: Mapping[str, Any]) -> Iterator[Pair]:
    prompt = options.get("prompt_column") or "prompt"
    completion = options.get("completion_column") or "completion"
    for where, row in rows:
        yield Pair(column(row, prompt, where), column(row, completion, where), where)


_COLUMNS = ("prompt_column", "completion_column")
FORMATS["jsonl"] = Format(
    "prompt/completion: one JSON object a line (or one list of them); texts or chat messages",
    read=lambda path, options: _columns(json_rows(path), options),
    options=_COLUMNS,
)
FORMATS["csv"] = Format(
    "prompt/completion: csv with a header",
    read=lambda path, options: _columns(csv_rows(path), options),
    options=_COLUMNS,
)
FORMATS["parquet"] = Format(
    "prompt/completion: parquet; texts or chat messages",
    read=lambda path, options: _columns(parquet_rows(path), options),
    options=_COLUMNS,
)
FORMATS["hub"] = Format(
    "prompt/completion: a Hugging Face data set, data.hub its id, data.train and the others names of its splits",
    rows=_columns,
    options=_COLUMNS,
)
FORMATS["restaurants"] = Format(
    "built in: sentences of a known grammar; data.train and the others are numbers", built_in=True
)
FORMATS["instructions"] = Format(
    "built in: requests to an assistant, whose answers the teacher writes; data.train and the others are numbers",
    built_in=True,
    completions=False,
)
