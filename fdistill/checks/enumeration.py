"""The machine's loss and gradient summed over *all* sequences of small models, each weighed by its probability."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from fdistill_reference import TabularModel
from torch import Tensor

from fdistill.logits import Logits
from fdistill.loss import sequence_loss
from fdistill.objectives import Objective


@dataclass(frozen=True)
class Sequences:
    """All sequences of a pair of models as one batch, on a device."""

    teacher: Tensor  # [N, V] logits of every prefix
    student: Tensor  # [N, V], a leaf, in the working precision: gradients of many sequences meet in it
    dtype: torch.dtype  # of the logits that the loss sees
    rows: Tensor  # [S, T]
    tokens: Tensor  # [S, T]
    mask: Tensor  # [S, T]
    probs: dict[str, Tensor]  # by source: [S]

    def teacher_logits(self) -> Tensor:
        return self.teacher[self.rows].to(self.dtype)

    def student_logits(self) -> Tensor:
        return self.student[self.rows].to(self.dtype)


def rounded(model: TabularModel, dtype: torch.dtype) -> TabularModel:
    """The model whose logits are what `dtype` can hold, so that comparing measures computation and not rounding."""
    return model.with_logits(torch.tensor(np.array(model.logits)).to(dtype).double().numpy())


def all_sequences(p: TabularModel, q: TabularModel, device: str | torch.device, dtype: torch.dtype) -> Sequences:
    """Every complete sequence of `p` and `q`, with junk (NaN logits, token -100) wherever the mask is False."""
    batch = q.batch()
    working = torch.float64 if dtype == torch.float64 else torch.float32
    junk = np.where(batch.mask, batch.tokens, -100)

    def table(model: TabularModel) -> Tensor:
        # One row more than there are prefixes: what masked steps read.
        extended = np.concatenate([np.array(model.logits), np.full((1, model.vocab), np.nan)])
        return torch.tensor(extended, dtype=working, device=device)

    rows = np.where(batch.mask, batch.rows, len(q.prefixes()))
    teacher_probs, student_probs = np.exp(p.sequence_log_probs()), np.exp(q.sequence_log_probs())
    sources = {"data": teacher_probs, "teacher": teacher_probs, "student": student_probs}
    return Sequences(
        table(p),
        table(q).requires_grad_(),
        dtype,
        torch.tensor(rows, device=device),
        torch.tensor(junk, device=device),
        torch.tensor(batch.mask, device=device),
        {source: torch.tensor(values, dtype=working, device=device) for source, values in sources.items()},
    )


def machine(
    objective: Objective,
    sequences: Sequences,
    *,
    as_student: Callable[[Tensor], Logits] = lambda logits: logits,
    as_teacher: Callable[[Tensor, Sequences], Logits] = lambda logits, sequences: logits,
    compiled: bool = False,
) -> tuple[float, np.ndarray]:
    """Expected loss of an objective and its gradient by the student's logits table, [N, V], over all sequences.

    Args:
        as_student: turns the student's logits [S, T, V] into the form under test.
        as_teacher: the same for the teacher's.
        compiled: as in `sequence_loss`.
    """
    total = sequences.student.new_zeros((), dtype=sequences.probs["student"].dtype)
    for source in objective.sources:
        output = sequence_loss(
            objective,
            source,
            student_logits=as_student(sequences.student_logits()),
            teacher_logits=as_teacher(sequences.teacher_logits(), sequences),
            tokens=sequences.tokens,
            # What a source never writes has no loss, also where the loss would be infinite.
            mask=sequences.mask & (sequences.probs[source] > 0).unsqueeze(1),
            weights=sequences.probs[source],
            normalizer=1.0,
            compiled=compiled,
        )
        total = total + output.loss
    (gradient,) = torch.autograd.grad(total, sequences.student)
    return float(total.detach()), gradient[:-1].double().cpu().numpy()
