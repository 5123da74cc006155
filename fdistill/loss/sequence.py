"""`step_losses` and `sequence_loss`: an objective's terms on one batch of one source, per step and as the sum that is trained."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fdistill.errors import ObjectiveError
from fdistill.logits import LinearLogits, Logits
from fdistill.loss.chunked import chunked_loss, entropy, token_log_probs
from fdistill.loss.contract import Batch, check_batch
from fdistill.loss.rows import at_tokens, rows_of, scatter, select, unmasked_by_step, unmasked_index
from fdistill.loss.score import score_function_part
from fdistill.loss.steps import TermRows, batch_prefix, pair_log_probs, teacher_token_log_probs, term_rows
from fdistill.objectives import Objective
from fdistill.prefix import Prefix, first_steps, sums_before


@dataclass(frozen=True)
class LossOutput:
    """What `sequence_loss` returns; everything but `loss` is detached.

    Attributes:
        loss: scalar, Σ weights · steps / normalizer.
        steps: weighted sum of the source's terms per step, [B, T], before `weights`; 0 where masked.
        terms: by "source/divergence", what each term adds to the loss.
        token_log_probs: the student's log-probability of every token, [B, T]; 0 where masked.
        metrics: scalars by name: "tokens", "sequences", "student_entropy" (nats a token) and, where the objective reads
            it, "log_ratio_mean" and "log_ratio_std" (nats, over the unmasked steps' prefixes).
    """

    loss: Tensor
    steps: Tensor
    terms: dict[str, Tensor]
    token_log_probs: Tensor
    metrics: dict[str, Tensor]


def step_losses(
    objective: Objective,
    source: str,
    *,
    student_logits: Logits,
    teacher_logits: Logits | None = None,
    tokens: Tensor,
    mask: Tensor,
    documents: Tensor | None = None,
    groups: Tensor | None = None,
    baseline: str | Tensor | None = None,
) -> Tensor:
    """Weighted sum of the objective's terms of one source at every step, in nats (tvd: no unit).

    Args:
        objective: what to compute.
        source: who wrote `tokens`: "data", "teacher" or "student".
        student_logits: aligned to tokens (step t predicts tokens[:, t]), [B, T, V] or LinearLogits.
        teacher_logits: the same of the teacher, or TopKLogits; no gradient flows into them.
        tokens: int [B, T]; masked positions may hold anything.
        mask: bool [B, T]; a step counts by its own mask alone.
        documents: int [B, T], which document of a packed row a token belongs to; None: one a row.
        groups: int [B], rows that share a source text, for `baseline`.
        baseline: None, "leave_one_out" or a detached tensor [B, T]; for gradient "full".

    Returns:
        [B, T], exactly 0 (and without gradient) where masked, and everywhere if no term has that source. A
        LinearLogits student's logits are formed whole here; `sequence_loss` does not need them.

    Raises:
        ObjectiveError, VocabularyError: see `fdistill.loss.contract`.

    Source: Wen et al. (2023), Eqns. 5-10; the terms are those of `fdistill.objectives`.
    """
    batch = check_batch(objective, source, student_logits, teacher_logits, tokens, mask, documents, groups, baseline)
    found = _plain_steps(batch, torch.ones_like(mask, dtype=batch.dtype))
    return found.steps if found.score is None else found.steps + found.score


@dataclass(frozen=True)
class _Steps:
    """Step losses [B, T] and what was found on the way.

    `score` [B, T] has value 0 and carries what sampling adds to the full gradient; None elsewhere. Coefficients are in
    `terms` and `score`, not in `steps`.
    """

    steps: Tensor
    score: Tensor | None
    terms: dict[str, Tensor]
    token_log_probs: Tensor
    entropy: Tensor
    prefix: Prefix | None


def _plain_steps(batch: Batch, coefficients: Tensor) -> _Steps:
    """Every row at once, differentiable by autograd; `coefficients` [B, T] weigh the terms' sums and the returns."""
    index = unmasked_index(batch.mask)
    student, teacher = _rows(batch, index)
    tokens = select(batch.tokens, index).long()
    log_p, log_q = pair_log_probs(student, teacher)
    token_log_q = at_tokens(log_q, tokens)
    prefix = batch_prefix(batch, index, teacher_token_log_probs(teacher, log_p, tokens), token_log_q)
    rows = term_rows(batch, tokens, index, prefix)
    values = [scatter(row.value(teacher, log_p, log_q), index, batch.mask) for row in rows]
    token_steps = scatter(token_log_q, index, batch.mask)
    steps = torch.stack(values).sum(0) if values else torch.zeros_like(token_steps)
    samples = batch.full and batch.source == "student" and values
    score = score_function_part(batch, coefficients * steps, token_steps) if samples else None
    terms = {row.term.name: (coefficients * value).sum().detach() for row, value in zip(rows, values, strict=True)}
    entropies = scatter(entropy(log_q.detach()), index, batch.mask)
    return _Steps(steps, score, terms, token_steps.detach(), entropies, prefix)


def _rows(batch: Batch, index: Tensor | None):
    student = rows_of(batch.student, index, batch.dtype)
    # No gradient: the teacher's rows are only ever read under no_grad (`pair_log_probs`, `chunked`).
    needed = batch.objective.needs_teacher(batch.source)
    teacher = rows_of(batch.teacher, index, batch.dtype) if needed and batch.teacher is not None else None
    return student, teacher


def _chunked_steps(batch: Batch, coefficients: Tensor, compiled: bool) -> tuple[Tensor, _Steps]:
    """Σ coefficients · steps with its gradient formed on the way, for objectives whose gradient is step-wise."""
    reads_prefix = batch.objective.needs_prefix(batch.source)
    streams = reads_prefix and isinstance(batch.student, LinearLogits)
    index = unmasked_by_step(batch.mask) if streams else unmasked_index(batch.mask)
    student, teacher = _rows(batch, index)
    tokens = select(batch.tokens, index).long()
    vocab_size = batch.student.vocab_size if isinstance(batch.student, LinearLogits) else batch.student.shape[-1]

    def rows_given(token_log_p: Tensor | None, token_log_q: Tensor) -> list[TermRows]:
        return term_rows(batch, tokens, index, batch_prefix(batch, index, token_log_p, token_log_q))

    weights = select(coefficients, index)
    tokens_first = (
        token_log_probs(student, teacher, tokens, vocab_size, compiled) if reads_prefix and not streams else None
    )
    ask = rows_given if tokens_first is None else lambda *_: rows_given(*tokens_first)
    loss, found = chunked_loss(student, teacher, tokens, ask, weights, vocab_size, streams, compiled)
    seen = (found.token_log_p, found.token_log_q) if tokens_first is None else tokens_first
    prefix = batch_prefix(batch, index, *seen) if reads_prefix else None
    names = [term.name for term in batch.objective.terms_of(batch.source)]
    total = sum(found.terms) if found.terms else torch.zeros_like(found.token_log_q)
    return loss, _Steps(
        scatter(total, index, batch.mask),
        None,
        {name: (weights * value).sum() for name, value in zip(names, found.terms, strict=True)},
        scatter(found.token_log_q, index, batch.mask),
        scatter(found.entropy, index, batch.mask),
        prefix,
    )


def sequence_loss(
    objective: Objective,
    source: str,
    *,
    student_logits: Logits,
    teacher_logits: Logits | None = None,
    tokens: Tensor,
    mask: Tensor,
    documents: Tensor | None = None,
    groups: Tensor | None = None,
    baseline: str | Tensor | None = None,
    weights: Tensor | None = None,
    reduction: str = "sequence",
    normalizer: float | Tensor | None = None,
    compiled: bool = False,
) -> LossOutput:
    """The loss of one batch of one source: Σ weights · step losses / normalizer. What training calls.

    One training step's loss is the sum of this over the objective's sources. Arguments as in `step_losses`, and:

    Args:
        weights: [B] or [B, T], constants that multiply the step losses; they never enter a count.
        reduction: "sequence" divides by the number of sequences (Wen et al., 2023, Eqns. 5-10), "token" by that of
            unmasked tokens (as the paper's scripts do).
        baseline: a tensor is in the unit of the returns Σ_{j>t} weights · steps; the count divides both.
        normalizer: replaces the batch's own count, by that of a whole optimizer step on all ranks.
        compiled: fuse the work where the divergences have a closed form and the gradient is step-wise: on CUDA by Triton
            kernels, elsewhere by torch.compile (a C++ compiler; about ten seconds, once). It is a matter of speed alone.

    Raises:
        ObjectiveError, VocabularyError: see `fdistill.loss.contract`; also gradient "full" with reduction "token".
    """
    batch = check_batch(objective, source, student_logits, teacher_logits, tokens, mask, documents, groups, baseline)
    if reduction not in ("sequence", "token"):
        raise ObjectiveError(f"reduction is 'sequence' or 'token', not {reduction!r}.")
    if batch.full and reduction == "token":
        raise ObjectiveError(
            "gradient 'full' is refused with reduction 'token': the number of tokens depends on the sample, so the sum "
            "over it is no longer the gradient of an expectation. Use reduction 'sequence'."
        )
    counts = {"tokens": mask.sum(), "sequences": count_sequences(mask, documents)}
    count = counts["tokens" if reduction == "token" else "sequences"] if normalizer is None else normalizer
    count = torch.as_tensor(count, device=mask.device, dtype=batch.dtype).clamp(min=1e-30)
    coefficients = _coefficients(batch, weights) / count
    if batch.full:
        if isinstance(batch.baseline, Tensor):  # the returns that it is subtracted from are divided by the count too
            batch = replace(batch, baseline=batch.baseline / count)
        found = _plain_steps(batch, coefficients)
        loss = (coefficients * found.steps).sum()
        loss = loss if found.score is None else loss + found.score.sum()
    else:
        loss, found = _chunked_steps(batch, coefficients, compiled)
    return LossOutput(loss, found.steps.detach(), found.terms, found.token_log_probs, _metrics(counts, mask, found))


def _coefficients(batch: Batch, weights: Tensor | None) -> Tensor:
    shape = batch.tokens.shape
    if weights is None:
        return torch.ones(shape, dtype=batch.dtype, device=batch.mask.device)
    if weights.shape not in (shape, shape[:1]):
        raise ObjectiveError(f"weights must be [B] or [B, T] = {list(shape)}, not {list(weights.shape)}.")
    expanded = weights if weights.dim() == 2 else weights.unsqueeze(1).expand(shape)
    return expanded.detach().to(batch.dtype).masked_fill(~batch.mask, 0.0)


def count_sequences(mask: Tensor, documents: Tensor | None = None) -> Tensor:
    """Number of sequences with an unmasked step: rows, or documents of packed rows; a scalar tensor."""
    starts = None if documents is None else first_steps(documents)
    return (mask & (sums_before(mask.long(), starts) == 0)).sum()


def _metrics(counts: dict[str, Tensor], mask: Tensor, found: _Steps) -> dict[str, Tensor]:
    tokens = counts["tokens"].clamp(min=1)
    metrics = dict(counts, student_entropy=found.entropy.sum() / tokens)
    if found.prefix is not None:
        ratio = found.prefix.log_ratio.detach().clamp(-1e4, 1e4).masked_fill(~mask, 0.0)
        mean = ratio.sum() / tokens
        metrics["log_ratio_mean"] = mean
        metrics["log_ratio_std"] = ((ratio - mean).square().masked_fill(~mask, 0.0).sum() / tokens).sqrt()
    return metrics
