"""A chunk of rows in a few fused loops: what `chunked` does operation by operation, handed to torch.compile as one function.

The closed forms of `slopes` are traced as they stand; their scratch tensors are made within the traced function, so that they
vanish. A chunk is of one shape, so that there is one compilation a training run (twenty seconds, once) and not one a batch: the
rows that do not fill a chunk, and chunks with an infinite value, are left to the uncompiled execution.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from fdistill.loss.slopes import SLOPES, Chunk, Distribution, SlopeFunction

logger = logging.getLogger("fdistill")

#: Elements of one compiled chunk: its rows stay in the cache from one loop to the next.
COMPILED_ELEMENTS = {"cpu": 1 << 19, "cuda": 1 << 26}

#: Below so many elements of logits a compilation (twenty seconds) takes more time than it saves (about two nanoseconds each).
WORTH_COMPILING = 10**10

#: By term what its rows know, and what each of its rows counts in the gradient [n].
Knowledge = list[dict[str, Tensor]]


def worth_compiling(elements: int, device_type: str) -> bool:
    """Whether a run over so many elements of logits gains by compiling, and can: CPU needs a C++ compiler, CUDA Triton."""
    return elements >= WORTH_COMPILING and _has_compiler(device_type)


@lru_cache(maxsize=2)
def _has_compiler(device_type: str) -> bool:
    if device_type == "cuda":
        return find_spec("triton") is not None
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    return any(shutil.which(name) for name in names)


def rows_of_chunk(vocab_size: int, device: torch.device) -> int:
    """Rows of one compiled chunk."""
    return max(1, COMPILED_ELEMENTS.get(device.type, 1 << 22) // vocab_size)


def fused_chunk(
    forms: tuple[SlopeFunction, ...],
    teacher: Tensor | None,
    student: Tensor,
    tokens: Tensor,
    known: Knowledge,
    pulls: list[Tensor],
    out: Tensor | None,
    dtype: torch.dtype,
) -> list[Tensor]:
    """Values of every form, entropy and token log-probability, [n] each; the gradient goes to `out`.

    Args:
        forms: closed forms of `SLOPES`, one a term.
        teacher, student: logits [n, V] of any dtype; None where no form reads a teacher.
        tokens: [n].
        known: keyword arguments of every form.
        pulls: what each row's slope counts in the gradient, by form, [n] each.
        out: [n, V] in the working precision; None writes the gradient over the student's logits.
        dtype: the working precision.
    """
    p = None if teacher is None else _distribution(teacher, dtype)
    q = _distribution(student, dtype)
    energy = (q.exps * q.shifted).sum(-1, keepdim=True)
    entropy = (q.offset - energy / q.scale).squeeze(-1)
    token_log_q = q.at(tokens)
    values = []
    gradient: Tensor | float = 0.0
    back: Tensor | float = 0.0
    for form, keywords, pull in zip(forms, known, pulls, strict=True):
        scratch = torch.empty_like(q.exps), torch.empty_like(q.exps)
        found = form(Chunk(p, q, scratch), **keywords)
        values.append(found.value)
        factor = pull * found.factor
        gradient = gradient + found.slope * factor.unsqueeze(-1)
        back = back + factor * found.total
    assert isinstance(back, Tensor)
    gradient = gradient - q.exps * (back.unsqueeze(-1) / q.scale)
    (student if out is None else out).copy_(gradient)
    return [*values, entropy, token_log_q]


def _distribution(logits: Tensor, dtype: torch.dtype) -> Distribution:
    room = torch.empty(logits.shape, dtype=dtype, device=logits.device)
    return Distribution(logits, room, torch.empty_like(room))


class FusedChunks:
    """`fused_chunk` for the forms of some terms, compiled once for every kind of input it meets."""

    def __init__(self, forms: tuple[SlopeFunction, ...]) -> None:
        self.forms = forms
        self._programs: dict[tuple[Any, ...], Callable[..., list[Tensor]]] = {}
        self._broken = False

    def __call__(
        self,
        teacher: Tensor | None,
        student: Tensor,
        tokens: Tensor,
        known: Knowledge,
        pulls: list[Tensor],
        out: Tensor | None,
        dtype: torch.dtype,
    ) -> list[Tensor] | None:
        """As `fused_chunk`; None where torch.compile fails, which is said once."""
        if self._broken:
            return None
        kind = (
            student.shape,
            student.dtype,
            None if teacher is None else teacher.dtype,
            dtype,
            student.device,
            out is None,
        )
        if kind not in self._programs:
            self._programs[kind] = _program(f"fused_chunk_{len(self._programs)}")
        try:
            return self._programs[kind](self.forms, teacher, student, tokens, known, pulls, out, dtype)
        except Exception as error:  # whatever a compiler says, there is another way to the same numbers
            logger.warning("The loss goes on uncompiled: torch.compile says %s", str(error).strip().split("\n")[0])
            self._broken = True
            return None


def _program(name: str) -> Callable[..., list[Tensor]]:
    """`fused_chunk` under another name, compiled: of one function torch.compile keeps only a few compilations."""
    own = FunctionType(fused_chunk.__code__.replace(co_name=name), fused_chunk.__globals__, name)
    return torch.compile(own, fullgraph=True, dynamic=False)


@lru_cache(maxsize=64)
def fused_chunks(functions: tuple[Callable[..., Tensor], ...]) -> FusedChunks | None:
    """The compiled execution of word-level functions; None where one of them has no closed form, or there are none."""
    forms = tuple(SLOPES[function] for function in functions if function in SLOPES)
    return FusedChunks(forms) if forms and len(forms) == len(functions) else None
