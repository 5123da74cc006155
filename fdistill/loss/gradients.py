"""Where the gradient of the student's inputs is put together, block by block of rows: dense logits, or a head's three tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from fdistill.logits import LinearLogits
from fdistill.loss.rows import DenseRows, LinearRows, StudentRows


def student_inputs(student: StudentRows) -> list[Tensor]:
    """The tensors whose gradients are wanted: flat logits, or hidden rows, head and bias."""
    if isinstance(student, DenseRows):
        return [student.logits]
    head = student.head
    return [student.hidden, head.weight] + ([] if head.bias is None else [head.bias])


class DenseGradient:
    """The gradient of flat logits [B·T, V], in their dtype; written where it belongs if no row is skipped or converted."""

    def __init__(self, student: DenseRows) -> None:
        self.student = student
        like = torch.empty_like if student.index is None else torch.zeros_like
        self.total = like(student.logits, memory_format=torch.contiguous_format)
        self.buffer: Tensor | None = None

    def target(self, block: slice, logits: Tensor, any_dtype: bool = False) -> Tensor:
        """Where the gradient of the block's logits [n, V] is to be written: in the working precision, or in any.

        With `any_dtype` that may be the logits themselves, where they are a copy.
        """
        if self.student.direct or (any_dtype and self.student.index is None):
            return self.total[block]
        if any_dtype:
            return logits
        if self.buffer is None:
            self.buffer = torch.empty(logits.shape, dtype=self.student.dtype, device=logits.device)
        return self.buffer[: len(logits)]

    def among(self, block: slice) -> Tensor:
        """Where the gradient of the block's rows belongs, [m, V], as their logits lie in `DenseRows.among`."""
        return self.total[block] if self.student.index is None else self.total

    def take(self, block: slice, logits: Tensor, gradient: Tensor) -> None:
        """Take what was written to `target`."""
        if self.student.direct or gradient.data_ptr() == self.total[block].data_ptr():
            return
        if self.student.index is None:
            self.total[block] = gradient
        else:
            self.total.index_copy_(0, self.student.index[block], gradient.to(self.total.dtype))

    def found(self) -> list[Tensor | None]:
        return [self.total]


class HeadGradient:
    """The gradients of hidden rows [N, d], head [V, d] and bias [V]; of the last two in the working precision.

    Logits are softcap · tanh((scale · h Wᵀ + bias) / softcap), see `fdistill.LinearLogits`.
    """

    def __init__(self, student: LinearRows, needs: list[bool]) -> None:
        self.student = student
        hidden, head = student.hidden, student.head
        self.hidden = torch.empty_like(hidden) if needs[0] else None
        self.weight = torch.zeros_like(head.weight, dtype=student.dtype) if needs[1] else None
        bias = head.bias if len(needs) == 3 and needs[2] else None
        self.bias = None if bias is None else torch.zeros_like(bias, dtype=student.dtype)
        self.has_bias = head.bias is not None

    def target(self, block: slice, logits: Tensor, any_dtype: bool = False) -> Tensor:
        """The block's logits themselves, which are read once before they are overwritten, unless a cap needs them later.

        In the working precision, or in any.
        """
        if self.student.head.softcap is None and (any_dtype or logits.dtype == self.student.dtype):
            return logits
        return torch.empty(logits.shape, dtype=self.student.dtype, device=logits.device)

    def take(self, block: slice, logits: Tensor, gradient: Tensor) -> None:
        """Carry the gradient of the block's logits, written to `target`, through the head."""
        head = self.student.head
        if head.softcap is not None and logits.dtype != gradient.dtype:
            self._take_by_autograd(block, gradient.to(logits.dtype))
            return
        if head.softcap is not None:
            gradient.mul_(1 - (logits.to(gradient.dtype) / head.softcap).square_())
        rows = self.student.hidden[block]
        back = gradient.to(rows.dtype)
        if self.bias is not None:
            self.bias += back.sum(0, dtype=self.bias.dtype)
        if self.hidden is not None:
            found = back @ head.weight.to(rows.dtype)
            self.hidden[block] = found if head.scale == 1.0 else found * head.scale
        if self.weight is not None:
            scaled = head.scaled(rows)
            if scaled.dtype == self.weight.dtype and not torch.is_autocast_enabled(rows.device.type):
                self.weight.addmm_(back.t(), scaled)
            else:
                self.weight += back.t() @ scaled

    def _take_by_autograd(self, block: slice, gradient: Tensor) -> None:
        """A capped head in half precision: rounded logits near the cap no longer tell its slope, so the head runs again."""
        head = self.student.head
        sums = [self.hidden, self.weight, self.bias]
        inputs = [self.student.hidden[block], head.weight, head.bias]
        with torch.enable_grad():
            leaves = [None if x is None else x.detach().requires_grad_() for x in inputs]
            hidden, weight, bias = leaves
            assert hidden is not None and weight is not None
            logits = LinearLogits(hidden, weight, bias, head.scale, head.softcap).dense()
        wanted = [leaf for leaf, total in zip(leaves, sums, strict=True) if total is not None and leaf is not None]
        found = iter(torch.autograd.grad(logits, wanted, gradient.to(logits.dtype)))
        for number, total in enumerate(sums):
            if total is not None and number == 0:
                total[block] = next(found)
            elif total is not None:
                total += next(found)

    def found(self) -> list[Tensor | None]:
        return [self.hidden, self.weight, self.bias] if self.has_bias else [self.hidden, self.weight]
