"""The ways in which people write a distillation loss: which divergence, which model first, which weight, which mean."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fdistill import divergences as words
from fdistill.loss.chunked import entropy

WEIGHTS = (0.5, 0.1, 0.25, 0.3, 0.7, 0.75, 0.9)
SCALES = {1.0: "", 0.5: "half of ", 2.0: "twice "}


@dataclass(frozen=True)
class JudgedBatch:
    """One batch as a foreign loss sees it: float32 logits [B, T, V] already aligned to tokens, and a mask."""

    student: Tensor
    teacher: Tensor
    tokens: Tensor
    mask: Tensor

    @property
    def labels(self) -> Tensor:
        return self.tokens.masked_fill(~self.mask, -100)


@dataclass(frozen=True)
class Reading:
    """One way to read a loss: `name` says what it is, `steps` are its values [B, T] on a batch."""

    divergence: str
    name: str
    teacher_weight: float | None
    steps: Tensor
    entropy_left_out: bool = False
    swapped: bool = False


def random_batch(seed: int, *, padded: bool, rows: int = 3, steps: int = 6, vocab: int = 13) -> JudgedBatch:
    noise = torch.Generator().manual_seed(seed)
    teacher, student = (1.5 * torch.randn(rows, steps, vocab, generator=noise) for _ in range(2))
    tokens = torch.randint(1, vocab, (rows, steps), generator=noise)
    mask = torch.ones(rows, steps, dtype=torch.bool)
    if padded:
        for row in range(1, rows):
            mask[row, steps - 2 * row :] = False
    return JudgedBatch(student, teacher, tokens, mask)


def readings(batch: JudgedBatch, weights: tuple[float, ...]) -> Iterator[Reading]:
    """Every registered divergence on the batch's steps, teacher first and student first, under every weight."""
    log_p, log_q = batch.teacher.log_softmax(-1), batch.student.log_softmax(-1)
    for swapped in (False, True):
        a, b = (log_q, log_p) if swapped else (log_p, log_q)
        suffix = " with teacher and student swapped" if swapped else ""
        for name in ("tvd", "hellinger", "jeffreys"):
            if not swapped:
                yield Reading(name, name, None, words.DIVERGENCES[name].function(a, b))
        yield Reading("chi2", "chi2" + suffix, None, words.chi2(a, b), swapped=swapped)
        if not swapped:
            yield Reading("kl", "kl, KL(teacher ‖ student)", None, words.kl(a, b))
            yield Reading("reverse_kl", "reverse_kl, KL(student ‖ teacher)", None, words.reverse_kl(a, b))
            ce = words.kl(a, b) + entropy(a)
            yield Reading("kl", "kl without the teacher's entropy (a cross-entropy)", None, ce, entropy_left_out=True)
            both = ce + words.reverse_kl(a, b)
            yield Reading(
                "jeffreys", "jeffreys without the teacher's entropy: not symmetric", None, both, entropy_left_out=True
            )
            yield Reading(
                "cross_entropy_to_teacher",
                "cross_entropy_to_teacher (reverse KL without the student's entropy)",
                None,
                words.cross_entropy_to_teacher(a, b),
            )
            yield Reading("nll", "nll of the student", None, words.nll(None, b, tokens=batch.tokens))
        for weight in weights:
            yield from _weighted(a, b, weight, swapped)


def _weighted(a: Tensor, b: Tensor, weight: float, swapped: bool) -> Iterator[Reading]:
    suffix = " with teacher and student swapped" if swapped else ""
    odds = a.new_full(a.shape[:-1], math.log(weight) - math.log1p(-weight))
    if not swapped:
        name = f"js, {weight:g} KL(teacher ‖ m) + {1 - weight:g} KL(student ‖ m), m = {weight:g} teacher + {1 - weight:g} student"
        yield Reading("js", name, weight, words.js(a, b, log_odds=odds))
        other = (1 - weight) * words.kl_to_middle(a, b, log_odds=odds)
        other = other + weight * words.reverse_kl_to_middle(a, b, log_odds=odds)
        if weight != 0.5:
            halves = f"{1 - weight:g} KL(teacher ‖ m) + {weight:g} KL(student ‖ m)"
            label = f"{halves}, m = {weight:g} teacher + {1 - weight:g} student (halves unlike the middle: not a js)"
            yield Reading("", label, weight, other)
    yield Reading(
        "skew_kl", f"skew_kl with alpha {weight:g}{suffix}", weight, words.skew_kl(a, b, alpha=weight), swapped=swapped
    )
    yield Reading(
        "skew_rkl",
        f"skew_rkl with alpha {weight:g}{suffix}",
        weight,
        words.skew_rkl(a, b, alpha=weight),
        swapped=swapped,
    )
    yield Reading(
        "alpha", f"alpha divergence {weight:g}{suffix}", weight, words.alpha(a, b, alpha=weight), swapped=swapped
    )


def reductions(steps: Tensor, mask: Tensor, vocab: int) -> dict[str, Tensor]:
    """Every usual reduction of step values [B, T] by name."""
    kept = steps.masked_fill(~mask, 0.0)
    per_sequence = kept.sum(1)
    lengths = mask.sum(1).clamp(min=1)
    return {
        "token mean": kept.sum() / mask.sum(),
        "mean over sequences of their token means": (per_sequence / lengths).mean(),
        "sum over tokens, mean over sequences": per_sequence.mean(),
        "sum over everything": kept.sum(),
        "mean over positions, padding included": kept.sum() / mask.numel(),
        "mean over every logit (also over the vocabulary)": kept.sum() / (mask.sum() * vocab),
        "none, a value per token": kept,
        "none, a value per sequence (sum)": per_sequence,
        "none, a value per sequence (mean)": per_sequence / lengths,
    }
