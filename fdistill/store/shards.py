"""The files of a store: Arrow shards and store.json, each written whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from fdistill.errors import StoreError

INDEX = "store.json"
VERSION = 1
_PARTIAL = ".partial"
_MEND = "Run the sample stage again: it makes shards that are missing or damaged once more, and keeps the others."
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))  # no space, no quota


def write_atomically(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Write a file so that it is there whole or not at all, also after a kill or a power cut.

    A full disk becomes a StoreError; what was written before stays, so that the same command can go on later.
    """
    partial = path.with_name(path.name + _PARTIAL)
    try:
        with open(partial, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        _sync_folder(path.parent)
    except OSError as error:
        _discard(partial)
        if error.errno in _FULL:
            raise StoreError(
                f"the disk is full: {path} could not be written. What the store holds so far is safe; "
                "free some space and run the same command again, which goes on from there."
            ) from error
        raise StoreError(f"cannot write {path}: {error.strerror or error}. Nothing written before is lost.") from error
    except BaseException:
        _discard(partial)
        raise


def write_index(folder: Path, index: dict[str, Any]) -> None:
    """Write store.json."""
    text = json.dumps(index, indent=1, sort_keys=True) + "\n"
    write_atomically(folder / INDEX, lambda file: _write(file, text.encode()))


def read_index(folder: Path) -> dict[str, Any] | None:
    """Return what store.json says, or None where there is none."""
    path = folder / INDEX
    if not path.exists():
        return None
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        version = index["version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} is damaged ({error}). Delete the folder {folder} and sample again.") from error
    if version != VERSION:
        raise StoreError(
            f"the store at {folder} has format {version}, and this version of fdistill reads format {VERSION}. "
            "Sample again into another folder."
        )
    return index


def write_shard(path: Path, table: pa.Table) -> dict[str, Any]:
    """Write one shard; return its entry in store.json: name, number of draws, bytes and SHA-256."""

    def write(file: BinaryIO) -> None:
        with pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table.combine_chunks())

    write_atomically(path, write)
    return {"file": path.name, "draws": table.num_rows, "bytes": path.stat().st_size, "sha256": file_hash(path)}


def map_shard(folder: Path, entry: dict[str, Any]) -> pa.Table:
    """Map one shard into memory."""
    path = folder / entry["file"]
    try:
        with pa.memory_map(str(path)) as source:
            return pa.ipc.open_file(source).read_all()
    except (OSError, pa.ArrowInvalid) as error:
        raise StoreError(f"{path} cannot be read ({error}). {_MEND}") from error


def check_shard(folder: Path, entry: dict[str, Any], *, content: bool = True) -> None:
    """Raise StoreError where a shard is not what store.json says; without `content`, only its size is looked at."""
    problem = shard_problem(folder / entry["file"], entry, content=content)
    if problem is not None:
        raise StoreError(f"{folder / entry['file']} {problem}. {_MEND}")


def shard_problem(path: Path, entry: dict[str, Any], *, content: bool = True) -> str | None:
    """Say what is wrong with a shard, or None where it is what store.json says."""
    if not path.is_file():
        return "is missing"
    size = path.stat().st_size
    if size != entry["bytes"]:
        return f"is damaged: it has {size} bytes where store.json says {entry['bytes']}"
    if content and file_hash(path) != entry["sha256"]:
        return "is damaged: its content is not what store.json says (SHA-256)"
    return None


def file_hash(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_partials(folder: Path) -> None:
    """Remove what an interrupted write has left behind."""
    for path in folder.glob("*" + _PARTIAL):
        _discard(path)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a second process from building the same store at the same time."""
    path = folder / ".lock"
    with open(path, "w") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # no such locks on this system
            pass
        except OSError as error:
            raise StoreError(f"another process is building the store at {folder}. Wait for it, or stop it.") from error
        yield


def _write(file: BinaryIO, data: bytes) -> None:
    file.write(data)


def _discard(path: Path) -> None:
    path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make a rename outlive a power cut, where the system lets a folder be opened."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
