"""A store of teacher samples, read: draws by (example, draw, kind), and the teacher's top-k logits for a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from fdistill.errors import StoreError
from fdistill.logits import TopKLogits
from fdistill.store.shards import INDEX, check_shard, map_shard, read_index

KINDS = ("sample", "beam")
_WHAT = {"teacher": "teacher", "tokenizer": "tokenizer", "data": "data", "sampling": "sampling settings"}


@dataclass(frozen=True)
class StoredDraw:
    """One completion that the teacher wrote.

    Attributes:
        tokens: the counted tokens, EOS included where it was reached; no forced tokens.
        log_probs: their log-probabilities under the teacher.
        top_k: the teacher's likeliest tokens at every step, (ids [T, k], log-probabilities [T, k], log of the mass of
            all others [T]) as arrays; None where the store has none.
    """

    tokens: list[int]
    log_probs: list[float]
    top_k: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.tokens)


class TeacherStore:
    """Offline teacher samples on disk, keyed by (example, draw, kind). Shards are mapped into memory when first used.

    Attributes:
        path: the folder.
        fingerprint: SHA-256 of teacher, tokenizer, data and sampling settings.
        settings: the sampling settings in words.
        examples: how many examples it has draws of.
        draws: how many samples of every example.
        kinds: which of "sample" and "beam" it holds.
        top_k: how many tokens a step its samples keep of the teacher's distribution; 0: none.
        vocab_size: the size of the vocabulary that it was drawn over.
    """

    def __init__(self, path: str | Path, index: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.fingerprint: dict[str, str] = dict(index["fingerprint"])
        self.settings: dict[str, Any] = dict(index["settings"])
        self.examples: int = index["examples"]
        self.draws: int = self.settings["draws"]
        self.top_k: int = self.settings["top_k"]
        self.vocab_size: int = self.settings["vocab_size"]
        counts = {"sample": self.draws, "beam": int(self.settings["beams"] > 0)}
        self.kinds = tuple(kind for kind in KINDS if counts[kind])
        self._counts = counts
        self._entries: list[dict[str, Any]] = index["shards"]
        self._index = index
        self._tables: dict[int, pa.Table] = {}
        self._where: dict[str, np.ndarray] | None = None

    @classmethod
    def open(cls, path: str | Path) -> TeacherStore:
        """Open a finished store; one that is missing, damaged or unfinished is refused."""
        folder = Path(path)
        index = read_index(folder)
        if index is None:
            raise StoreError(f"there is no teacher store at {folder} (no {INDEX}). Run the sample stage first.")
        store = cls(folder, index)
        if len(store._entries) < index["planned"]:
            raise StoreError(
                f"the teacher store at {folder} is unfinished: {len(store._entries)} of {index['planned']} shards are "
                "written. Run the sample stage again, which goes on where it stopped."
            )
        for entry in store._entries:
            check_shard(folder, entry, content=False)
        return store

    def check(self, fingerprint: Mapping[str, str]) -> None:
        """Raise StoreError, naming what differs, unless the store has this fingerprint (all of it, or some keys)."""
        unknown = set(fingerprint) - set(_WHAT)
        if unknown:
            raise StoreError(f"a store's fingerprint has no {sorted(unknown)}: its keys are {', '.join(_WHAT)}.")
        different = [key for key, value in fingerprint.items() if self.fingerprint.get(key) != value]
        if different:
            names = " and ".join(_WHAT[key] for key in different)
            values = "; ".join(
                f"{key} {_short(self.fingerprint.get(key))}, now {_short(fingerprint[key])}" for key in different
            )
            raise StoreError(
                f"the teacher store at {self.path} was made with another {names} ({values}). "
                "Delete that folder to sample again, or use another one for this run."
            )

    def verify(self) -> None:
        """Compare every shard with its checksum; raise StoreError at the first damaged one."""
        for entry in self._entries:
            check_shard(self.path, entry)

    def __len__(self) -> int:
        """Return the number of completions of all kinds."""
        return sum(entry["draws"] for entry in self._entries)

    def get(self, example: int, draw: int = 0, kind: str = "sample") -> StoredDraw:
        """Return one completion."""
        if kind not in self.kinds:
            raise StoreError(
                f"the teacher store at {self.path} holds no {kind!r} draws, only {', '.join(self.kinds) or 'nothing'}. "
                "Set store.draws for samples and store.beams for beams, and sample again."
            )
        if not (0 <= example < self.examples and 0 <= draw < self._counts[kind]):
            raise StoreError(
                f"the teacher store at {self.path} has no {kind} {draw} of example {example}: it holds "
                f"{self._counts[kind]} for each of {self.examples} examples."
            )
        shard, row = self._locations()[kind][example, draw]
        return self._read(self._table(int(shard)), int(row))

    def batch_top_k(
        self, draws: Sequence[StoredDraw], length: int | None = None, *, forced: int = 0, device: Any = None
    ) -> TopKLogits:
        """Return the teacher's logits for a padded batch of these draws, [B, T, k].

        Args:
            draws: from `get`.
            length: T, at least that of the longest draw and `forced`; None: just that.
            forced: how many forced tokens stand before the counted ones (`len(special_tokens(model).forced)`).

        Returns:
            TopKLogits in float32. Padding and forced steps hold a uniform distribution over the first k tokens.
        """
        if self.top_k == 0:
            raise StoreError(
                f"the teacher store at {self.path} keeps no top-k logits. Set store.top_k and sample again, "
                "or train with the teacher in memory."
            )
        length = _batch_length(draws, length, forced)
        shape = (len(draws), length)
        ids = torch.arange(self.top_k).expand(*shape, -1).clone()
        log_probs = torch.full((*shape, self.top_k), -float(np.log(self.top_k)))
        tail = torch.full(shape, -torch.inf)
        for row, draw in enumerate(draws):
            if draw.top_k is None:
                raise StoreError("a draw without top-k logits (a beam?) stands in a batch of top-k logits.")
            steps = slice(forced, forced + len(draw))
            ids[row, steps] = torch.from_numpy(draw.top_k[0].astype(np.int64))
            log_probs[row, steps] = torch.from_numpy(draw.top_k[1])
            tail[row, steps] = torch.from_numpy(draw.top_k[2])
        token_log_probs = self.batch_log_probs(draws, length, forced=forced)
        return TopKLogits(*(part.to(device) for part in (ids, log_probs, tail, token_log_probs)))

    def batch_log_probs(self, draws: Sequence[StoredDraw], length: int | None = None, *, forced: int = 0) -> Tensor:
        """Return the teacher's log-probability of every token of these draws, [B, T], 0 at padding and forced tokens."""
        length = _batch_length(draws, length, forced)
        log_probs = torch.zeros(len(draws), length)
        for row, draw in enumerate(draws):
            log_probs[row, forced : forced + len(draw)] = torch.tensor(draw.log_probs)
        return log_probs

    def __getstate__(self) -> dict[str, Any]:
        """Leave the mapped files behind, so that a data loader's workers can have the store; they map them again."""
        return {"path": self.path, "index": self._index}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"], state["index"])  # type: ignore[misc]

    def _table(self, shard: int) -> pa.Table:
        """Return a shard, compared with its checksum when it is first used."""
        if shard not in self._tables:
            check_shard(self.path, self._entries[shard])
            self._tables[shard] = map_shard(self.path, self._entries[shard])
        return self._tables[shard]

    def _locations(self) -> dict[str, np.ndarray]:
        """Return by kind the shard and the row of every draw, [examples, draws, 2]."""
        if self._where is None:
            where = {kind: np.full((self.examples, self._counts[kind], 2), -1, dtype=np.int64) for kind in self.kinds}
            for shard, entry in enumerate(self._entries):
                table = map_shard(self.path, entry)
                place = where[entry["kind"]]
                example, draw = table["example"].to_numpy(), table["draw"].to_numpy()
                place[example, draw, 0], place[example, draw, 1] = shard, np.arange(table.num_rows)
            if any((place < 0).any() for place in where.values()):
                raise StoreError(f"the teacher store at {self.path} lacks draws that it should hold. Sample again.")
            self._where = where
        return self._where

    def _read(self, table: pa.Table, row: int) -> StoredDraw:
        tokens = _list(table, "tokens", row)
        log_probs = _list(table, "log_probs", row)
        top_k = None
        if "top_ids" in table.column_names:
            shape = (len(tokens), self.top_k)
            ids = _list(table, "top_ids", row).reshape(shape)
            stored = _list(table, "top_log_probs", row)
            values = stored.astype(np.float32).reshape(shape)
            tail = _list(table, "tail_log_probs", row)
            if stored.dtype == np.float16:
                values, tail = _normalised(values, tail)
            top_k = (ids, values, tail)
        return StoredDraw(tokens.tolist(), log_probs.tolist(), top_k)


def _list(table: pa.Table, column: str, row: int) -> np.ndarray:
    """Return one row's list as an array, a copy that is writable."""
    return np.array(table[column].chunk(0)[row].values.to_numpy(zero_copy_only=False))


def _normalised(log_probs: np.ndarray, tail: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Make the k+1 categories sum to one again after rounding to 16 bits."""
    total = np.log(np.exp(log_probs.astype(np.float64)).sum(-1) + np.exp(tail.astype(np.float64)))
    return (log_probs - total[:, None]).astype(np.float32), (tail - total).astype(np.float32)


def _batch_length(draws: Sequence[StoredDraw], length: int | None, forced: int) -> int:
    needed = max([len(draw) for draw in draws] + [0]) + forced
    if length is None:
        return max(needed, 1)
    if length < needed:
        raise StoreError(f"length is {length}, but a draw of this batch needs {needed} steps.")
    return length


def _short(digest: str | None) -> str:
    return "none" if digest is None else digest[:12]
