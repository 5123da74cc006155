"""Losses of installed toolkits behind one signature, (student_logits, teacher_logits, labels), as each toolkit documents its use.

Nothing of a toolkit is copied here: every function calls what is installed, and raises ImportError where it is not. Losses
that take hidden states and heads get the logits as hidden states and the identity as head.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import torch

from tests.conformance import liger_triton, torchrl_loss


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
    own_gradient: bool = True
    triton: bool = False

    def cannot_run(self) -> str:
        """Why it cannot be judged here; "" where it can."""
        if find_spec(self.package) is None:
            return "not installed"
        if self.triton and not liger_triton.runs_here():
            return "needs a GPU or TRITON_INTERPRET=1"
        return ""


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
    *(
        Foreign(name, "liger_kernel", says, name_here, call, options, True, computes, triton=True)
        for name, says, name_here, call, options, computes in (
            ("LigerJSD, beta=0", "forward KL", "kl", liger_triton.jsd, {"beta": 0.0}, "kl, KL(teacher"),
            ("LigerJSD, beta=1", "reverse KL", "rkl", liger_triton.jsd, {"beta": 1.0}, "reverse_kl"),
            ("LigerJSD, beta=0.3", "JSD", "js", liger_triton.jsd, {"beta": 0.3}, "weighs the teacher"),
            (
                "LigerFusedLinearJSD, jsd_beta=0.3",
                "JSD",
                "js",
                liger_triton.fused_linear_jsd,
                {"beta": 0.3},
                "weighs the teacher",
            ),
            ("LigerKLDIVLoss, batchmean", "KL divergence", "kl", liger_triton.kl_div, {}, "kl, KL(teacher"),
            (
                "LigerFusedLinearKLDivLoss",
                "KL divergence",
                "kl",
                liger_triton.fused_linear_kl_div,
                {},
                "kl, KL(teacher",
            ),
            ("LigerTVDLoss, batchmean", "TVD", "tvd", liger_triton.tvd, {}, "tvd"),
            ("LigerFusedCETVDLoss, its TVD", "TVD", "tvd", liger_triton.fused_tvd, {}, "tvd"),
        )
    ),
    Foreign(
        "torchrl DistillationLoss, forward, in expectation",
        "torchrl",
        "KL(teacher ‖ student)",
        "kl",
        torchrl_loss.distillation,
        {"direction": "forward"},
        True,
        "kl, KL(teacher",
    ),
    Foreign(
        "torchrl DistillationLoss, reverse, in expectation",
        "torchrl",
        "KL(student ‖ teacher)",
        "rkl",
        torchrl_loss.distillation,
        {"direction": "reverse"},
        True,
        "reverse_kl",
        own_gradient=False,
    ),
)
