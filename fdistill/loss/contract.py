"""What a batch must look like before anything is computed; every refusal is one line that names the values seen."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fdistill.errors import ObjectiveError, VocabularyError, closest
from fdistill.logits import LinearLogits, Logits, TopKLogits
from fdistill.objectives import SOURCES, Objective


@dataclass(frozen=True)
class Batch:
    """One checked batch of one source; the arguments of `step_losses` under their own names."""

    objective: Objective
    source: str
    student: Tensor | LinearLogits
    teacher: Logits | None
    tokens: Tensor
    mask: Tensor
    documents: Tensor | None
    groups: Tensor | None
    baseline: str | Tensor | None

    @property
    def full(self) -> bool:
        return self.objective.gradient == "full"

    @property
    def dtype(self) -> torch.dtype:
        """float64 where any input is, float32 otherwise."""
        tensors = [_values(self.student), *([_values(self.teacher)] if self.teacher is not None else [])]
        return torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32


def _values(logits: Logits) -> Tensor:
    """The tensor whose shape starts with [B, T] and whose dtype is the model's."""
    if isinstance(logits, LinearLogits):
        return logits.hidden
    return logits.log_probs if isinstance(logits, TopKLogits) else logits


def _vocab_size(logits: Logits) -> int | None:
    if isinstance(logits, TopKLogits):
        return None
    return logits.vocab_size if isinstance(logits, LinearLogits) else logits.shape[-1]


def check_batch(
    objective: Objective,
    source: str,
    student: Logits,
    teacher: Logits | None,
    tokens: Tensor,
    mask: Tensor,
    documents: Tensor | None,
    groups: Tensor | None,
    baseline: str | Tensor | None,
) -> Batch:
    """Check the arguments of `step_losses` and return them as a `Batch`.

    Raises:
        ObjectiveError: shapes that do not fit, a missing teacher, or options without a meaning together.
        VocabularyError: teacher and student logits of different width.
    """
    if source not in SOURCES:
        raise ObjectiveError(f"unknown source {source!r}.{closest(source, SOURCES)} Known: {', '.join(SOURCES)}.")
    if isinstance(student, TopKLogits):
        raise ObjectiveError("student_logits must be dense or LinearLogits: only a teacher may be known by its top k.")
    _check_shapes(student, teacher, tokens, mask, documents)
    if teacher is None and objective.needs_teacher(source):
        raise ObjectiveError(f"objective {objective.name!r} needs teacher_logits on {source} prefixes; they are None.")
    if teacher is not None:
        _check_teacher(objective, source, student, teacher)
    _check_baseline(objective, tokens, groups, baseline)
    return Batch(objective, source, student, teacher, tokens, mask, documents, groups, baseline)


def _check_shapes(
    student: Logits, teacher: Logits | None, tokens: Tensor, mask: Tensor, documents: Tensor | None
) -> None:
    if tokens.dim() != 2 or tokens.is_floating_point():
        raise ObjectiveError(f"tokens must be integers [B, T], not {tokens.dtype} of shape {list(tokens.shape)}.")
    if mask.dtype != torch.bool or mask.shape != tokens.shape:
        raise ObjectiveError(
            f"mask must be bool of the shape of tokens, {list(tokens.shape)}, not {mask.dtype} of {list(mask.shape)}."
        )
    if documents is not None and documents.shape != tokens.shape:
        raise ObjectiveError(
            f"documents must have the shape of tokens, {list(tokens.shape)}, not {list(documents.shape)}."
        )
    for name, logits in (("student_logits", student), ("teacher_logits", teacher)):
        if logits is None:
            continue
        values = _values(logits)
        if values.dim() != 3 or values.shape[:2] != tokens.shape:
            raise ObjectiveError(
                f"{name} must be aligned to tokens {list(tokens.shape)} with one more dimension (step t predicts "
                f"tokens[:, t]); their shape is {list(values.shape)}."
            )
    vocab_size = _vocab_size(student)
    if tokens.device.type == "cpu" and vocab_size is not None:
        counted = tokens[mask]
        if counted.numel() and not (int(counted.min()) >= 0 and int(counted.max()) < vocab_size):
            raise ObjectiveError(
                f"tokens under the mask go from {int(counted.min())} to {int(counted.max())}, outside the vocabulary of "
                f"{vocab_size}. Set mask False where a token does not count."
            )


def _check_teacher(objective: Objective, source: str, student: Logits, teacher: Logits) -> None:
    ours, theirs = _vocab_size(student), _vocab_size(teacher)
    if theirs is not None and ours != theirs:
        raise VocabularyError(
            f"teacher_logits have {theirs} tokens and student_logits {ours}. Distillation compares next-token "
            "probabilities, so both need one vocabulary: cut padded embedding tables to the tokenizer's size."
        )
    if isinstance(teacher, TopKLogits):
        for term in objective.terms_of(source):
            if term.function.needs_teacher and not term.function.coarsens:
                raise ObjectiveError(
                    f"{term.function.name} cannot be computed from a top-k teacher: merging the other tokens into one "
                    "bucket biases it. Give the teacher's full logits, or use an f-divergence."
                )


def _check_baseline(objective: Objective, tokens: Tensor, groups: Tensor | None, baseline: str | Tensor | None) -> None:
    if baseline is None:
        return
    if objective.gradient != "full":
        raise ObjectiveError(
            "a baseline belongs to gradient 'full'; the step-wise gradient has no score-function part."
        )
    if isinstance(baseline, Tensor):
        if baseline.shape != tokens.shape or baseline.requires_grad:
            raise ObjectiveError(
                f"a baseline tensor must be detached and of the shape of tokens, {list(tokens.shape)}, "
                f"not {list(baseline.shape)}{' with gradient' if baseline.requires_grad else ''}."
            )
        return
    if baseline != "leave_one_out":
        raise ObjectiveError(f"baseline is None, 'leave_one_out' or a detached tensor [B, T], not {baseline!r}.")
    if groups is None or groups.shape != tokens.shape[:1]:
        raise ObjectiveError("baseline 'leave_one_out' needs groups, int [B]: which rows share a source text.")
    sizes = torch.bincount(torch.unique(groups, return_inverse=True)[1])
    if int(sizes.min()) < 2:
        raise ObjectiveError(
            "baseline 'leave_one_out' averages over the other samples of a group, and a group here has one sample alone. "
            "Draw at least two samples per source text (num_student_samples=2)."
        )
