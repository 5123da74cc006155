"""Rows of logits in one fused loop: what `chunked` does operation by operation, handed to torch.compile as one function.

The parts of `slopes` that go over the vocabulary are traced as they stand. What is done once a row stays outside: between loops
over the vocabulary it would keep the compiler from putting them into one loop over rows, in which a core reads a row's logits
from memory once and all else of that row stays in its cache. The number of rows is free, so that there is one compilation a
training run (ten seconds, once) and not one a batch; a single row, and chunks with an infinite value, are left to the uncompiled
execution.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterable
from functools import lru_cache
from importlib.util import find_spec
from types import FunctionType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fdistill.loss.slopes import SLOPES, Chunk, Distribution, Form, Normaliser

logger = logging.getLogger("fdistill")

#: Elements of one compiled chunk: many, because a call costs a third of a millisecond and leaves nothing but the gradient.
COMPILED_ELEMENTS = {"cpu": 1 << 23, "cuda": 1 << 26}

#: Elements of one whose logits are put together first, or whose gradient is: both take room of that size.
ROOM_ELEMENTS = {"cpu": 1 << 21, "cuda": 1 << 26}

#: Below so many elements of logits a compilation (ten seconds) takes more time than it saves (about two nanoseconds each).
WORTH_COMPILING = 10**10

#: By term what its rows know, [n] each.
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


def rows_of_chunk(vocab_size: int, device: torch.device, in_room: bool = False) -> int:
    """Rows of one compiled chunk, never one: a compiler would make that a case of its own."""
    elements = COMPILED_ELEMENTS.get(device.type, 1 << 22)
    if in_room:
        elements = min(elements, ROOM_ELEMENTS.get(device.type, 1 << 22))
    return max(2, elements // vocab_size)


class Sums(NamedTuple):
    """What one reading of logits leaves of every row, [n] each, x being the logits less their maximum."""

    maximum: Tensor
    scale: Tensor  # Σ e^x
    energy: Tensor  # Σ e^x x

    def normaliser(self) -> Normaliser:
        return Normaliser(self.scale, self.scale.log())

    def entropy(self) -> Tensor:
        return self.scale.log() - self.energy / self.scale

    def log_probs_at(self, logits: Tensor, ids: Tensor, index: Tensor | None = None) -> Tensor:
        """Log-probabilities of some tokens a row, ids [n, k] to [n, k]; logits [n, V], or [m, V] and an index of n rows."""
        at_ids = logits.gather(-1, ids) if index is None else logits[index.unsqueeze(-1), ids]
        at_ids = at_ids.to(self.scale.dtype)
        return at_ids - self.maximum.unsqueeze(-1) - self.scale.log().unsqueeze(-1)


def energy_of(exps: Tensor, shifted: Tensor) -> Tensor:
    """Σ e^x x of every row; a token that is ruled out adds nothing."""
    return (exps * shifted.clamp(min=torch.finfo(shifted.dtype).min)).sum(-1)


def fused_loops(
    forms: tuple[Form, ...],
    teacher: Tensor | None,
    student: Tensor,
    index: Tensor | None,
    numbers: Knowledge,
    pulls: list[Tensor],
    out: Tensor,
    dtype: torch.dtype,
) -> tuple[Sums, Tensor | None, list[list[Tensor]]]:
    """The work over the vocabulary: the gradient goes to `out`, and what was found of every row is returned, [n] each.

    Args:
        forms: closed forms of `SLOPES`, one a term.
        teacher, student: logits [m, V] of any dtype; None where no form reads a teacher.
        index: which of their rows are meant, int64 [n], each once; None: all, m = n.
        numbers: what every form is told of each row.
        pulls: what each row's slope counts in the gradient, by form, [n] each.
        out: [m, V] of any dtype; rows that are not meant stay as they are.
        dtype: the working precision.

    Returns:
        The student's `Sums`, Σ e^x of the teacher where there is one, and every form's sums.
    """
    if index is not None:  # read through the index wherever a loop reads the logits: no copy is made
        teacher, student = None if teacher is None else teacher[index], student[index]
    p = None if teacher is None else _Unchanging(teacher, dtype)
    q = _Unchanging(student, dtype)
    read = Sums(q.maximum.squeeze(-1), q.scale.squeeze(-1), energy_of(q.exps, q.shifted))
    sums = []
    gradient = back = None
    for form, keywords, pull in zip(forms, numbers, pulls, strict=True):
        scratch = _room(student, dtype), _room(student, dtype)
        parts = form.parts(Chunk(p, q, scratch), **keywords)
        sums.append(list(parts.sums))
        factor = pull * parts.factor
        own, total = parts.slope * factor.unsqueeze(-1), factor * parts.total
        gradient, back = (own, total) if gradient is None or back is None else (gradient + own, back + total)
    assert gradient is not None and back is not None
    gradient = gradient - q.exps * (back.unsqueeze(-1) / q.scale)
    if index is None:
        out.copy_(gradient)
    else:
        out.index_copy_(0, index, gradient.to(out.dtype))
    return read, None if p is None else p.scale.squeeze(-1), sums


def _room(like: Tensor, dtype: torch.dtype) -> Tensor:
    """[n, V] to write to, in rows whatever the layout of `like`."""
    return torch.empty(like.shape, dtype=dtype, device=like.device)


class _Unchanging(Distribution):
    """A distribution that normalises into new tensors, which a compiler never makes: offset and scale stay what they were."""

    def __init__(self, logits: Tensor, dtype: torch.dtype) -> None:
        logits = logits.to(dtype)
        self.maximum = logits.amax(-1, keepdim=True)
        self.shifted = logits - self.maximum
        self.exps = self.shifted.exp()
        self.scale = self.mass = self.exps.sum(-1, keepdim=True)
        self.offset = self.scale.log()

    @property
    def log_probs(self) -> Tensor:
        """The logarithm is of every token: `offset`, once a row, would come between the loops."""
        return self.shifted - self.scale.expand_as(self.exps).log()

    @property
    def probs(self) -> Tensor:
        return self.exps * self.scale.reciprocal()

    def shifted_at(self, tokens: Tensor) -> Tensor:
        """A sum over the vocabulary: a look at one token, once a row, would come between the loops."""
        at_token = torch.arange(self.shifted.shape[-1], device=tokens.device) == tokens.unsqueeze(-1)
        return torch.where(at_token, self.shifted, 0.0).sum(-1)


class Compiled:
    """A function of rows, compiled once for every kind and layout of input and for any number of rows above one."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._programs: dict[tuple[Any, ...], Callable[..., Any]] = {}
        self._broken = False

    def __call__(self, by_row: Iterable[Tensor | None], *arguments: Any) -> Any:
        """The function's answer; None where torch.compile fails, which is said once.

        Args:
            by_row: those of the tensors among the arguments whose first dimension counts rows.
        """
        if self._broken:
            return None
        tensors = [tensor for tensor in by_row if tensor is not None]
        kind = tuple((tensor.shape[1:], tensor.dtype, tensor.device, *_layout(tensor)) for tensor in tensors)
        try:
            if kind not in self._programs:
                self._programs[kind] = _program(self._function, f"{self._function.__name__}_{len(self._programs)}")
            for tensor in tensors:
                torch._dynamo.mark_dynamic(tensor, 0)
            return self._programs[kind](*arguments)
        except Exception as error:  # whatever a compiler says, there is another way to the same numbers
            logger.warning("The loss goes on uncompiled: torch.compile says %s", str(error).strip().split("\n")[0])
            self._broken = True
            return None


