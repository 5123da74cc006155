"""The unmasked steps of a batch as rows, so that nothing behind the mask is ever read: dense, behind a head, or top-k.

A row is one next-token distribution. `Rows.log_probs(part)` gives the log-probabilities of some of them in the working
precision; a slice or `slice(None)` says which.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fdistill.logits import LinearLogits, Logits, TopKLogits

ALL = slice(None)


@dataclass(frozen=True)
class DenseRows:
    """Rows of a logits tensor [B·T, V]; `index` [N] names the unmasked ones, None means every one."""

    logits: Tensor
    index: Tensor | None
    dtype: torch.dtype

    @property
    def direct(self) -> bool:
        """Whether rows are read, and a gradient of theirs written, where they lie: none is skipped or converted."""
        return self.index is None and self.logits.dtype == self.dtype

    def among(self, part: slice) -> tuple[Tensor, Tensor | None]:
        """Logits [m, V] as they lie, without a copy, and which of them those rows are, [n]; None: all of them."""
        return (self.logits[part], None) if self.index is None else (self.logits, self.index[part])

    def logits_of(self, part: slice = ALL, buffer: Tensor | None = None) -> Tensor:
        """The logits of those rows as they came, [n, V]; `buffer` is not needed."""
        return self.logits[part] if self.index is None else self.logits.index_select(0, self.index[part])

    def log_probs(self, part: slice = ALL) -> Tensor:
        return self.logits_of(part).to(self.dtype).log_softmax(-1)


@dataclass(frozen=True)
class LinearRows:
    """Rows of hidden states [N, d] before their head."""

    head: LinearLogits
    hidden: Tensor
    dtype: torch.dtype

    def logits_of(self, part: slice = ALL, buffer: Tensor | None = None) -> Tensor:
        """The logits of those rows, [n, V], formed now: in `buffer` [≥ n, V] where given, without a gradient."""
        head, hidden = self.head, self.hidden[part]
        # In half precision other kernels round otherwise; there the head does what the model would.
        plain = head.weight.dtype == hidden.dtype == self.dtype and not torch.is_autocast_enabled(hidden.device.type)
        if buffer is None or not plain:
            return head.dense(hidden)
        return head.dense(hidden, buffer[: len(hidden)])

    def buffer(self, rows: int) -> Tensor:
        """Room for the logits of that many rows."""
        return self.hidden.new_empty(rows, self.head.vocab_size)

    def log_probs(self, part: slice = ALL) -> Tensor:
        return self.logits_of(part).to(self.dtype).log_softmax(-1)


@dataclass(frozen=True)
class TopKRows:
    """Rows of a teacher known by its k likeliest tokens: ids and log_probs [N, k], the tail's log-mass [N]."""

    ids: Tensor
    log_probs_of_ids: Tensor
    tail: Tensor
    token_log_probs: Tensor

    def rows(self, part: slice) -> TopKRows:
        """Some of the rows."""
        return TopKRows(self.ids[part], self.log_probs_of_ids[part], self.tail[part], self.token_log_probs[part])

    def coarsened(self, log_q: Tensor, part: slice = ALL) -> tuple[Tensor, Tensor]:
        """Merge both models' other tokens into one bucket: two tensors [n, k + 1], or [n, V] where k is V.

        Args:
            log_q: student log-probabilities [n, V] of the same rows.
        """
        ids, log_p = self.ids[part], self.log_probs_of_ids[part]
        log_q_of_ids = log_q.gather(-1, ids)
        if ids.shape[-1] == log_q.shape[-1]:
            return log_p, log_q_of_ids
        # A logsumexp over the others, and not 1 - Σ: where the tail is small the difference would cancel.
        others = log_q.scatter(-1, ids, -math.inf)
        return (
            torch.cat([log_p, self.tail[part].unsqueeze(-1)], dim=-1),
            torch.cat([log_q_of_ids, logsumexp(others).unsqueeze(-1)], dim=-1),
        )


StudentRows = DenseRows | LinearRows
TeacherRows = DenseRows | LinearRows | TopKRows


def logsumexp(values: Tensor) -> Tensor:
    """logsumexp over the last dimension, -inf with a zero gradient where every value is -inf."""
    empty = (values == -math.inf).all(-1, keepdim=True)
    return values.masked_fill(empty, 0.0).logsumexp(-1).masked_fill(empty.squeeze(-1), -math.inf)


def unmasked_index(mask: Tensor) -> Tensor | None:
    """Flat positions of unmasked steps, int64 [N]; None where nothing is masked."""
    flat = mask.reshape(-1)
    index = flat.nonzero().squeeze(-1)
    return None if index.numel() == flat.numel() else index


def unmasked_by_step(mask: Tensor) -> Tensor:
    """Flat positions of unmasked steps, first steps first, int64 [N]: what a row's prefix holds comes before the row."""
    batch, steps = mask.shape
    by_step = mask.t().reshape(-1).nonzero().squeeze(-1)
    return by_step % batch * steps + by_step // batch


def select(values: Tensor, index: Tensor | None) -> Tensor:
    """[B, T, ...] to the unmasked rows [N, ...]; the gradient of every other step is exactly 0."""
    flat = values.reshape(-1, *values.shape[2:])
    return flat if index is None else flat.index_select(0, index)


def scatter(rows: Tensor, index: Tensor | None, mask: Tensor) -> Tensor:
    """Unmasked rows [N] back to their steps [B, T], 0 elsewhere."""
    if index is None:
        return rows.reshape(mask.shape)
    return rows.new_zeros(mask.numel()).index_copy(0, index, rows).reshape(mask.shape)


def rows_of(logits: Logits, index: Tensor | None, dtype: torch.dtype) -> TeacherRows:
    """The unmasked rows of logits in any of their forms, computing in `dtype`."""
    if isinstance(logits, LinearLogits):
        return LinearRows(logits, select(logits.hidden, index), dtype)
    if isinstance(logits, TopKLogits):
        return TopKRows(
            select(logits.ids, index).long(),
            select(logits.log_probs.detach(), index).to(dtype),
            select(logits.tail_log_prob.detach(), index).to(dtype),
            select(logits.token_log_probs.detach(), index).to(dtype),
        )
    return DenseRows(logits.reshape(-1, logits.shape[-1]), index, dtype)


def at_tokens(log_probs: Tensor, tokens: Tensor) -> Tensor:
    """Log-probability of one token per row: [n, V] and [n] to [n]."""
    return log_probs.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
