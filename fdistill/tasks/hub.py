"""Rows of a Hugging Face data set by its id, or of one that `save_to_disk` or a folder of files holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fdistill.errors import DataError, closest
from fdistill.tasks.files import Row


def hub_rows(name: str, split: str, *, subset: str | None = None) -> Iterator[Row]:
    """The rows of one split of the data set `name` (with `subset`, one of its configurations), counted from 1."""
    data = _load(name, split, subset)
    for number, row in enumerate(data, 1):
        yield f"{name} ({split}), row {number}", dict(row)


def _load(name: str, split: str, subset: str | None) -> Any:
    import datasets

    try:
        return datasets.load_dataset(name, subset, split=split)
    except Exception as error:  # the hub's client, the network and the file readers raise errors of many kinds
        first = (str(error).strip() or type(error).__name__).split("\n")[0].rstrip(".")
        reason = f"{first}.{_nearest_split(name, split, subset, error)}"
    raise DataError(
        f"data.hub {name!r}, split {split!r}: cannot be loaded: {reason} Check data.hub, data.subset and the split's "
        "name; without a network, name a local folder or a file of another data.format."
    ) from None


def _nearest_split(name: str, split: str, subset: str | None, error: Exception) -> str:
    if not isinstance(error, ValueError) or "split" not in str(error).lower():
        return ""
    import datasets

    try:
        return closest(split, datasets.get_dataset_split_names(name, subset))
    except Exception:  # only a suggestion
        return ""
