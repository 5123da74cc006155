"""Counted random numbers: what a draw gets depends on who it is, never on the batch, the rank or a restart."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class DrawKeys:
    """What the random numbers of a batch's draws depend on, and nothing else does.

    Attributes:
        seed: the run's seed.
        example: which example each row is a completion of, long [B].
        draw: which of the completions of its example it is, long [B].
        step: the training step; draws that do not belong to one use OFFLINE_STEP.
    """

    seed: int
    example: Tensor
    draw: Tensor
    step: int = 0

    @classmethod
    def of(cls, seed: int, example: list[int], draw: list[int] | None = None, step: int = 0) -> DrawKeys:
        """Make keys from plain lists; `draw` is 0 for every row where it is not given."""
        draws = [0] * len(example) if draw is None else draw
        return cls(seed, torch.tensor(example, dtype=torch.long), torch.tensor(draws, dtype=torch.long), step)


OFFLINE_STEP = -1  # of draws made before training, whose random numbers then are those of no training step


_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB


def _signed(value: int) -> int:
    """Return the int64 of the same 64 bits."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >= 1 << 63 else value


def _shift_right(bits: Tensor, by: int) -> Tensor:
    """Shift int64 right, filling with zeros."""
    return (bits >> by) & ((1 << (64 - by)) - 1)


def _mix(bits: Tensor) -> Tensor:
    """Scramble 64 bits: the finaliser of SplitMix64 (Steele, Lea and Flood, 2014); products wrap around."""
    bits = bits + _signed(_GOLDEN)
    bits = (bits ^ _shift_right(bits, 30)) * _signed(_MIX_1)
    bits = (bits ^ _shift_right(bits, 27)) * _signed(_MIX_2)
    return bits ^ _shift_right(bits, 31)


def row_bits(keys: DrawKeys) -> Tensor:
    """Return 64 random bits for every row's (seed, example, draw, step), int64 [B]."""
    bits = torch.full_like(keys.example, _signed(keys.seed))
    for part in (keys.example, keys.draw, torch.full_like(keys.draw, keys.step)):
        bits = _mix(bits) ^ part
    return _mix(bits)


def uniforms(bits: Tensor, position: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return a uniform number in [0, 1) for every row at one position, [B].

    Integer arithmetic on 64 bits, so that every device gets the same numbers.

    Args:
        bits: from `row_bits`, int64 [B].
        position: index of the token in its completion.
        dtype: float32 (24 random bits) or float64 (53).
    """
    digits = 53 if dtype == torch.float64 else 24
    return _shift_right(_mix(bits + _signed(position * _GOLDEN)), 64 - digits).to(dtype) * 2.0**-digits
