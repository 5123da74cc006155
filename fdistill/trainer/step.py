"""The distillation step: draw what is not there, one student pass, one teacher pass, the sum of the sources' losses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from fdistill.errors import TrainingError
from fdistill.logits import LinearLogits, TopKLogits
from fdistill.loss import LossOutput, sequence_loss
from fdistill.models import Adapter, Completions, Encoded, Prompts
from fdistill.objectives import Objective
from fdistill.sampling import DrawKeys, beam_search, sample

#: The step that evaluation draws are keyed by: the same at every evaluation, and that of no training step.
EVALUATION_STEP = -2

#: A pass whose logits would have more elements than this leaves the head to the loss, which applies it chunk by chunk.
MAX_LOGITS = 1 << 22

Batch = dict[str, Any]


@dataclass(frozen=True)
class Half:
    """The completions of one source: "half" of js and tvd, all of most other objectives.

    Attributes:
        source: who wrote them.
        completions: [N, T].
        rows: which prompt of the batch each of them continues, long [N].
        teacher: the teacher's logits where the store knows them, else None.
    """

    source: str
    completions: Completions
    rows: Tensor
    teacher: TopKLogits | None = None

    @property
    def shape(self) -> tuple[int, int]:
        return self.completions.tokens.shape[0], self.completions.tokens.shape[1]


@dataclass(frozen=True)
class DistillationStep:
    """All that a step needs beside student, batch and objective.

    Attributes:
        adapter: of the models' kind.
        teacher: in evaluation mode, on the student's device; None where nothing needs it.
        vocab_size: tokens the two share; logits are cut to them.
        pad_id: what shorter halves are padded with.
        max_length: the most tokens of a draw, forced ones included.
        temperature, top_k, top_p: of student draws.
        num_student_samples: student draws per prompt.
        num_beams: of teacher decoding where the objective reads beam output and none is attached.
        seed: of all draws.
        reduction, baseline: of the loss.
        shares_encoder: whether sampling may use the encoder's output of the training pass (dropout is off).
        max_logits: the most elements of logits that a pass writes down; above, its head is applied by the loss.
    """

    adapter: Adapter
    teacher: Any
    vocab_size: int
    pad_id: int
    max_length: int
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    num_student_samples: int = 1
    num_beams: int = 5
    seed: int = 0
    reduction: str = "sequence"
    baseline: str | None = None
    shares_encoder: bool = True
    max_logits: int = MAX_LOGITS

    def __call__(
        self, student: Any, batch: Batch, objective: Objective, step: int, *, compiled: bool = False
    ) -> dict[str, Any]:
        """Return the loss of one batch, with its metrics and what every example adds to it.

        Args:
            student: the model being trained.
            batch: from the collator; ``normalizers``, by source, are the counts of the whole optimizer step.
            objective: at this point of its schedule.
            step: the optimizer step, by which draws are keyed.
            compiled: whether torch.compile fuses the loss.

        Returns:
            ``loss``; ``terms``, by name what each adds to it; ``metrics``, by name a (sum, count) pair; ``values`` and
            ``counts`` [B, sources], from which an evaluation sums up its loss whatever the batches; ``student_tokens`` and
            ``student_mask`` where drawn.
        """
        prompts = prompts_of(batch)
        encoded = self.adapter.encode(student, prompts)
        batch = self.draw(student, batch, objective, step, encoded)
        halves = [self._half(batch, source) for source in objective.sources]
        student_logits = self._pass(student, prompts, encoded, halves)
        teacher_logits = self._teacher_pass(prompts, halves, objective)
        normalizers = batch.get("normalizers", {})
        outputs = {}
        for half, ours, theirs in zip(halves, student_logits, teacher_logits, strict=True):
            outputs[half.source] = sequence_loss(
                objective,
                half.source,
                student_logits=ours,
                teacher_logits=theirs,
                tokens=half.completions.tokens,
                mask=half.completions.mask,
                groups=half.rows,
                baseline=self.baseline if half.source == "student" else None,
                reduction=self.reduction,
                normalizer=normalizers.get(half.source),
                compiled=compiled,
            )
        loss = torch.stack([output.loss for output in outputs.values()]).sum()
        if not bool(torch.isfinite(loss)):
            raise TrainingError(explain_loss(float(loss), halves, student_logits, teacher_logits))
        result = {"loss": loss, "terms": step_terms(outputs), "metrics": step_metrics(outputs)}
        result["values"], result["counts"] = self._by_example(halves, outputs, len(prompts))
        if "student_tokens" in batch:
            result["student_tokens"], result["student_mask"] = batch["student_tokens"], batch["student_mask"]
        return result

    def draw(
        self, student: Any, batch: Batch, objective: Objective, step: int, encoded: Encoded | None = None
    ) -> Batch:
        """Return the batch with completions of every source the objective reads: those not attached are drawn now."""
        missing = [source for source in objective.sources if f"{source}_tokens" not in batch]
        if not missing:
            return batch
        drawn = dict(batch)
        for source in missing:
            if source == "student":
                shared = encoded.detach() if encoded is not None and self.shares_encoder else None
                completions = self._draw_student(student, batch, step, shared)
            else:
                completions = self._draw_teacher(batch, objective.teacher_draws, step)
            drawn[f"{source}_tokens"], drawn[f"{source}_mask"] = completions.tokens, completions.mask
        return drawn

    def _draw_student(self, student: Any, batch: Batch, step: int, encoded: Encoded | None) -> Completions:
        times = self.num_student_samples
        example = batch["example"].repeat_interleave(times)
        draw = torch.arange(times, device=example.device).repeat(len(batch["example"]))
        return sample(
            student,
            prompts_of(batch).repeat_interleave(times),
            DrawKeys(self.seed, example, draw, step),
            max_length=self.max_length,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            encoded=None if encoded is None else encoded.repeat_interleave(times),
            vocab_size=self.vocab_size,
        ).completions

    def _draw_teacher(self, batch: Batch, kind: str, step: int) -> Completions:
        prompts = prompts_of(batch)
        if kind == "beam":
            found = beam_search(
                self.teacher,
                prompts,
                num_beams=self.num_beams,
                max_length=self.max_length,
                vocab_size=self.vocab_size,
            )
            return found.completions
        # A draw number that no student sample has, so that the two do not share their random numbers.
        draw = torch.full_like(batch["example"], self.num_student_samples)
        keys = DrawKeys(self.seed, batch["example"], draw, step)
        return sample(self.teacher, prompts, keys, max_length=self.max_length, vocab_size=self.vocab_size).completions

    def _half(self, batch: Batch, source: str) -> Half:
        tokens, mask = batch[f"{source}_tokens"], batch[f"{source}_mask"]
        prompts = len(batch["example"])
        rows = torch.arange(prompts, device=tokens.device).repeat_interleave(len(tokens) // prompts)
        teacher = None
        if source == "teacher" and "teacher_top_ids" in batch:
            teacher = TopKLogits(
                batch["teacher_top_ids"],
                batch["teacher_top_log_probs"],
                batch["teacher_tail_log_prob"],
                batch["teacher_token_log_probs"],
            )
        return Half(source, Completions(tokens, mask), rows, teacher)

    @torch.no_grad()
    def _teacher_pass(
        self, prompts: Prompts, halves: list[Half], objective: Objective
    ) -> list[Tensor | LinearLogits | TopKLogits | None]:
        """Teacher logits by half: from the store where it knows them, else by one pass over all that need it."""
        needing = [half for half in halves if objective.needs_teacher(half.source) and half.teacher is None]
        passed: dict[str, Tensor | LinearLogits] = {}
        if needing:
            encoded = self.adapter.encode(self.teacher, prompts)
            logits = self._pass(self.teacher, prompts, encoded, needing)
            passed = {half.source: found for half, found in zip(needing, logits, strict=True)}
        return [passed.get(half.source, half.teacher) for half in halves]

    def _pass(
        self, model: Any, prompts: Prompts, encoded: Encoded | None, halves: list[Half]
    ) -> list[Tensor | LinearLogits]:
        """Logits of every half, [N, T, V] each (or the states before the head), from one pass over their concatenation."""
        width = max(half.shape[1] for half in halves)
        tokens = torch.cat(
            [pad(half.completions.tokens, (0, width - half.shape[1]), value=self.pad_id) for half in halves]
        )
        rows = torch.cat([half.rows for half in halves])
        logits = self.adapter.logits(
            model,
            prompts.select(rows),
            tokens,
            encoded=None if encoded is None else encoded.select(rows),
            vocab_size=self.vocab_size,
            linear=tokens.numel() * self.vocab_size > self.max_logits,
        )
        parts, start = [], 0
        for half in halves:
            rows_of_half = slice(start, start + half.shape[0])
            parts.append(part_of(logits, rows_of_half, half.shape[1]))
            start += half.shape[0]
        return parts

    def _by_example(self, halves: list[Half], outputs: dict[str, LossOutput], prompts: int) -> tuple[Tensor, Tensor]:
        """Summed step losses and counts of every example by source, [B, sources] each."""
        values = [outputs[half.source].steps.reshape(prompts, -1).sum(1) for half in halves]
        return torch.stack(values, 1), torch.stack([self.count(half.completions.mask, prompts) for half in halves], 1)

    def count(self, mask: Tensor, prompts: int) -> Tensor:
        """What the completions of every prompt add to the loss's normalizer, [B]."""
        counted = mask if self.reduction == "token" else mask.any(1, keepdim=True)
        return counted.reshape(prompts, -1).sum(1).float()


