"""Liger-Kernel's Triton losses. Without a GPU their kernels run in Triton's interpreter: TRITON_INTERPRET=1, set before Python
starts, because Triton reads it when torch imports it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def runs_here() -> bool:
    """Whether a Triton kernel can run on this machine: on a GPU, or interpreted."""
    return INTERPRETED or torch.cuda.is_available()


def flat(*logits: Tensor) -> list[Tensor]:
    """[B, T, V] as [B·T, V]."""
    return [x.reshape(-1, x.shape[-1]) for x in logits]


def jsd(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, beta: float) -> Tensor:
    from liger_kernel.transformers import LigerJSD

    student, teacher = (x.log_softmax(-1) for x in flat(student_logits, teacher_logits))
    return LigerJSD(beta=beta)(student, teacher, labels.reshape(-1))


def fused_linear_jsd(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, beta: float) -> Tensor:
    from liger_kernel.transformers import LigerFusedLinearJSD

    student, teacher = flat(student_logits, teacher_logits)
    heads = [torch.eye(student.shape[-1], requires_grad=True) for _ in range(2)]
    return LigerFusedLinearJSD(jsd_beta=beta)(student, heads[0], teacher, heads[1], labels.reshape(-1))


def fused_linear_kl_div(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor) -> Tensor:
    from liger_kernel.transformers.fused_linear_kl_div import LigerFusedLinearKLDivLoss

    student, teacher = flat(student_logits, teacher_logits)
    head = torch.eye(student.shape[-1], requires_grad=True)
    return LigerFusedLinearKLDivLoss()(student, head, teacher.softmax(-1), labels.reshape(-1))


class Scalar(float):
    """A number that can be cast, as a compiled kernel sees it; the interpreter hands kernels plain floats."""

    def to(self, dtype: Any) -> float:
        return float(self)


def castable(value: Any) -> Any:
    return Scalar(value) if isinstance(value, float) else value


class CastableScalars:
    """A Triton kernel whose float arguments can be cast."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel

    def __getitem__(self, grid: Any) -> Any:
        def launch(*args: Any, **options: Any) -> Any:
            return self.kernel[grid](*map(castable, args), **{name: castable(x) for name, x in options.items()})

        return launch


@contextmanager
def castable_scalars(module: Any, *kernels: str) -> Iterator[None]:
    """Let the interpreter run kernels that cast a float argument."""
    with ExitStack() as stack:
        for name in kernels if INTERPRETED else ():
            stack.enter_context(mock.patch.object(module, name, CastableScalars(getattr(module, name))))
        yield


def kl_div(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    from liger_kernel.ops import kl_div as kernels
    from liger_kernel.transformers import LigerKLDIVLoss

    student, teacher = flat(student_logits, teacher_logits)
    with castable_scalars(kernels, "_kldiv_kernel_forward", "_kldiv_kernel_backward"):
        return LigerKLDIVLoss(reduction="batchmean")(student.log_softmax(-1), teacher.softmax(-1))


def tvd(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor) -> Tensor:
    from liger_kernel.ops import tvd as kernels
    from liger_kernel.transformers import LigerTVDLoss

    student, teacher = (x.softmax(-1) for x in flat(student_logits, teacher_logits))
    with castable_scalars(kernels, "_tv_distance_kernel"):
        return LigerTVDLoss()(student, teacher, labels.reshape(-1))


def fused_tvd(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor) -> Tensor:
    from liger_kernel.transformers.fused_ce_tvd import LigerFusedCETVDLoss

    student, teacher = flat(student_logits, teacher_logits)
    _, distance = LigerFusedCETVDLoss()(student, teacher, labels.reshape(-1))[:2]
    return distance.reshape(labels.shape)
