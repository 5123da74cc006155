"""Opening files strictly: every way a file can be broken ends in one DataError that names file, line and mend."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from fdistill.errors import DataError
from fdistill.tasks.example import MAX_TEXT

MAX_LINE = 4 * MAX_TEXT  # bytes of one line
Row = tuple[str, dict[str, Any]]  # where it stands, and its columns


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of every line, decoded as UTF-8, without its line end (LF or CRLF)."""
    with open_binary(path) as stream:
        number = 0
        while raw := _read(stream, path, number + 1):
            number += 1
            if len(raw) > MAX_LINE:
                raise DataError(
                    f"{path}, line {number}: the line is longer than {MAX_LINE:,} bytes, which is taken for a broken "
                    "file. Check its line ends, or whether this is the right file and format."
                )
            yield number, decode(raw, path, number).removesuffix("\n").removesuffix("\r")
    if number == 0:
        raise empty_file(path)


def read_bytes(path: Path) -> bytes:
    """The whole content, decompressed."""
    with open_binary(path) as stream:
        content = _read(stream, path, None)
    if not content.strip():
        raise empty_file(path)
    return content


def first_bytes(path: Path) -> bytes:
    """The first line, or the beginning of a very long one."""
    with open_binary(path) as stream:
        return _read(stream, path, 1)


def open_binary(path: Path) -> BinaryIO | gzip.GzipFile:
    """Open a plain or gzip-compressed file; which of them it is shows in its first two bytes."""
    try:
        with path.open("rb") as stream:
            compressed = stream.read(2) == b"\x1f\x8b"
        if path.suffix == ".gz" and not compressed and path.stat().st_size:
            raise DataError(f"{path}: the name ends in .gz, but this is no gzip file. Rename it, or copy it again.")
        return gzip.open(path, "rb") if compressed else path.open("rb")
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file. Check the path; it is read from {Path.cwd()}.") from None
    except IsADirectoryError:
        raise DataError(f"{path}: this is a folder, and a file is needed. Name one file in it.") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be opened: {error.strerror or error}.") from None


def _read(stream: BinaryIO | gzip.GzipFile, path: Path, line: int | None) -> bytes:
    """The next line, or everything where `line` is None; broken compression becomes a DataError."""
    try:
        return stream.read() if line is None else stream.readline(MAX_LINE + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        place = "" if line is None else f", line {line}"
        raise DataError(
            f"{path}{place}: the compressed file is damaged or cut off ({error}). Copy or download it again."
        ) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}.") from None


def empty_file(path: Path) -> DataError:
    """The error for a file without content."""
    return DataError(f"{path}: the file is empty. Check whether it was copied or downloaded to its end.")


def decode(raw: bytes, path: Path, line: int = 1) -> str:
    """Bytes that begin on line `line` of `path`, as text: UTF-8 with or without a byte order mark, nothing else."""
    if line == 1 and raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{path}, line 1: the file is UTF-16, and UTF-8 is needed. {_mend('UTF-16', path)}")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        at = line + raw[: error.start].count(b"\n")
        raise DataError(
            f"{path}, line {at}: byte 0x{raw[error.start]:02x} is not UTF-8. If the file is in another encoding such "
            f"as Latin-1, convert it. {_mend('LATIN1', path)}"
        ) from None
    if "\0" in text:
        at = line + text[: text.index("\0")].count("\n")
        raise DataError(
            f"{path}, line {at}: holds a zero byte, so this is no text file. Check whether it is the right file."
        )
    return text.removeprefix("\ufeff") if line == 1 else text


def _mend(encoding: str, path: Path) -> str:
    return f"For example: iconv -f {encoding} -t UTF-8 {path} > {path.name}.utf8"
