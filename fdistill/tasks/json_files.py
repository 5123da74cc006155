"""JSON read strictly: entry by entry, each with its line, a key that stands twice refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fdistill.errors import DataError
from fdistill.tasks.files import Row, decode, empty_file, first_bytes, read_bytes, read_lines


class _DuplicateKey(ValueError):
    pass


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _DuplicateKey(next(key for key in keys if keys.count(key) > 1))
    return values


_DECODER = json.JSONDecoder(object_pairs_hook=_unique_keys)


def _parse(text: str, start: int, path: Path, line: int) -> tuple[Any, int]:
    """One JSON value beginning at `start`, which is on line `line`, and where it ends."""
    try:
        return _DECODER.raw_decode(text, start)
    except _DuplicateKey as error:
        raise DataError(
            f"{path}, line {line}: the entry that begins here has the key {str(error)!r} twice. Keep one of them."
        ) from None
    except json.JSONDecodeError as error:
        raise _bad_json(path, line + text.count("\n", start, error.pos), error.msg) from None
    except RecursionError:
        raise _bad_json(path, line, "nested too deeply") from None


def _bad_json(path: Path, line: int, reason: str) -> DataError:
    reason = reason[0].lower() + reason[1:]
    return DataError(f"{path}, line {line}: bad JSON: {reason}. Mend the line, or check the file's format.")


def json_entries(path: Path) -> Iterator[tuple[int, str | None, Any]]:
    """Line, key and value of every entry of the one list (keys None) or object that a JSON file holds."""
    text = decode(read_bytes(path), path)
    scan = _Scanner(text, path)
    opening = scan.next()
    if opening not in ("[", "{"):
        raise _bad_json(path, scan.line, "the file must hold one list or one object")
    closing = {"[": "]", "{": "}"}[opening]
    scan.take(opening)
    seen: set[str] = set()
    if scan.next() == closing:
        raise DataError(f"{path}, line {scan.line}: the file holds no entries. Check whether this is the right file.")
    while True:
        scan.next()
        line, key = scan.line, None
        if opening == "{":
            key = scan.value()
            if not isinstance(key, str):
                raise _bad_json(path, line, "the keys of an object must be in double quotes")
            if key in seen:
                raise DataError(f"{path}, line {line}: the key {key!r} stands here again. Rename or remove one.")
            seen.add(key)
            scan.take(":")
        yield line, key, scan.value()
        if scan.next() == closing:
            scan.take(closing)
            break
        scan.take(",")
    if scan.next():
        raise _bad_json(path, scan.line, "more text after the end of the list or object")


class _Scanner:
    """A position in JSON text that knows its line."""

    def __init__(self, text: str, path: Path) -> None:
        self.text, self.path, self.position, self.line = text, path, 0, 1

    def next(self) -> str:
        """The next character that is no space, or an empty string at the end."""
        while self.position < len(self.text) and self.text[self.position] in " \t\r\n":
            self.line += self.text[self.position] == "\n"
            self.position += 1
        return self.text[self.position : self.position + 1]

    def take(self, character: str) -> None:
        found = self.next()
        if found != character:
            seen = f"found {found!r}" if found else "the file ends"
            raise _bad_json(self.path, self.line, f"{character!r} expected, {seen}")
        self.position += 1

    def value(self) -> Any:
        self.next()
        value, end = _parse(self.text, self.position, self.path, self.line)
        self.line += self.text.count("\n", self.position, end)
        self.position = end
        return value


def json_rows(path: Path) -> Iterator[Row]:
    """The objects of a JSON Lines file (one a line), or of a JSON file that is one list."""
    start = first_bytes(path).removeprefix(b"\xef\xbb\xbf").lstrip()
    entries = ((n, value) for n, _, value in json_entries(path)) if start[:1] == b"[" else _json_lines(path)
    for line, value in entries:
        if not isinstance(value, dict):
            raise DataError(
                f"{path}, line {line}: a JSON object with columns such as "
                f'{{"prompt": "...", "completion": "..."}} is needed, not {_kind(value)}.'
            )
        yield f"{path}, line {line}", value


def _kind(value: Any) -> str:
    names = {list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "null")


def _json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    blank: int | None = None
    for number, line in read_lines(path):
        if not line.strip():
            blank = blank or number
            continue
        if blank:
            raise DataError(f"{path}, line {blank}: the line is empty. Remove it: JSON Lines holds one object a line.")
        start = len(line) - len(line.lstrip())
        value, end = _parse(line, start, path, number)
        if line[end:].strip():
            raise _bad_json(path, number, f"more text after the object: {line[end:].strip()[:40]!r}")
        yield number, value
    if blank == 1:
        raise empty_file(path)
