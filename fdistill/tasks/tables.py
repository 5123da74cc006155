"""Tables (CSV, Parquet, and JSON rows by the file's name) and pairs of parallel text files, read strictly."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fdistill.errors import DataError, closest
from fdistill.tasks.example import MAX_TEXT
from fdistill.tasks.files import Row, empty_file, open_binary, read_lines
from fdistill.tasks.json_files import json_rows


def csv_rows(path: Path) -> Iterator[Row]:
    """The rows of a comma-separated file with a header."""
    csv.field_size_limit(max(csv.field_size_limit(), MAX_TEXT))
    last = 0

    def lines() -> Iterator[str]:
        nonlocal last
        for number, line in read_lines(path):
            last = number
            yield line + "\n"

    reader = csv.reader(lines(), strict=True)
    header: list[str] | None = None
    start = 1
    while True:
        start = last + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise DataError(
                f"{path}, line {start}: bad CSV in the record that begins here: {error}. "
                'Put texts in double quotes, and write a quote inside them as "".'
            ) from None
        if row is None:
            break
        if header is None:
            header = _csv_header(row, path)
        elif row:
            if len(row) != len(header):
                raise DataError(
                    f"{path}, line {start}: the header has {len(header)} columns and this record {len(row)}. "
                    "Put texts that hold commas or line ends in double quotes."
                )
            yield f"{path}, line {start}", dict(zip(header, row, strict=True))


def _csv_header(row: list[str], path: Path) -> list[str]:
    header = [name.strip() for name in row]
    for name in header:
        if header.count(name) > 1:
            raise DataError(f"{path}, line 1: the header has the column {name!r} twice. Rename or remove one of them.")
    return header


def parquet_rows(path: Path) -> Iterator[Row]:
    """The rows of a Parquet file, counted from 1."""
    import pyarrow
    import pyarrow.parquet

    open_binary(path).close()
    if path.stat().st_size == 0:
        raise empty_file(path)
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            for name in names:
                if names.count(name) > 1:
                    raise DataError(f"{path}: the column {name!r} is there twice. Rename or remove one of them.")
            number = 0
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}, row {number}", row
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).split("\n")[0].rstrip(".")
        raise DataError(f"{path}: cannot be read as Parquet: {reason}. Write or download the file again.") from None


READERS = {".csv": csv_rows, ".jsonl": json_rows, ".json": json_rows, ".ndjson": json_rows, ".parquet": parquet_rows}


def table_rows(path: Path) -> Iterator[Row]:
    """The rows of a CSV, JSON Lines, JSON or Parquet file, told apart by the end of its name (before .gz)."""
    suffix = Path(path.name.removesuffix(".gz")).suffix
    if suffix not in READERS:
        open_binary(path).close()  # a file that is not there is the greater fault
        raise DataError(
            f"{path}: cannot tell from the name how to read it. Names must end in {', '.join(READERS)} (and .gz), "
            "or name two parallel files as FILE.source,FILE.target."
        )
    return READERS[suffix](path)


def column(row: dict[str, Any], name: str, where: str) -> Any:
    """One column of a row, or a DataError that names the columns there are."""
    if name not in row:
        there = ", ".join(str(key) for key in list(row)[:12]) or "none"
        raise DataError(
            f"{where}: there is no column {name!r} (columns: {there}).{closest(name, map(str, row))} "
            "Rename the column, or check data.format."
        )
    if row[name] is None:
        return ""
    return row[name]


def parallel_lines(first: Path, second: Path) -> Iterator[tuple[str, str, str]]:
    """Place and texts of the lines of two files that belong together line by line."""
    left, right = read_lines(first), read_lines(second)
    number = 0
    while True:
        a, b = next(left, None), next(right, None)
        if a is None and b is None:
            return
        if a is None or b is None:
            longer, shorter = (second, first) if a is None else (first, second)
            raise DataError(
                f"{shorter}, line {number + 1}: the file ends here, but {longer} goes on. "
                "Parallel files need as many lines each; check whether one was cut off."
            )
        number = a[0]
        yield f"{first}, line {number}", a[1], b[1]
