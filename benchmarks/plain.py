"""The divergences as one writes them in plain torch: log-softmax of both, the formula, and autograd does the rest."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(teacher ‖ student) of log-probabilities [N, V], per row."""
    return (p.exp() * (p - q)).sum(-1)


def reverse_kl(p: Tensor, q: Tensor) -> Tensor:
    return (q.exp() * (q - p)).sum(-1)


def tvd(p: Tensor, q: Tensor) -> Tensor:
    return 0.5 * (p.exp() - q.exp()).abs().sum(-1)


def js_teacher(p: Tensor, q: Tensor) -> Tensor:
    """The teacher's half, ½ KL(p ‖ m)."""
    middle = torch.logaddexp(p, q) - math.log(2)
    return 0.5 * (p.exp() * (p - middle)).sum(-1)


def js_student(p: Tensor, q: Tensor) -> Tensor:
    """The student's half, ½ KL(q ‖ m)."""
    return js_teacher(q, p)


FORMULAS = {"kl": kl, "rkl": reverse_kl, "js-teacher": js_teacher, "js-student": js_student, "tvd": tvd}


def loss(name: str, student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over the rows of logits [N, V]."""
    return FORMULAS[name](teacher.log_softmax(-1), student.log_softmax(-1)).mean()