def prompts_of(batch: Batch) -> Prompts:
    return Prompts(batch["input_ids"], batch["attention_mask"])


def step_terms(outputs: dict[str, LossOutput]) -> dict[str, Tensor]:
    """What every term of the objective adds to the loss, under the name it is logged by."""
    return {
        "loss/" + name.replace("/", "_"): value for output in outputs.values() for name, value in output.terms.items()
    }


def step_metrics(outputs: dict[str, LossOutput]) -> dict[str, tuple[Tensor, Tensor]]:
    """Means of one batch, each as a (sum, count) pair."""
    metrics: dict[str, tuple[Tensor, Tensor]] = {}
    for source, output in outputs.items():
        found = output.metrics
        metrics[f"length/{source}"] = (found["tokens"], found["sequences"])
        for name, label in (("student_entropy", "entropy"), ("log_ratio_mean",) * 2, ("log_ratio_std",) * 2):
            if name in found:
                metrics[f"{label}/{source}"] = (found[name] * found["tokens"], found["tokens"])
    return metrics


def part_of(logits: Tensor | LinearLogits, rows: slice, length: int) -> Tensor | LinearLogits:
    """The logits of some rows' first `length` steps, whatever their form."""
    if isinstance(logits, LinearLogits):
        return replace(logits, hidden=logits.hidden[rows, :length])
    return logits[rows, :length]