def _layout(tensor: Tensor) -> tuple[bool, bool]:
    """Whether all rows are one, and whether a row's elements lie side by side; strides themselves change with the batch."""
    return tensor.stride(0) == 0, tensor.stride(-1) == 1


def _program(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """A function under another name, compiled: of one function torch.compile keeps only a few compilations."""
    assert isinstance(function, FunctionType)
    own = FunctionType(function.__code__.replace(co_name=name), function.__globals__, name)
    return torch.compile(own, fullgraph=True, dynamic=False, options=_options())


def _options() -> dict[str, Any]:
    """Let a C++ compiler contract a · b + c into one instruction, rounded once, where this torch has that option."""
    from torch._inductor import config

    name = "enable_floating_point_contract_flag"
    return {f"cpp.{name}": "fast"} if isinstance(getattr(config.cpp, name, None), str) else {}


class FusedChunks:
    """Value and gradient of some terms on chunks of rows, their loops compiled."""

    def __init__(self, forms: tuple[Form, ...]) -> None:
        self.forms = forms
        self._loops = Compiled(fused_loops)

    def __call__(
        self,
        teacher: Tensor | None,
        student: Tensor,
        tokens: Tensor,
        known: Knowledge,
        pulls: list[Tensor],
        out: Tensor,
        dtype: torch.dtype,
        index: Tensor | None = None,
    ) -> list[Tensor] | None:
        """Values of every term, entropy and token log-probability, [n] each; None where torch.compile fails.

        Args:
            teacher, student, pulls, out, dtype, index: as in `fused_loops`.
            tokens: [n].
            known: keyword arguments of every term's function.
        """
        numbers = [form.numbers(pulls[0], **keywords) for form, keywords in zip(self.forms, known, strict=True)]
        by_row = teacher, student, index, out, *pulls, *(x for keywords in numbers for x in keywords.values())
        found = self._loops(by_row, self.forms, teacher, student, index, numbers, pulls, out, dtype)
        if found is None:
            return None
        read, scale_of_p, sums = found
        p = None if scale_of_p is None else Normaliser(scale_of_p, scale_of_p.log())
        told = zip(self.forms, sums, numbers, strict=True)
        values = [form.value(p, read.normaliser(), *parts, **keywords) for form, parts, keywords in told]
        return [*values, read.entropy(), read.log_probs_at(student, tokens.unsqueeze(-1), index).squeeze(-1)]


@lru_cache(maxsize=64)
def fused_chunks(functions: tuple[Callable[..., Tensor], ...]) -> FusedChunks | None:
    """The compiled execution of word-level functions; None where one of them has no closed form, or there are none."""
    forms = tuple(SLOPES[function] for function in functions if function in SLOPES)
    return FusedChunks(forms) if forms and len(forms) == len(functions) else None
