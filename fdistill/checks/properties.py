"""The properties themselves: each takes a `Setting`, tries its cases and returns the largest error it saw.

An error is |machine - truth| / max(1, |truth|); for an inequality, by how much it is broken. Every docstring names the
fault that the property exists to catch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from fdistill_reference import TabularModel, gradient, sequence_divergence, stepwise_divergence
from fdistill_reference.coarsening import coarse_divergence, coarse_gradient
from torch import Tensor

from fdistill.checks.cases import CASES, Case
from fdistill.checks.enumeration import Sequences, all_sequences, machine, rounded
from fdistill.logits import LinearLogits, Logits, TopKLogits
from fdistill.loss import sequence_loss, step_losses
from fdistill.loss.kernels import launches_on
from fdistill.objectives import Objective, objective

Pair = tuple[TabularModel, TabularModel]

#: The kernels that `kernels` tries: a compilation of a second or two each, on a machine that has never seen them.
KERNEL_CASES = (
    "mle",
    "kl",
    "rkl",
    "engine",
    "js(middle=token)",
    "js(middle=sequence, estimator=balance)",
    "tvd(bound=paper)",
)


@dataclass(frozen=True)
class Setting:
    """Where and on what the properties are tried."""

    device: str
    dtype: torch.dtype
    pairs: tuple[Pair, ...]
    seed: int

    def sequences(self, pair: Pair) -> Sequences:
        return all_sequences(*pair, self.device, self.dtype)

    def generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed)


@dataclass(frozen=True)
class Outcome:
    """Cases tried, the largest error, and the case it belongs to."""

    cases: int
    error: float
    worst: str


def random_pairs(count: int, seed: int, dtype: torch.dtype, vocab: int = 3, length: int = 3) -> tuple[Pair, ...]:
    """Teachers and students with and without EOS, from nearly uniform to peaked, rounded to what `dtype` holds."""
    out = []
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        eos, peak = (None, 0)[index % 2], (1.0, 0.3, 3.0)[index % 3]
        models = [TabularModel.random(vocab, length, rng, eos=eos, peakedness=peak) for _ in range(2)]
        out.append((rounded(models[0], dtype), rounded(models[1], dtype)))
    return tuple(out)


def _worst(errors: Iterator[tuple[str, float]]) -> Outcome:
    cases, error, worst = 0, 0.0, ""
    for label, value in errors:
        cases += 1
        if math.isnan(value) or value > error:
            error, worst = (math.inf if math.isnan(value) else value), label
    return Outcome(cases, error, worst)


def relative(found: float | np.ndarray, truth: float | np.ndarray) -> float:
    """|found - truth| / max(1, |truth|), the largest over the entries; NaN counts as NaN."""
    difference = np.abs(np.asarray(found, dtype=float) - np.asarray(truth, dtype=float))
    return float(np.max(difference / np.maximum(1.0, np.abs(truth)))) if difference.size else 0.0


def _each(setting: Setting) -> Iterator[tuple[Case, Pair, Sequences]]:
    for pair in setting.pairs:
        sequences = setting.sequences(pair)
        for case in CASES:
            yield case, pair, sequences


def values(setting: Setting) -> Outcome:
    """The expected loss over all sequences is the reference's. Catches a swapped direction, a lost weight or ½, a wrong
    middle, a ratio that includes the current token, a mask applied too late."""

    def errors() -> Iterator[tuple[str, float]]:
        for case, (p, q), sequences in _each(setting):
            found, _ = machine(objective(case.name, **case.options), sequences)
            yield case.label, relative(found, stepwise_divergence(case.name, p, q, **case.options))

    return _worst(errors())


def _gradients(setting: Setting, mode: str) -> Outcome:
    def errors() -> Iterator[tuple[str, float]]:
        for case, (p, q), sequences in _each(setting):
            _, found = machine(objective(case.name, gradient=mode, **case.options), sequences)
            truth = gradient(case.name, p, q, mode=mode, **case.options)
            yield f"{case.label}, {mode}", relative(found, truth)

    return _worst(errors())


def stepwise_gradients(setting: Setting) -> Outcome:
    """The step-wise gradient is the reference's. Catches a detach in the wrong place and gradient through the teacher."""
    return _gradients(setting, "stepwise")


