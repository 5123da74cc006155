"""Losses of installed toolkits behind one signature, (student_logits, teacher_logits, labels), as each toolkit documents its use.

Nothing of a toolkit is copied here: every function calls what is installed, and raises ImportError where it is not. Losses
that take hidden states and heads get the logits as hidden states and the identity as head.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(frozen=True)
class Foreign:
    """One loss of a toolkit: what its documentation calls it, what we expect it to be, and what it is found to be."""

    toolkit: str
    package: str
    calls_itself: str
    judged_as: str
    call: Callable[..., Any]
    options: dict[str, Any] = field(default_factory=dict)
    passes: bool = True
    computes: str = ""


def trl_gkd(student_logits, teacher_logits, labels, beta):
    from trl.experimental.gkd import GKDTrainer

    return GKDTrainer.generalized_jsd_loss(student_logits, teacher_logits, labels=labels, beta=beta)


def trl_distillation(student_logits, teacher_logits, mask, beta):
    from trl.trainer.distillation_trainer import _chunked_divergence_loss

    heads = [torch.eye(student_logits.shape[-1]) for _ in range(2)]
    return _chunked_divergence_loss(student_logits, teacher_logits, *heads, mask, beta)[0]


def liger_jsd(student_logits, teacher_logits, labels, beta):
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

    head = torch.eye(student_logits.shape[-1])
    loss = LigerFusedLinearJSDLoss(weight_hard_loss=0.0, weight_soft_loss=1.0, beta=beta, compiled=False)
    flat = [logits.reshape(-1, logits.shape[-1]) for logits in (student_logits, teacher_logits)]
    return loss(flat[0], head, flat[1], head.clone(), labels.reshape(-1))


def torchtune(name):
    def call(student_logits, teacher_logits, labels):
        from torchtune.modules import loss

        return getattr(loss, name)()(student_logits, teacher_logits, labels)

    return call


FOREIGN: tuple[Foreign, ...] = (
    Foreign(
        "TRL GKDTrainer, beta=0", "trl", "forward KL", "kl", trl_gkd, {"beta": 0.0}, True, "kl, KL(teacher ‖ student)"
    ),
    Foreign("TRL GKDTrainer, beta=1", "trl", "reverse KL", "rkl", trl_gkd, {"beta": 1.0}, True, "reverse_kl"),
    Foreign(
        "TRL GKDTrainer, beta=0.3",
        "trl",
        "generalized JSD",
        "js",
        trl_gkd,
        {"beta": 0.3},
        True,
        "beta weighs the teacher",
    ),
    Foreign(
        "TRL DistillationTrainer, beta=0", "trl", "forward KL", "kl", trl_distillation, {"beta": 0.0}, True, "kl, KL(t"
    ),
    Foreign(
        "TRL DistillationTrainer, beta=1",
        "trl",
        "reverse KL",
        "rkl",
        trl_distillation,
        {"beta": 1.0},
        True,
        "reverse_kl",
    ),
    Foreign(
        "TRL DistillationTrainer, beta=0.3",
        "trl",
        "generalized JSD",
        "js",
        trl_distillation,
        {"beta": 0.3},
        True,
        "weighs the teacher",
    ),
    Foreign(
        "Liger chunked JSD, beta=0",
        "liger_kernel",
        "forward KL",
        "kl",
        liger_jsd,
        {"beta": 0.0},
        True,
        "kl, KL(teacher",
    ),
    Foreign(
        "Liger chunked JSD, beta=1", "liger_kernel", "reverse KL", "rkl", liger_jsd, {"beta": 1.0}, True, "reverse_kl"
    ),
    Foreign(
        "Liger chunked JSD, beta=0.3", "liger_kernel", "JSD", "js", liger_jsd, {"beta": 0.3}, True, "weighs the teacher"
    ),
    Foreign(
        "torchtune ForwardKLLoss",
        "torchtune",
        "KL divergence",
        "kl",
        torchtune("ForwardKLLoss"),
        {},
        False,
        "kl without the teacher's entropy",
    ),
    Foreign(
        "torchtune ReverseKLLoss", "torchtune", "reverse KL", "rkl", torchtune("ReverseKLLoss"), {}, True, "reverse_kl"
    ),
    Foreign(
        "torchtune SymmetricKLLoss",
        "torchtune",
        "symmetric KL",
        "jeffreys",
        torchtune("SymmetricKLLoss"),
        {},
        False,
        "half of jeffreys without the teacher's entropy",
    ),
)
