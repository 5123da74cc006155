"""What every reader turns a file into: pairs of a prompt and a completion, and the examples made of them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from fdistill.errors import DataError

logger = logging.getLogger("fdistill")

MAX_TEXT = 1_000_000  # characters of one prompt or completion: anything longer is a broken file, not a text

Messages = list[dict[str, str]]
Text = str | Messages


@dataclass(frozen=True)
class Example:
    """One input with what to write for it.

    In training data every (prompt, completion) pair is an example of its own and `references` is empty. In validation
    and test data equal prompts are one example whose `references` hold every text given for the prompt, the first of
    them also being its `completion`. Chat data has lists of messages for both, and the messages' text as references.
    """

    prompt: Text
    completion: Text
    references: tuple[str, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        """The reference texts, or the completion alone where there are none."""
        return self.references or (plain_text(self.completion),)


@dataclass(frozen=True)
class Pair:
    """A prompt and a completion as read, where they stood, and the group that splits must not tear apart."""

    prompt: Any
    completion: Any
    where: str
    group: str | None = None


def plain_text(text: Text) -> str:
    """A text as it is, or the contents of chat messages one below the other."""
    return text if isinstance(text, str) else "\n".join(message["content"] for message in text)


def text_key(text: Text) -> str:
    """A string that is equal exactly for equal texts or equal chat messages."""
    return text if isinstance(text, str) else "messages:" + json.dumps(text, sort_keys=True, ensure_ascii=False)


def checked(pairs: Iterable[Pair], *, skip_empty: bool) -> Iterator[Pair]:
    """Pass on pairs whose prompt and completion are usable; refuse the first that is not.

    Where `skip_empty`, pairs with an empty text are left out and counted in one warning.
    """
    skipped = 0
    for pair in pairs:
        empty = _empty_part(pair)
        if empty and not skip_empty:
            raise DataError(
                f"{pair.where}: the {empty} is empty. Give it a text or remove the entry, "
                "or leave out all such entries with data.skip_empty=true."
            )
        if empty:
            skipped += 1
            continue
        yield pair
    if skipped:
        logger.warning("left out %d %s with an empty text", skipped, "entry" if skipped == 1 else "entries")


def _empty_part(pair: Pair) -> str | None:
    for name, text in (("prompt", pair.prompt), ("completion", pair.completion)):
        if not isinstance(text, str):
            _check_messages(text, name, pair.where)
        words = plain_text(text)
        if len(words) > MAX_TEXT:
            raise DataError(
                f"{pair.where}: the {name} has {len(words):,} characters; more than {MAX_TEXT:,} is taken for a "
                "broken file. Check its quotes and line ends, or shorten the text."
            )
        if not words.isascii():
            _check_unicode(words, name, pair.where)
        if not words.strip():
            return name
    if isinstance(pair.prompt, str) != isinstance(pair.completion, str):
        raise DataError(
            f"{pair.where}: of prompt and completion one is text and the other chat messages. "
            "Write both as text or both as messages."
        )
    return None


def _check_unicode(words: str, name: str, where: str) -> None:
    try:
        words.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where}: the {name} holds half a surrogate pair ({words[error.start]!r}), which is no character. "
            "Write the character itself in UTF-8."
        ) from None


def _check_messages(value: Any, name: str, where: str) -> None:
    good = (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(message, dict)
            and isinstance(message.get("role"), str)
            and isinstance(message.get("content"), str)
            for message in value
        )
    )
    if not good:
        shown = repr(value)
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        raise DataError(
            f"{where}: the {name} is {shown}; a text is needed, or a list of chat messages such as "
            '[{"role": "user", "content": "..."}].'
        )