def kernels(setting: Setting) -> Outcome:
    """On a device with Triton kernels, their expected loss and step-wise gradient are the reference's. Catches a GPU, a
    driver or a Triton on which they are not."""

    def errors() -> Iterator[tuple[str, float]]:
        if not launches_on(torch.device(setting.device)):
            return
        for case, (p, q), sequences in _each(setting):
            if case.label in KERNEL_CASES:
                found, slope = machine(objective(case.name, **case.options), sequences, compiled=True)
                yield case.label, relative(found, stepwise_divergence(case.name, p, q, **case.options))
                yield (
                    f"{case.label}, gradient",
                    relative(slope, gradient(case.name, p, q, mode="stepwise", **case.options)),
                )
        if not launches_on(torch.device(setting.device)):
            yield "a kernel that could not be launched", math.inf

    return _worst(errors())


def full_gradients(setting: Setting) -> Outcome:
    """The full gradient is the derivative of the divergence. Catches a return that starts a step early or late, and
    weights that were held constant."""
    return _gradients(setting, "full")


def exact_divergences(setting: Setting) -> Outcome:
    """What claims to be exact equals D_f computed from P(y), Q(y) and f alone. Catches a decomposition that is not one."""

    def errors() -> Iterator[tuple[str, float]]:
        for case, (p, q), sequences in _each(setting):
            if case.exact:
                found, _ = machine(objective(case.name, **case.options), sequences)
                yield case.label, relative(found, sequence_divergence(case.exact, p, q, **case.divergence_options))

    return _worst(errors())


def upper_bounds(setting: Setting) -> Outcome:
    """What claims to be an upper bound is never below the divergence. Catches a weight that is too small."""

    def errors() -> Iterator[tuple[str, float]]:
        for case, (p, q), sequences in _each(setting):
            if case.bounds:
                found, _ = machine(objective(case.name, **case.options), sequences)
                options = {} if case.bounds == "tvd" else case.divergence_options
                yield case.label, max(0.0, sequence_divergence(case.bounds, p, q, **options) - found)

    return _worst(errors())


def zero_at_equality(setting: Setting) -> Outcome:
    """Identical models give exactly 0 at every step, in this dtype. Catches a lost entropy and noise sold as loss."""

    def errors() -> Iterator[tuple[str, float]]:
        for p, _ in setting.pairs:
            sequences = setting.sequences((p, p))
            for case in CASES:
                if case.name in ("mle", "seqkd", "engine"):
                    continue
                made = objective(case.name, **case.options)
                for source in made.sources:
                    steps = step_losses(made, source, **_batch(sequences))
                    yield case.label, float(steps.detach().abs().max())

    return _worst(errors())


def _batch(sequences: Sequences) -> dict[str, Tensor]:
    return {
        "student_logits": sequences.student_logits(),
        "teacher_logits": sequences.teacher_logits(),
        "tokens": sequences.tokens,
        "mask": sequences.mask,
    }


def _long_batch(setting: Setting, *, rows: int = 4, steps: int = 7, vocab: int = 11) -> dict[str, Tensor]:
    """A random batch with rows of unequal length, a masked first token in one of them, and nothing behind the mask."""
    noise = setting.generator()
    logits = [
        (2 * torch.randn(rows, steps, vocab, generator=noise, dtype=torch.float64)).to(setting.dtype) for _ in "pq"
    ]
    tokens = torch.randint(vocab, (rows, steps), generator=noise)
    lengths = torch.randint(2, steps + 1, (rows, 1), generator=noise)
    mask = torch.arange(steps) < lengths
    mask[0, 0] = False
    batch = {"teacher_logits": logits[0], "student_logits": logits[1], "tokens": tokens, "mask": mask}
    return {name: value.to(setting.device) for name, value in batch.items()}


def _loss_and_gradient(made: Objective, source: str, batch: dict[str, Any], **more: Any) -> tuple[float, np.ndarray]:
    student = batch["student_logits"].detach().clone().requires_grad_()
    arguments: dict[str, Any] = {**batch, "student_logits": student, **more}
    loss = sequence_loss(made, source, **arguments).loss
    (grad,) = torch.autograd.grad(loss, student)
    return float(loss.detach()), grad.double().cpu().numpy()


