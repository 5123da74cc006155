"""The loss of a block of rows in one kernel launch, written in Triton: for CUDA, where `compiled` needs several.

A row's logits come from memory once, its gradient goes there once, in the logits' own dtype, and no other [N, V] tensor
exists. The kernels take an objective whose source has one term with a form in `triton_rows`; the caller looks at the
values and leaves a block with an infinite one, and all else, to the other executions.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from fdistill import divergences

logger = logging.getLogger("fdistill")

#: Words that a program holds at one time; a smaller vocabulary is held whole.
WORDS = 2048

#: Kinds of devices with these kernels. Tests add "cpu" for Triton's interpreter.
DEVICES = {"cuda"}

#: What went wrong with a launch, once it has: the kernels are left alone from then on.
_broken: list[str] = []


def launches_on(device: torch.device) -> bool:
    """Whether kernels run on this device: on CUDA, with Triton installed, and as long as none has failed."""
    return device.type in DEVICES and not _broken and _has_triton()


@lru_cache(maxsize=1)
def _has_triton() -> bool:
    return find_spec("triton") is not None


def form_of(function: Callable[..., Tensor]) -> Any | None:
    """The Triton form of a word-level function, None where there is none."""
    name = getattr(function, "__name__", "")
    # A function of the user's may bear the name of one of ours.
    return _forms().get(name) if getattr(divergences, name, None) is function else None


@lru_cache(maxsize=1)
def _forms() -> dict[str, Any]:
    try:
        from fdistill.loss.triton_rows import FORMS
    except Exception as error:  # a Triton that does not fit this Python, driver or torch
        _give_up(error)
        return {}
    return FORMS


def _give_up(error: Exception) -> None:
    _broken.append(str(error))
    logger.warning("The loss goes on without Triton's kernels: %s", str(error).strip().split("\n")[0])


def launch_loss(
    form: Any,
    teacher: Tensor | None,
    student: Tensor,
    tokens: Tensor,
    known: dict[str, Tensor],
    pull: Tensor,
    out: Tensor,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Values, entropies and token log-probabilities, [N] each; the gradient goes to `out`. None where the launch fails.

    Args:
        form: of `form_of`.
        teacher, student: logits [N, V] of any dtype; no teacher where the form reads none.
        tokens: [N].
        known: keyword arguments of the word-level function, [N] each.
        pull: what each row's slope counts in the gradient, [N].
        out: [N, V] of any dtype, a row's words side by side; the student's logits themselves will do.
        dtype: the precision to compute in, float32 or float64.
    """
    rows, vocab = student.shape
    found = [torch.empty(rows, dtype=dtype, device=student.device) for _ in range(3)]
    theirs = student if teacher is None else _rows_in_line(teacher)
    ours = _rows_in_line(student)
    odds = known.get("log_odds")
    assert out.stride(-1) == 1
    numbers = (x.contiguous() for x in (tokens, pull if odds is None else odds, pull))
    arguments = (
        *(ours, ours.stride(0), theirs, theirs.stride(0)),
        *(*numbers, out, out.stride(0), *found, vocab),
    )
    options = {"FORM": form, "HAS_TEACHER": teacher is not None, "HAS_ODDS": odds is not None}
    return (found[0], found[1], found[2]) if _launch("loss_rows", rows, vocab, dtype, arguments, options) else None


def launch_token_log_probs(logits: Tensor, tokens: Tensor, dtype: torch.dtype) -> Tensor | None:
    """Log-probability of every row's token, [N, V] and [N] to [N], read once; None where the launch fails."""
    rows, vocab = logits.shape
    found = torch.empty(rows, dtype=dtype, device=logits.device)
    logits = _rows_in_line(logits)
    arguments = logits, logits.stride(0), tokens.contiguous(), found, vocab
    return found if _launch("token_rows", rows, vocab, dtype, arguments, {}) else None


def _rows_in_line(logits: Tensor) -> Tensor:
    """Logits whose rows may lie anywhere, but a row's words side by side."""
    return logits if logits.stride(-1) == 1 else logits.contiguous()


def _launch(
    name: str, rows: int, vocab: int, dtype: torch.dtype, arguments: tuple[Any, ...], options: dict[str, Any]
) -> bool:
    """One program a row; False, said once, where Triton cannot do it."""
    if rows == 0:
        return True
    try:
        import triton
        import triton.language as tl

        from fdistill.loss import triton_rows

        words = min(triton.next_power_of_2(vocab), WORDS)
        device = arguments[0].device
        with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
            getattr(triton_rows, name)[(rows,)](
                *arguments,
                **options,
                DTYPE=tl.float64 if dtype == torch.float64 else tl.float32,
                BLOCK=words,
                num_warps=max(1, min(8, words // 256)),
                enable_fp_fusion=True,
            )
    except Exception as error:  # whatever a compiler says, there is another way to the same numbers
        _give_up(error)
        return False
    return True