def counted_rows(logits: Any, mask: Tensor) -> Iterator[Tensor]:
    """The logits of counted tokens, some [n, V] at a time; nothing where they are not known in full."""
    if isinstance(logits, Tensor):
        yield logits[mask]
    elif isinstance(logits, LinearLogits):
        for hidden in logits.hidden[mask].split(256):
            yield logits.dense(hidden)


@torch.no_grad()
def explain_loss(loss: float, halves: list[Half], student_logits: list[Any], teacher_logits: list[Any]) -> str:
    """Say why a loss is not finite: whose logits, or which source's divergence."""
    for half, ours, theirs in zip(halves, student_logits, teacher_logits, strict=True):
        for who, logits in (("student", ours), ("teacher", theirs)):
            values, tokens = [], 0
            for rows in counted_rows(logits, half.completions.mask):
                bad = rows.isnan() | (rows == torch.inf)
                values += rows[bad][:1].tolist()
                tokens += int(bad.any(-1).sum())
            if values:
                return (
                    f"the {who}'s logits are {values[0]} on {tokens} of {int(half.completions.mask.sum())} tokens of "
                    f"{half.source} completions. Check that its weights are finite; in half precision use bfloat16, and for "
                    "a student that broke during training lower learning_rate or max_grad_norm."
                )
    return (
        f"the loss is {loss} although all logits are finite: teacher and student rule out each other's tokens, so the "
        "divergence itself is infinite. Use js or tvd, which are bounded, or models whose logits are never -inf."
    )