def _short_cases() -> Iterator[tuple[Case, Objective, str]]:
    """Every case on every source that it reads."""
    for case in CASES:
        made = objective(case.name, **case.options)
        for source in made.sources:
            yield case, made, source


def junk_under_the_mask(setting: Setting) -> Outcome:
    """NaN, infinities and token -100 behind the mask change nothing, and get gradient 0. Catches masks after reductions."""
    clean = _long_batch(setting)
    dirty = dict(clean)
    hidden = ~clean["mask"]
    for name, value in (("student_logits", math.nan), ("teacher_logits", math.inf)):
        dirty[name] = clean[name].masked_fill(hidden.unsqueeze(-1), value)
    dirty["tokens"] = clean["tokens"].masked_fill(hidden, -100)

    def errors() -> Iterator[tuple[str, float]]:
        for case, made, source in _short_cases():
            truth, found = (_loss_and_gradient(made, source, batch) for batch in (clean, dirty))
            stray = float(np.abs(found[1][hidden.cpu().numpy()]).max())
            yield case.label, max(relative(found[0], truth[0]), relative(found[1], truth[1]), stray)

    return _worst(errors())


def splitting_a_batch(setting: Setting) -> Outcome:
    """Halves of a batch with the whole's normalizer sum to the whole. Catches a mean of means."""
    batch = _long_batch(setting)

    def errors() -> Iterator[tuple[str, float]]:
        for case, made, source in _short_cases():
            for reduction in ("sequence", "token"):
                count = batch["mask"].sum() if reduction == "token" else batch["mask"].any(1).sum()
                whole, grad = _loss_and_gradient(made, source, batch, reduction=reduction)
                parts = [{k: v[s] for k, v in batch.items()} for s in (slice(0, 1), slice(1, None))]
                found = [_loss_and_gradient(made, source, x, reduction=reduction, normalizer=count) for x in parts]
                joined = np.concatenate([g for _, g in found])
                yield case.label, max(relative(sum(v for v, _ in found), whole), relative(joined, grad))

    return _worst(errors())


def packing_documents(setting: Setting) -> Outcome:
    """Documents packed into one row count as rows of their own. Catches a ratio that runs on into the next document."""
    batch = _long_batch(setting)
    rows, steps = batch["tokens"].shape
    packed = {name: value.reshape(1, rows * steps, *value.shape[2:]) for name, value in batch.items()}
    documents = torch.arange(rows, device=setting.device).repeat_interleave(steps).unsqueeze(0)

    def errors() -> Iterator[tuple[str, float]]:
        for case, made, source in _short_cases():
            truth = _loss_and_gradient(made, source, batch)
            found = _loss_and_gradient(made, source, packed, documents=documents)
            yield case.label, max(relative(found[0], truth[0]), relative(found[1].reshape(truth[1].shape), truth[1]))

    return _worst(errors())


def top_k(logits: Tensor, sequences: Sequences, k: int) -> TopKLogits:
    """A teacher's logits [S, T, V] as its top k and a tail."""
    working = torch.float64 if logits.dtype == torch.float64 else torch.float32
    log_probs = logits.to(working).log_softmax(-1)
    kept, ids = log_probs.nan_to_num(0.0, 0.0, -1e30).topk(k)
    others = log_probs.scatter(-1, ids, -math.inf)
    safe = sequences.tokens.clamp(min=0).unsqueeze(-1)
    return TopKLogits(ids, kept, others.logsumexp(-1), log_probs.gather(-1, safe).squeeze(-1))


