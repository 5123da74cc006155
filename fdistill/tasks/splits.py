"""From the `data` section of a recipe to the examples of one split."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fdistill.errors import DataError, closest
from fdistill.tasks import instructions, restaurants
from fdistill.tasks.example import Example, Pair, Text, checked, plain_text, text_key
from fdistill.tasks.formats import FORMATS, Format
from fdistill.tasks.hub import hub_rows

SPLITS = ("train", "validation", "test")


def load_split(data: Any, split: str, seed: int = 0) -> list[Example]:
    """Read one split, opening nothing that it does not need.

    Args:
        data: the `data` section of a recipe, or a mapping with the same keys: `format`, and for each split a path, two
            parallel paths `a.source,a.target`, the name of a split of `hub`, for validation and test also a share of
            train (a number between 0 and 1), or for a built-in format a number of examples.
        split: "train", "validation" or "test".
        seed: decides which inputs a share and a limit choose, and what a built-in format writes; `data.seed`,
            where given, stands in for it.

    Returns:
        For train one example per (prompt, completion) pair in the file's order; for validation and test one per
        distinct prompt, in the order of their first appearance, with all references.
    """
    settings = _settings(data)
    seed = settings["seed"] if settings.get("seed") is not None else seed
    form = find_format(settings)
    if split not in SPLITS:
        raise DataError(f"there is no split {split!r}. It must be one of {', '.join(SPLITS)}.{closest(split, SPLITS)}")
    if settings.get(split) is None:
        raise DataError(
            f"data.{split} is not set. Name the data, for example with --set data.{split}={_sample(settings)}."
        )
    if form.built_in:
        examples = _built_in(settings, split, seed)
    else:
        pairs = _pairs_of(settings, form, split, seed)
        examples = [Example(p.prompt, p.completion) for p in pairs] if split == "train" else merged(pairs)
    return limited(examples, settings.get("limit"), f"{seed}/limit")


def find_format(settings: Mapping[str, Any]) -> Format:
    """The format that `data.format` names."""
    name = settings.get("format")
    if name is None:
        raise DataError(f"data.format is not set. It must be one of {', '.join(FORMATS)}.")
    if name not in FORMATS:
        raise DataError(
            f"data.format {name!r} is unknown.{closest(str(name), FORMATS)} It must be one of {', '.join(FORMATS)}."
        )
    return FORMATS[name]


def merged(pairs: Iterable[Pair]) -> list[Example]:
    """One example per distinct prompt, with every text given for it as a reference, in the order read."""
    found: dict[str, tuple[Text, Text, list[str]]] = {}
    for pair in pairs:
        entry = found.setdefault(text_key(pair.prompt), (pair.prompt, pair.completion, []))
        entry[2].append(plain_text(pair.completion))
    return [Example(prompt, completion, tuple(references)) for prompt, completion, references in found.values()]


def limited(examples: list[Example], limit: int | None, salt: str) -> list[Example]:
    """The examples of at most `limit` distinct prompts, in their order; a smaller limit chooses among the same."""
    if limit is None:
        return examples
    if limit < 1:
        raise DataError(f"data.limit is {limit}; it must be at least 1, or null for all.")
    keep = set(_shuffled((text_key(example.prompt) for example in examples), salt)[:limit])
    return [example for example in examples if text_key(example.prompt) in keep]


def _settings(data: Any) -> Mapping[str, Any]:
    return data if isinstance(data, Mapping) else data.model_dump()


def _sample(settings: Mapping[str, Any]) -> str:
    if FORMATS[settings["format"]].built_in:
        return "200"
    return "SPLIT" if settings.get("hub") or settings["format"] == "hub" else "FILE"


def _shuffled(keys: Iterable[str], salt: str) -> list[str]:
    """Distinct keys in an order that depends on the salt and each key alone, not on their number or order."""
    return sorted(set(keys), key=lambda key: hashlib.sha256(f"{salt}/{key}".encode()).digest())


def _pairs_of(settings: Mapping[str, Any], form: Format, split: str, seed: int) -> list[Pair]:
    """The pairs of a split; where validation or test are shares of train, train is what remains."""
    shares = {name: settings[name] for name in ("validation", "test") if isinstance(settings.get(name), float)}
    for name, share in shares.items():
        if not 0 < share < 1:
            raise DataError(
                f"data.{name} is {share}; a share of train must lie between 0 and 1. A file is named by its path."
            )
    if split != "train" and split not in shares:
        return _read(settings, form, settings[split], split)
    if settings.get("train") is None:
        raise DataError(f"data.{split} is a share of data.train, which is not set. Name it with --set data.train=FILE.")
    pairs = _read(settings, form, settings["train"], "train")
    parts = _parts({_group(pair) for pair in pairs}, shares, f"{seed}/share")
    wanted = [pair for pair in pairs if parts.get(_group(pair), "train") == split]
    if not wanted:
        raise DataError(f"nothing is left for {split} after {shares} of data.train: give more data or smaller shares.")
    return wanted


def _group(pair: Pair) -> str:
    return text_key(pair.prompt) if pair.group is None else pair.group


def _parts(groups: Iterable[str], shares: Mapping[str, float], salt: str) -> dict[str, str]:
    """Which groups are held out for which split: of n groups, a share s gets s·n of them, rounded, at least one."""
    order = _shuffled(groups, salt)
    parts: dict[str, str] = {}
    start = 0
    for name, share in shares.items():
        end = start + max(1, math.floor(share * len(order) + 0.5))
        parts.update(dict.fromkeys(order[start:end], name))
        start = end
    return parts


def _read(settings: Mapping[str, Any], form: Format, source: Any, split: str) -> list[Pair]:
    skip = settings.get("skip_empty")
    pairs = list(
        checked(_raw_pairs(settings, form, source, split), skip_empty=form.skip_empty if skip is None else skip)
    )
    if not pairs:
        raise DataError(f"data.{split} ({source}): there are no examples in it. Check the file and data.format.")
    return pairs


def _raw_pairs(settings: Mapping[str, Any], form: Format, source: Any, split: str) -> Iterator[Pair]:
    hub = settings.get("hub")
    if not isinstance(source, str):
        raise DataError(f"data.{split} is {source!r}; a {'split name' if hub else 'path'} is needed.")
    if hub is not None:
        return _require(form.rows, settings, "from a hub")(
            hub_rows(hub, source, subset=settings.get("subset")), settings
        )
    if settings["format"] == "hub":
        raise DataError("data.hub is not set. Name a Hugging Face data set with --set data.hub=NAME.")
    path = Path(source).expanduser()
    if "," in source and not path.exists():
        names = [Path(part.strip()).expanduser() for part in source.split(",")]
        if len(names) != 2:
            raise DataError(
                f"data.{split} names {len(names)} files ({source}); parallel text is two files, source,target."
            )
        return _require(form.parallel, settings, "from two parallel files")(*names, settings)
    return _require(form.read, settings, "from a file")(path, settings)


def _require(
    reader: Callable[..., Iterator[Pair]] | None, settings: Mapping[str, Any], how: str
) -> Callable[..., Iterator[Pair]]:
    if reader is None:
        raise DataError(f"the format {settings['format']} cannot be read {how}: {find_format(settings).summary}.")
    return reader


def _built_in(settings: Mapping[str, Any], split: str, seed: int) -> list[Example]:
    sizes: dict[str, int] = {}
    for name in SPLITS:
        value = settings.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise DataError(
                f"data.{name} is {value!r}; the format {settings['format']} needs a number of examples, such as 200."
            )
        sizes[name] = value or 0
    writer = restaurants if settings["format"] == "restaurants" else instructions
    return writer.examples(split, sizes, seed)
