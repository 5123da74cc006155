"""Other toolkits' losses under one signature, where they are installed. Nothing of theirs is copied here."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# TRL asks for this before it lets anybody into its experimental rooms.
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")


class Missing(ImportError):
    """A peer that is not installed, or does not import beside the versions that are."""


def module(name: str) -> Any:
    """Import a peer's module.

    Raises:
        Missing: with the reason in a line.
    """
    try:
        return importlib.import_module(name)
    except Exception as error:  # a peer may fail at import in any way
        raise Missing(
            f"{name.split('.')[0]} is skipped: {type(error).__name__}: {str(error).splitlines()[0]}"
        ) from error


def trl_gkd(beta: float) -> Callable[[Tensor, Tensor], Tensor]:
    """TRL's loss on dense logits [1, N, V]: beta 0 is KL, 1 is RKL, between them both halves of JS."""
    loss = module("trl.experimental.gkd").GKDTrainer.generalized_jsd_loss
    return lambda student, teacher: loss(student, teacher, beta=beta, reduction="batchmean")


def torchtune(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """torchtune's loss on dense logits [1, N, V]."""
    loss = getattr(module("torchtune.modules.loss"), name)()

    def call(student: Tensor, teacher: Tensor) -> Tensor:
        return loss(student, teacher, torch.zeros(student.shape[:2], dtype=torch.long))

    return call


def liger_dense(beta: float | None) -> Callable[[Tensor, Tensor], Tensor]:
    """Liger's Triton losses on logits [N, V], which take log-probabilities: beta 0 is KL, 1 is RKL, between them JS, none TVD."""
    made = module("liger_kernel.transformers")
    loss = made.LigerTVDLoss() if beta is None else made.LigerJSD(beta=beta)

    def call(student: Tensor, teacher: Tensor) -> Tensor:
        found = [x.float().log_softmax(-1) for x in (student, teacher)]
        return loss(*(x.exp() for x in found)) if beta is None else loss(*found)

    return call


Heads = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def trl_chunked(beta: float) -> Heads:
    """The loss of TRL's DistillationTrainer: hidden states [B, T, d] and heads [V, d], student first."""
    loss = module("trl.trainer.distillation_trainer")._chunked_divergence_loss

    def call(hidden: Tensor, head: Tensor, teacher_hidden: Tensor, teacher_head: Tensor) -> Tensor:
        mask = torch.ones(hidden.shape[:2], dtype=torch.long)
        return loss(hidden, teacher_hidden, head, teacher_head, mask, beta)[0]

    return call


def liger(beta: float, compiled: bool) -> Heads:
    """Liger's chunked loss with heads, its cross-entropy part weighted 0."""
    made = module("liger_kernel.chunked_loss").LigerFusedLinearJSDLoss(
        weight_hard_loss=0.0, weight_soft_loss=1.0, beta=beta, compiled=compiled
    )

    def call(hidden: Tensor, head: Tensor, teacher_hidden: Tensor, teacher_head: Tensor) -> Tensor:
        rows, teacher_rows = hidden.flatten(0, 1), teacher_hidden.flatten(0, 1)
        return made(rows, head, teacher_rows, teacher_head, torch.zeros(len(rows), dtype=torch.long))

    return call