def sparse_teacher(setting: Setting) -> Outcome:
    """A top-k teacher's loss and gradient are the reference's, equal to the dense ones at k = V and never above them below.
    Catches a tail that is lost or renormalised away, a bucket's slope that its tokens do not share, and ratios from buckets."""

    def errors() -> Iterator[tuple[str, float]]:
        for case, (p, q), sequences in _each(setting):
            made = objective(case.name, **case.options)
            if case.name in ("engine", "mle", "seqkd"):
                continue
            dense, grad = machine(made, sequences)
            whole = machine(made, sequences, as_teacher=partial(top_k, k=p.vocab))
            yield case.label, max(relative(whole[0], dense), relative(whole[1], grad))
            part = machine(made, sequences, as_teacher=partial(top_k, k=1))
            yield f"{case.label}, k = 1", max(0.0, part[0] - dense, -part[0])
            yield f"{case.label}, k = 1", relative(part[0], coarse_divergence(case.name, p, q, 1, **case.options))
            slope = coarse_gradient(case.name, p, q, 1, mode="stepwise", **case.options)
            yield f"{case.label}, k = 1, gradient", relative(part[1], slope)

    return _worst(errors())


def heads(setting: Setting) -> Outcome:
    """Hidden states behind a head give the loss and gradients of the logits they stand for. Catches a lost bias, scale,
    cap or chunk."""
    batch = _long_batch(setting)
    noise = setting.generator()
    rows, steps, vocab = batch["student_logits"].shape

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=noise, dtype=torch.float64).to(setting.device, setting.dtype)

    made = [draw(rows, steps, 5), draw(vocab, 5), draw(vocab)]

    def one(head: Callable[..., Logits], case: Objective, source: str) -> list[np.ndarray]:
        leaves = [x.detach().clone().requires_grad_() for x in made]
        arguments: dict[str, Any] = {**batch, "student_logits": head(*leaves)}
        loss = sequence_loss(case, source, **arguments).loss
        return [np.asarray(float(loss.detach()))] + [
            g.double().cpu().numpy() for g in torch.autograd.grad(loss, leaves)
        ]

    def errors() -> Iterator[tuple[str, float]]:
        for case, objective_, source in _short_cases():
            for softcap in (None, 3.0):
                dense = one(lambda h, w, b, c=softcap: LinearLogits(h, w, b, 0.5, c).dense(), objective_, source)
                lazy = one(lambda h, w, b, c=softcap: LinearLogits(h, w, b, 0.5, c), objective_, source)
                yield case.label, max(relative(a, b) for a, b in zip(lazy, dense, strict=True))

    return _worst(errors())


def extreme_logits(setting: Setting) -> Outcome:
    """Logits of ±1e4, -inf and one-hot rows give finite losses and gradients where the divergence is bounded. Catches
    logarithms of probabilities that were formed first."""
    vocab = 5
    rows = [
        [1e4, -1e4, 0, 0, 0],
        [-1e4, -1e4, 1e4, 0, 0],
        [-math.inf, 0, 0, 0, 0],
        [0.0] * vocab,
        [0, -math.inf, 1, 2, 3],
    ]
    table = torch.tensor(rows, dtype=setting.dtype, device=setting.device)
    batch = {
        "teacher_logits": table.unsqueeze(0),
        "student_logits": table.flip(0).unsqueeze(0),
        "tokens": torch.full((1, len(rows)), 3, device=setting.device),
        "mask": torch.ones(1, len(rows), dtype=torch.bool, device=setting.device),
    }

    def errors() -> Iterator[tuple[str, float]]:
        for case, made, source in _short_cases():
            # The ratio-weighted estimators are unbounded by nature, and token 3 is far too likely for one of the models.
            if case.name not in ("js", "tvd") or case.options.get("estimator") in ("teacher", "student"):
                continue
            loss, grad = _loss_and_gradient(made, source, batch)
            yield case.label, 0.0 if math.isfinite(loss) and np.isfinite(grad).all() else math.inf

    return _worst(errors())


def errors_of(case: Case, pair: Pair, setting: Setting) -> tuple[float, float, float]:
    """Errors of one case on one pair of models: value, step-wise gradient, full gradient."""
    p, q = pair
    sequences = setting.sequences(pair)
    value, stepwise = machine(objective(case.name, **case.options), sequences)
    _, full = machine(objective(case.name, gradient="full", **case.options), sequences)
    return (
        relative(value, stepwise_divergence(case.name, p, q, **case.options)),
        relative(stepwise, gradient(case.name, p, q, mode="stepwise", **case.options)),
        relative(full, gradient(case.name, p, q, mode="full", **case.options)),
    )
