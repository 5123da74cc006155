"""DART: sets of (subject, relation, object) triples and sentences that state them, from its json and its xml."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.parsers import expat

from fdistill.errors import DataError
from fdistill.tasks.example import MAX_TEXT, Pair
from fdistill.tasks.files import read_bytes
from fdistill.tasks.json_files import json_entries

Triple = tuple[str, str, str]


def read_dart(path: Path, linearisation: str = "paper") -> Iterator[Pair]:
    """Every text of every entry, its prompt being the entry's triples in a row.

    Args:
        path: `dart-v1.1.1-full-*.json` or `*.xml` (which is WebNLG's format), plain or gzip-compressed.
        linearisation: "paper", as in the authors' code, or "readable".
    """
    write = LINEARISATIONS[linearisation]
    is_xml = path.name.removesuffix(".gz").endswith(".xml")
    for where, triples, texts in _xml_entries(path) if is_xml else _json_entries(path):
        prompt = write(triples)
        for text in texts:
            yield Pair(prompt, text.strip(), where)


def paper_linearisation(triples: list[Triple]) -> str:
    """`subject : relation : object`, the relation in lower case, triples joined by ` | `."""
    return " | ".join(f"{subject} : {relation.lower()} : {object_}" for subject, relation, object_ in triples)


def readable_linearisation(triples: list[Triple]) -> str:
    """`subject, relation in words: object`, triples joined by `; `, and DART's bracketed names without brackets."""
    return "; ".join(f"{_words(s)}, {_words(relation).lower()}: {o}" for s, relation, o in triples)


LINEARISATIONS = {"paper": paper_linearisation, "readable": readable_linearisation}


def _words(name: str) -> str:
    name = {"[TABLECONTEXT]": "table", "[TITLE]": "title"}.get(name, name)
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.replace("_", " ")) if " " not in name else name


def _json_entries(path: Path) -> Iterator[tuple[str, list[Triple], list[str]]]:
    for line, key, entry in json_entries(path):
        where = f"{path}, line {line}"
        if key is not None or not isinstance(entry, dict) or not {"tripleset", "annotations"} <= entry.keys():
            seen = ", ".join(entry) if isinstance(entry, dict) else type(entry).__name__
            raise DataError(
                f"{where}: DART's json is a list of objects with the keys tripleset and annotations; here is: {seen}. "
                "Check whether this is the right file, or data.format."
            )
        yield where, _triples(entry["tripleset"], where), _annotations(entry["annotations"], where)


def _triples(value: Any, where: str) -> list[Triple]:
    good = isinstance(value, list) and value and all(isinstance(triple, list) and len(triple) == 3 for triple in value)
    if not good or not all(isinstance(part, str) and part.strip() for triple in value for part in triple):
        raise DataError(f"{where}: the tripleset must be a list of [subject, relation, object], all of them texts.")
    return [(s.strip(), relation.strip(), o.strip()) for s, relation, o in value]


def _annotations(value: Any, where: str) -> list[str]:
    good = isinstance(value, list) and value and all(isinstance(item, dict) and "text" in item for item in value)
    if not good or not all(isinstance(item["text"], str) for item in value):
        raise DataError(f"{where}: the annotations must be a list of at least one object with the key text.")
    return [item["text"] for item in value]


class _Entries:
    """Collects the entries of a WebNLG-style xml file while it is parsed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: list[tuple[str, list[Triple], list[str]]] = []
        self.where = ""
        self.triples: list[Triple] = []
        self.texts: list[str] = []
        self.collected: list[str] | None = None
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.CharacterDataHandler = self.text
        self.parser.EntityDeclHandler = self.entity

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "entry":
            self.where = f"{self.path}, line {self.parser.CurrentLineNumber}"
            self.triples, self.texts = [], []
        elif tag in ("mtriple", "lex"):
            self.collected = []

    def text(self, data: str) -> None:
        if self.collected is not None:
            self.collected.append(data)

    def end(self, tag: str) -> None:
        content = "".join(self.collected or []).strip()
        if tag == "mtriple":
            parts = [part.strip() for part in content.split(" | ")]
            if len(parts) != 3 or not all(parts):
                line = f"{self.path}, line {self.parser.CurrentLineNumber}"
                raise DataError(f"{line}: an mtriple must read `subject | relation | object`, not {content[:80]!r}.")
            self.triples.append((parts[0], parts[1], parts[2]))
        elif tag == "lex":
            self.texts.append(content)
        elif tag == "entry":
            self.close_entry()
        if tag in ("mtriple", "lex"):
            self.collected = None

    def close_entry(self) -> None:
        missing = "mtriple" if not self.triples else "lex" if not self.texts else None
        if missing:
            raise DataError(f"{self.where}: the entry that begins here has no {missing}. Add one or remove the entry.")
        self.entries.append((self.where, self.triples, self.texts))

    def entity(self, name: str, *_: Any) -> None:
        line = f"{self.path}, line {self.parser.CurrentLineNumber}"
        raise DataError(f"{line}: declares the entity {name!r}, and such files are not read. Write the text itself.")


def _xml_entries(path: Path) -> list[tuple[str, list[Triple], list[str]]]:
    content = read_bytes(path)
    longest = max(map(len, content.split(b"\n")))
    if longest > 4 * MAX_TEXT:
        raise DataError(f"{path}: a line is longer than {4 * MAX_TEXT:,} bytes, which is taken for a broken file.")
    found = _Entries(path)
    try:
        found.parser.Parse(content, True)
    except expat.ExpatError as error:
        reason = expat.ErrorString(error.code)
        raise DataError(
            f"{path}, line {error.lineno}: bad XML: {reason}. Mend the line, or check that the file is UTF-8 and whole."
        ) from None
    if not found.entries:
        raise DataError(
            f"{path}: there is no <entry> in this xml. DART's xml holds <entry> elements with <mtriple> and <lex>; "
            "check whether this is the right file."
        )
    return found.entries
