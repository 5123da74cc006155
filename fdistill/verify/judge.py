"""Which divergence somebody else's loss in fact computes: matched against the registry under every usual convention."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fdistill.divergences import DIVERGENCES
from fdistill.errors import CheckError, closest
from fdistill.verify.conventions import SCALES, WEIGHTS, JudgedBatch, Reading, random_batch, readings, reductions

TOLERANCE = 1e-4
#: Names of objectives that people may say for a divergence.
ALIASES = {"rkl": "reverse_kl", "engine": "cross_entropy_to_teacher", "seqkd": "nll", "mle": "nll", "kd": "kl"}


@dataclass(frozen=True)
class Verdict:
    """What a loss computes.

    Attributes:
        loss: the function's name.
        expected: the divergence that it was said to be.
        passed: whether it is that, in the right direction and at full scale.
        computes: what it computes, in words.
        reduction: how it averages, in words; "" where nothing matched.
        error: relative difference to the reading that fits best.
        notes: lines on padding, label shift, extreme logits, identical models and gradient; they never change `passed`.
    """

    loss: str
    expected: str
    passed: bool
    computes: str
    reduction: str
    error: float
    notes: tuple[tuple[str, bool, str], ...] = field(default_factory=tuple)

    def as_dict(self) -> dict[str, Any]:
        notes = [{"check": name, "passed": ok, "says": text} for name, ok, text in self.notes]
        return {**{key: value for key, value in vars(self).items() if key != "notes"}, "notes": notes}


def load_function(path: str) -> Callable[..., Any]:
    """Import "package.module:function"; the working directory is importable.

    Raises:
        CheckError: the path has no colon, or nothing stands at it.
    """
    module_name, colon, attribute = path.partition(":")
    if not colon or not attribute:
        raise CheckError(f"--loss is package.module:function, not {path!r}.")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        target: Any = importlib.import_module(module_name)
    except ImportError as error:
        raise CheckError(f"--loss {path}: cannot import {module_name}: {error}") from None
    for part in attribute.split("."):
        if not hasattr(target, part):
            raise CheckError(f"--loss {path}: {module_name} has no {part!r}.{closest(part, dir(target))}")
        target = getattr(target, part)
    return target


def judge(loss: str | Callable[..., Any], expected: str, options: Mapping[str, Any] | None = None) -> Verdict:
    """Say which divergence a loss computes, and whether it is the expected one.

    Args:
        loss: a function, or where it stands as "package.module:function". It is called by keyword with those of
            student_logits, teacher_logits, labels, mask, tokens that its signature takes (float32 [B, T, V]).
        expected: a name of `fdistill.DIVERGENCES`, or an objective's.
        options: further keyword arguments; a number among them (a β) is tried as a weight of the teacher and of the student.

    Raises:
        CheckError: the name is unknown, or the function cannot be called this way.
    """
    function = load_function(loss) if isinstance(loss, str) else loss
    label = loss if isinstance(loss, str) else getattr(function, "__name__", str(function))
    name = ALIASES.get(expected, expected)
    if name not in DIVERGENCES:
        raise CheckError(
            f"unknown divergence {expected!r}.{closest(expected, DIVERGENCES)} Known: {', '.join(DIVERGENCES)}."
        )
    call = _caller(function, label, dict(options or {}))
    given = [float(v) for v in (options or {}).values() if isinstance(v, (int, float)) and 0 < v < 1]
    weights = tuple(dict.fromkeys([*given, *(round(1 - v, 12) for v in given), *WEIGHTS]))
    batches = [random_batch(seed, padded=False) for seed in (1, 2, 3)]
    match = _best_match(call, batches, weights, name)
    if match is None:
        text = "none of the registered divergences, under any convention tried"
        return Verdict(label, name, False, text, "", float("inf"), tuple(_notes(call, None, "", 1.0, 0)))
    reading, reduction, scale, shift, error = match
    whole = scale == 1.0 and reading.divergence == name and not reading.entropy_left_out and not reading.swapped
    computes = SCALES[scale] + reading.name + _weight_note(reading, options or {})
    if shift:
        computes += ", with labels shifted by one inside"
    notes = tuple(_notes(call, reading, reduction, scale, shift))
    return Verdict(label, name, whole, computes, _reduction_words(call, reading, reduction, scale, shift), error, notes)


def _caller(function: Callable[..., Any], label: str, options: dict[str, Any]) -> Callable[[JudgedBatch], Tensor]:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        raise CheckError(f"{label} has no signature to read; wrap it in a function with named arguments.") from None
    takes_all = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    known = ("student_logits", "teacher_logits", "labels", "mask", "tokens")
    if not {"student_logits", "teacher_logits"} & set(parameters) and not takes_all:
        raise CheckError(
            f"{label} takes {', '.join(parameters) or 'no arguments'}; it must take student_logits and teacher_logits (and may "
            "take labels, mask, tokens). Wrap it in a function that does."
        )

    def call(batch: JudgedBatch) -> Tensor:
        values = {
            "student_logits": batch.student,
            "teacher_logits": batch.teacher,
            "labels": batch.labels,
            "mask": batch.mask,
            "tokens": batch.tokens,
        }
        result = function(**{key: values[key] for key in known if key in parameters or takes_all}, **options)
        result = result[0] if isinstance(result, tuple) else result
        result = result.get("loss") if isinstance(result, dict) else result
        if not isinstance(result, Tensor):
            raise CheckError(f"{label} returned {type(result).__name__}; a loss returns a tensor.")
        return result

    try:
        call(random_batch(0, padded=False))
    except CheckError:
        raise
    except Exception as error:
        raise CheckError(f"{label} failed on a batch [3, 6, 13]: {type(error).__name__}: {error}") from None
    return call


def _shifted(batch: JudgedBatch, shift: int) -> JudgedBatch:
    """The steps that a loss with labels shifted inside compares: logits[:, :-1] with labels[:, 1:]."""
    if not shift:
        return batch
    return JudgedBatch(batch.student[:, :-1], batch.teacher[:, :-1], batch.tokens[:, 1:], batch.mask[:, 1:])


def _difference(found: Tensor, truth: Tensor) -> float:
    if found.shape != truth.shape and found.numel() != truth.numel():
        return float("inf")
    difference = (found.detach().double().reshape(-1) - truth.double().reshape(-1)).abs().max()
    value = float(difference / truth.double().abs().max().clamp(min=1e-12))
    return value if value == value else float("inf")


def _best_match(
    call: Callable[[JudgedBatch], Tensor], batches: list[JudgedBatch], weights: tuple[float, ...], expected: str
) -> tuple[Reading, str, float, int, float] | None:
    """The reading that fits on every batch: what was expected first, then whole before half, unshifted before shifted."""
    found = [call(batch) for batch in batches]
    matches = []
    for shift in (0, 1):
        columns = [list(readings(_shifted(batch, shift), weights)) for batch in batches]
        for row in zip(*columns, strict=True):
            tables = [
                reductions(r.steps, _shifted(b, shift).mask, b.student.shape[-1])
                for r, b in zip(row, batches, strict=True)
            ]
            for reduction in tables[0]:
                for scale in SCALES:
                    pairs = zip(found, tables, strict=True)
                    error = max(_difference(value, scale * table[reduction]) for value, table in pairs)
                    if error <= TOLERANCE:
                        rank = (
                            row[0].divergence != expected,
                            scale != 1.0,
                            row[0].entropy_left_out,
                            row[0].swapped,
                            shift,
                        )
                        matches.append((rank, (row[0], reduction, scale, shift, error)))
    return min(matches, key=lambda match: match[0])[1] if matches else None


def _weight_note(reading: Reading, options: Mapping[str, Any]) -> str:
    for key, value in options.items():
        if reading.teacher_weight is not None and isinstance(value, (int, float)) and value != 0.5:
            if abs(value - reading.teacher_weight) < 1e-9:
                return f"; {key} weighs the teacher"
            if abs(1 - value - reading.teacher_weight) < 1e-9:
                return f"; {key} weighs the student"
    return ""


def _reading_like(reading: Reading, batch: JudgedBatch) -> Reading:
    weights = WEIGHTS if reading.teacher_weight is None else (reading.teacher_weight,)
    return next(r for r in readings(batch, weights) if r.name == reading.name)


def _on(call: Callable[[JudgedBatch], Tensor], batch: JudgedBatch) -> Tensor | None:
    try:
        return call(batch)
    except Exception:
        return None


def _reduction_words(
    call: Callable[[JudgedBatch], Tensor], reading: Reading, reduction: str, scale: float, shift: int
) -> str:
    """Padding tells apart the means that agree without it."""
    batch = random_batch(4, padded=True)
    found = _on(call, batch)
    seen = _shifted(batch, shift)
    if found is not None:
        table = reductions(_reading_like(reading, seen).steps, seen.mask, batch.student.shape[-1])
        for name, value in table.items():
            if _difference(found, scale * value) <= TOLERANCE:
                return name
    return reduction


def _notes(
    call: Callable[[JudgedBatch], Tensor], reading: Reading | None, reduction: str, scale: float, shift: int
) -> list[tuple[str, bool, str]]:
    notes = [_padding_note(call), _extreme_note(call), _identical_note(call)]
    aligned = (
        "labels are shifted inside: give it unshifted logits"
        if shift
        else "step t of the logits is compared as it comes"
    )
    notes.insert(1, ("label shift", not shift, aligned))
    if reading is not None:
        notes.append(_gradient_note(call, reading, reduction, scale, shift))
    return notes


def _padding_note(call: Callable[[JudgedBatch], Tensor]) -> tuple[str, bool, str]:
    batch = random_batch(4, padded=True)
    hidden = (~batch.mask).unsqueeze(-1)
    junk = JudgedBatch(
        batch.student.masked_fill(hidden, 7.0), batch.teacher.masked_fill(hidden, -3.0), batch.tokens, batch.mask
    )
    clean, dirty = _on(call, batch), _on(call, junk)
    if clean is None or dirty is None:
        return ("padding", False, "fails on a padded batch")
    same = _difference(dirty, clean) <= TOLERANCE
    return ("padding", same, "masked steps change nothing" if same else "what stands in masked steps changes the loss")


def _extreme_note(call: Callable[[JudgedBatch], Tensor]) -> tuple[str, bool, str]:
    batch = random_batch(5, padded=False)
    extreme = JudgedBatch(batch.student * 1e3, batch.teacher * 1e3, batch.tokens, batch.mask)
    found = _on(call, extreme)
    finite = found is not None and bool(found.isfinite().all())
    return ("extreme logits", finite, "finite at logits of ±5000" if finite else "not finite at logits of ±5000")


def _identical_note(call: Callable[[JudgedBatch], Tensor]) -> tuple[str, bool, str]:
    batch = random_batch(6, padded=False)
    found = _on(call, JudgedBatch(batch.student, batch.student.clone(), batch.tokens, batch.mask))
    value = float("nan") if found is None else float(found.detach().abs().max())
    return ("identical models", value <= 1e-6, f"{value:.3g} where student and teacher agree")


def _gradient_note(
    call: Callable[[JudgedBatch], Tensor], reading: Reading, reduction: str, scale: float, shift: int
) -> tuple[str, bool, str]:
    batch = random_batch(7, padded=False)

    def gradients(of: Callable[[JudgedBatch], Tensor]) -> tuple[Tensor | None, Tensor | None]:
        leaves = [batch.student.clone().requires_grad_(), batch.teacher.clone().requires_grad_()]
        value = of(JudgedBatch(leaves[0], leaves[1], batch.tokens, batch.mask)).sum()
        if not value.requires_grad:
            return None, None
        student, teacher = torch.autograd.grad(value, leaves, allow_unused=True)
        return student, teacher

    def ours(b: JudgedBatch) -> Tensor:
        seen = _shifted(b, shift)
        detached = JudgedBatch(seen.student, seen.teacher.detach(), seen.tokens, seen.mask)
        return scale * reductions(_reading_like(reading, detached).steps, seen.mask, b.student.shape[-1])[reduction]

    try:
        found, to_teacher = gradients(call)
    except Exception as error:
        return ("gradient", False, f"backward fails: {type(error).__name__}")
    truth, _ = gradients(ours)
    if found is None or truth is None:
        return ("gradient", False, "none reaches the student")
    off = _difference(found, truth)
    if off > TOLERANCE:
        return ("gradient", False, f"differs from the divergence's by {off:.2g}")
    live = to_teacher is not None and bool((to_teacher != 0).any())
    return ("gradient", not live, "also flows into the teacher" if live else "the divergence's own")
