"""The Markdown pages of docs/ as these tests read them: their fences, and the blocks of code that a reader would type."""

from __future__ import annotations

import doctest
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Fence(NamedTuple):
    """A fenced block: its language, its text, and the line (from 0) of the page on which the text begins."""

    language: str
    text: str
    line: int


def pages() -> list[Path]:
    """Every page of the documentation; what a build made is none."""
    return sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.relative_to(DOCS).parts)


def fences(text: str, line: int = 0) -> Iterator[Fence]:
    """All fences, those inside directives such as {note} too."""
    for token in MarkdownIt("commonmark").parse(text):
        if token.type == "fence" and token.map is not None:
            language, first = token.info.strip().split(" ")[0], line + token.map[0] + 1
            if language.startswith("{") and language.strip("{}") not in ("code-block", "code", "doctest"):
                yield from fences(token.content, first)
            else:
                yield Fence(language, token.content, first)


def doctest_of(path: Path) -> doctest.DocTest:
    """The page as one doctest, its blocks in one namespace; line numbers are those of the page."""
    text = path.read_text(encoding="utf-8")
    lines = [""] * (len(text.splitlines()) + 1)
    for fence in fences(text):
        if ">>>" in fence.text:
            for i, written in enumerate(fence.text.splitlines()):
                lines[fence.line + i] = written
    name = str(path.relative_to(DOCS)) if path.is_relative_to(DOCS) else path.name
    return doctest.DocTestParser().get_doctest("\n".join(lines), {"__name__": "page"}, name, str(path), 0)


def failures(page: doctest.DocTest) -> str:
    """What a run of the page has to complain about; nothing where every block gives what it shows."""
    said: list[str] = []
    doctest.DocTestRunner(optionflags=FLAGS, verbose=False).run(page, out=said.append)
    return "".join(said)
