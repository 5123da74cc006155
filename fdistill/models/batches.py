"""Batches of token ids: prompts, completions, and the encoder's output for a batch of sources."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fdistill.errors import DataError


@dataclass(frozen=True)
class Prompts:
    """Source texts of one batch.

    Attributes:
        ids: token ids, long [B, S]; right-padded for encoder-decoder models, left-padded for decoder-only ones.
        mask: which ids are real, bool [B, S].
    """

    ids: Tensor
    mask: Tensor

    def __len__(self) -> int:
        return self.ids.shape[0]

    def to(self, device: torch.device | str) -> Prompts:
        return Prompts(self.ids.to(device), self.mask.to(device))

    def select(self, rows: Tensor) -> Prompts:
        """Return the rows named by `rows`, long [N]; a row may be named more than once."""
        return Prompts(self.ids[rows], self.mask[rows])

    def repeat_interleave(self, times: int) -> Prompts:
        """Return every row `times` times, copies side by side."""
        return Prompts(self.ids.repeat_interleave(times, 0), self.mask.repeat_interleave(times, 0))


@dataclass(frozen=True)
class Completions:
    """Target texts of one batch, right-padded.

    Attributes:
        tokens: token ids, long [B, T]; EOS is the last counted token of a row that ends.
        mask: which tokens count, bool [B, T]; False at padding and at tokens that decoding forces.
    """

    tokens: Tensor
    mask: Tensor

    def __len__(self) -> int:
        return self.tokens.shape[0]

    def to(self, device: torch.device | str) -> Completions:
        return Completions(self.tokens.to(device), self.mask.to(device))


@dataclass(frozen=True)
class Encoded:
    """An encoder's output for a batch of sources, computed once and used by generation and by the training pass.

    Attributes:
        hidden: last hidden states, [B, S, d].
        mask: which source positions are real, bool [B, S].
    """

    hidden: Tensor
    mask: Tensor

    def __len__(self) -> int:
        return self.hidden.shape[0]

    def detach(self) -> Encoded:
        return Encoded(self.hidden.detach(), self.mask)

    def select(self, rows: Tensor) -> Encoded:
        """Return the rows named by `rows`, long [N]; a row may be named more than once."""
        return Encoded(self.hidden[rows], self.mask[rows])

    def repeat_interleave(self, times: int) -> Encoded:
        """Return every row `times` times, copies side by side."""
        return Encoded(self.hidden.repeat_interleave(times, 0), self.mask.repeat_interleave(times, 0))

    def cat(self, other: Encoded) -> Encoded:
        """Return the rows of both, the narrower one right-padded to the width of the wider one."""
        width = max(self.hidden.shape[1], other.hidden.shape[1])
        pairs = [(_widen(part.hidden, width), _widen(part.mask, width)) for part in (self, other)]
        return Encoded(torch.cat([hidden for hidden, _ in pairs]), torch.cat([mask for _, mask in pairs]))


def _widen(tensor: Tensor, width: int) -> Tensor:
    """Append zeros (False) to dimension 1 until it is `width` long."""
    missing = width - tensor.shape[1]
    if missing == 0:
        return tensor
    return torch.cat([tensor, tensor.new_zeros(tensor.shape[0], missing, *tensor.shape[2:])], dim=1)


def pad_rows(
    rows: Sequence[Sequence[int]], pad_id: int, device: torch.device | str | None = None, *, left: bool = False
) -> tuple[Tensor, Tensor]:
    """Pad lists of ids to one length.

    Returns:
        ids, long [B, L], and which of them are real, bool [B, L]. L is at least 1.
    """
    width = max([len(row) for row in rows] + [1])
    ids = torch.full((len(rows), width), pad_id, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.bool)
    for index, row in enumerate(rows):
        where = slice(width - len(row), width) if left else slice(0, len(row))
        ids[index, where] = torch.as_tensor(row, dtype=torch.long)
        mask[index, where] = True
    return ids.to(device), mask.to(device)


def pad_prompts(
    rows: Sequence[Sequence[int]], pad_id: int, device: torch.device | str | None = None, *, left: bool
) -> Prompts:
    """Pad prompts to one length; an empty prompt is refused, since a model cannot start from nothing."""
    for index, row in enumerate(rows):
        if len(row) == 0:
            raise DataError(
                f"prompt {index} of the batch has no tokens, and a model needs at least one to start from. "
                "Use tokenize_prompt, which gives an empty prompt a beginning-of-text token."
            )
    return Prompts(*pad_rows(rows, pad_id, device, left=left))


def pad_completions(
    rows: Sequence[Sequence[int]],
    pad_id: int,
    device: torch.device | str | None = None,
    *,
    forced: Sequence[int] = (),
) -> Completions:
    """Pad completions to one length, behind the tokens `forced` that decoding gives and that do not count."""
    tokens, mask = pad_rows([[*forced, *row] for row in rows], pad_id, device)
    mask[:, : len(forced)] = False
    return Completions(tokens, mask)
