"""Pre-distillation: a student cut out of its teacher learns to stand on its own (Wen et al., 2023, section 3).

loss = alpha_ce · T² KL(p_T ‖ q_T) + alpha_mlm · (-log q) + alpha_hid · MSE of hidden states, all on reference completions,
where p_T and q_T are the softmax of logits / T. It is the warm start of every distilled student: without one its samples
are poor, and reverse KL, JS and TVD on them are close to meaningless (after Shleifer and Rush, 2020).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import layer_norm, mse_loss

from fdistill.errors import TrainingError
from fdistill.loss import sequence_loss
from fdistill.models import Completions, HiddenStates, adapter_for, unwrap
from fdistill.models.students import layer_stacks
from fdistill.objectives import objective
from fdistill.store import TeacherStore
from fdistill.trainer.base import Batch, TextTrainer, by_name, check_config, in_form_of, score_by_text, text_format
from fdistill.trainer.config import TextTrainingConfig, check_range, text
from fdistill.trainer.data import tokenize_dataset
from fdistill.trainer.loading import check_pair, check_vocabulary, resolve_model, resolve_tokenizer
from fdistill.trainer.sources import check_store
from fdistill.trainer.step import Half, explain_loss, prompts_of, step_metrics

KD, MLE, KL = objective("kd"), objective("mle"), objective("kl")
PROJECTIONS = (
    "fdistill_projections"  # what the student calls them while they are trained, and their file in a checkpoint
)


@dataclass
class PredistillConfig(TextTrainingConfig):
    """Everything `PredistillTrainer` can be told.

    Args:
        alpha_ce: weight of the word-level KL on reference prefixes, at `temperature`, scaled by its square.
        alpha_mlm: weight of the likelihood of the references.
        alpha_hid: weight of the hidden states' mean squared error, summed over matched layers of encoder and decoder and
            averaged over real positions; None: 3 for encoder-decoder models, 0.1 for decoder-only ones. A student of
            another width is compared through a linear map to the teacher's, learned with it and then dropped.
        temperature: T, what both models' logits are divided by in the first term.
        normalize_hidden: layer-normalise the states before comparing them; None: for decoder-only models.
        freeze_embeddings: leave the input embeddings as the teacher's.
        reduction: "token" (as published) averages over positions; "sequence" divides the same sums by the number of
            sequences.

    The rest is `transformers.TrainingArguments`.
    """

    alpha_ce: float = field(default=0.8, metadata=text("Weight of the word-level KL."))
    alpha_mlm: float = field(default=0.2, metadata=text("Weight of the references' likelihood."))
    alpha_hid: float | None = field(default=None, metadata=text("Weight of the hidden states; none: by kind of model."))
    temperature: float = field(default=2.0, metadata=text("Both models' logits are divided by it in the KL."))
    normalize_hidden: bool | None = field(
        default=None, metadata=text("Layer-normalise states; none: by kind of model.")
    )
    reduction: str = field(
        default="token", metadata=text("'token' averages over positions, 'sequence' over sequences.")
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("alpha_ce", "alpha_mlm", "alpha_hid"):
            if getattr(self, name) is not None:
                check_range(name, getattr(self, name), 0.0)
        check_range("temperature", self.temperature, 1e-6)
        if not any((self.alpha_ce, self.alpha_mlm, self.alpha_hid is None or self.alpha_hid)):
            raise TrainingError("alpha_ce, alpha_mlm and alpha_hid are all 0: there is nothing to train.")


def predistill(
    student: Any, teacher: Any, args: PredistillConfig | None = None, train_dataset: Any = None, **kwargs: Any
) -> PredistillTrainer:
    """Pre-distil a student in place and return the trainer that did it; its ``save_model(folder)`` keeps the student.

    Args:
        student, teacher, args, train_dataset: as of `PredistillTrainer`.
        **kwargs: its other arguments.
    """
    trainer = PredistillTrainer(student, teacher, args, train_dataset, **kwargs)
    trainer.train()
    return trainer


class PredistillTrainer(TextTrainer):
    """Trains a student on references, its teacher's next-token probabilities there, and its teacher's hidden states.

    Args:
        model, teacher_model: names, folders or models; the student best made by `fdistill.make_student`.
        args: a `PredistillConfig`; None for its defaults.
        train_dataset, eval_dataset: rows with ``prompt`` and ``completion``.
        processing_class: the tokenizer; None: the student's.
        callbacks, optimizers, data_collator: as `transformers.Trainer` takes them.
        store: the teacher's samples for train_dataset, which the student then learns from in place of references.
    """

    args: PredistillConfig
    card_title = "Pre-distilled student"

    def __init__(
        self,
        model: Any = None,
        teacher_model: Any = None,
        args: PredistillConfig | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        callbacks: list[Any] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        data_collator: Any = None,
        *,
        store: TeacherStore | None = None,
    ) -> None:
        args = check_config(args, PredistillConfig)
        student = resolve_model(model, args.model_init_kwargs, "student", "model_init_kwargs")
        teacher = resolve_model(teacher_model, args.teacher_model_init_kwargs, "teacher", "teacher_model_init_kwargs")
        tokenizer = resolve_tokenizer(processing_class, student)
        check_pair(student, teacher)
        self.vocab_size = check_vocabulary(student, teacher, tokenizer)
        self.adapter = adapter_for(student)
        encoder_decoder = self.adapter.kind == "encoder-decoder"
        by_kind = 3.0 if encoder_decoder else 0.1
        self.alpha_hid = by_kind if args.alpha_hid is None else float(args.alpha_hid)
        self.normalize = not encoder_decoder if args.normalize_hidden is None else args.normalize_hidden
        self.matches = matched_layers(student, teacher) if self.alpha_hid else {}
        self.projections = _projections(student, teacher, self.matches, args.seed).to(args.device)
        form = text_format(student, tokenizer, args)
        datasets = {"train_dataset": train_dataset, **by_name(eval_dataset)}
        if store is not None and train_dataset is not None:
            check_store(store, train_dataset, "train_dataset", KL, teacher, tokenizer)
        made = {}
        for name, data in datasets.items():
            written = store if name == "train_dataset" else None
            if data is not None:
                made[name] = tokenize_dataset(data, form, name=name, needs_completion=written is None, store=written)
        score_by_text(args, made, datasets)
        super().__init__(
            student,
            teacher,
            args,
            tokenizer,
            form,
            train_dataset=made.get("train_dataset"),
            eval_dataset=in_form_of(eval_dataset, made),
            callbacks=callbacks,
            optimizers=optimizers,
            data_collator=data_collator,
        )

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """As Trainer does it, with the projections a part of the student for as long as it lasts."""
        with _attached(unwrap(self.model), self.projections):
            return super().train(*args, **kwargs)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        """The student without the projections, which a checkpoint keeps in a file of their own."""
        state = self.model.state_dict() if state_dict is None else state_dict
        ours = {name: tensor for name, tensor in state.items() if f"{PROJECTIONS}." in name}
        if not ours:
            return super()._save(output_dir, state_dict)
        super()._save(output_dir, {name: tensor for name, tensor in state.items() if name not in ours})
        folder = Path(output_dir or str(self.args.output_dir))
        save_file(self.projections.state_dict(), folder / f"{PROJECTIONS}.safetensors")

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        file = Path(resume_from_checkpoint) / f"{PROJECTIONS}.safetensors"
        if file.exists():
            self.projections.load_state_dict(load_file(file, device=str(self.args.device)))

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """Normalizers: counted tokens for the losses on logits, real positions of either stack for hidden states."""
        mask = completions_of(batch).mask
        sequences = mask.any(1).sum().float()
        tokens = sequences if self.args.reduction == "sequence" else mask.sum().float()
        found = {"data": tokens}
        for stack in self.matches:
            found[stack] = sequences if self.args.reduction == "sequence" else self._mask(batch, stack).sum().float()
        return found

    def _mask(self, batch: Batch, stack: str) -> Tensor:
        """Positions of a stack whose states count, before any model has run."""
        if stack == "encoder":
            return batch["attention_mask"]
        if self.adapter.kind == "encoder-decoder":
            return completions_of(batch).mask
        return torch.cat([batch["attention_mask"], completions_of(batch).mask[:, 1:]], dim=1)

    def step(self, student: Any, batch: Batch, training: bool) -> dict[str, Any]:
        """The three terms on one batch, within one forward of the wrapped student."""
        ours = self._run(student, batch)
        theirs = None
        if self.args.alpha_ce or self.matches:
            with torch.no_grad():
                theirs = self._run(self.teacher, batch)
        normalizers = batch.get("normalizers") or self.counts(batch)
        parts = [
            *self._logit_parts(ours, theirs, batch, normalizers),
            *self._hidden_parts(ours, theirs, batch, normalizers),
        ]
        loss = torch.stack([part.loss for part in parts]).sum()
        if not bool(torch.isfinite(loss)):
            half = Half("data", completions_of(batch), batch["example"])
            raise TrainingError(
                explain_loss(float(loss), [half], [ours.logits], [None if theirs is None else theirs.logits])
            )
        return {
            "loss": loss,
            "terms": {f"loss/{part.name}": part.loss.detach() for part in parts},
            "metrics": {name: pair for part in parts for name, pair in part.metrics.items()},
            "values": torch.stack([part.values.detach() for part in parts], 1),
            "counts": torch.stack([part.counts for part in parts], 1),
        }

    def _run(self, model: Any, batch: Batch) -> HiddenStates:
        """Logits, cut to the shared vocabulary, and hidden states where they are compared."""
        prompts, completions = prompts_of(batch), completions_of(batch)
        if self.matches:
            found = self.adapter.hidden_states(model, prompts, completions)
            return replace(found, logits=found.logits[..., : self.vocab_size])
        encoded = self.adapter.encode(model, prompts)
        logits = self.adapter.logits(model, prompts, completions.tokens, encoded=encoded, vocab_size=self.vocab_size)
        assert isinstance(logits, Tensor)
        return HiddenStates(logits, {}, {})

    def _logit_parts(
        self, ours: HiddenStates, theirs: HiddenStates | None, batch: Batch, normalizers: dict[str, Tensor]
    ) -> Iterator[Part]:
        tokens, mask = completions_of(batch).tokens, completions_of(batch).mask
        common: dict[str, Any] = {"tokens": tokens, "mask": mask, "normalizer": normalizers["data"]}
        per_example = mask.any(1) if self.args.reduction == "sequence" else mask.sum(1)
        heat = self.args.temperature
        if self.args.alpha_ce and theirs is not None:
            output = sequence_loss(
                KD, "data", student_logits=ours.logits / heat, teacher_logits=theirs.logits / heat, **common
            )
            scale = self.args.alpha_ce * heat**2
            yield Part("data_kl", scale * output.loss, scale * output.steps.sum(1), per_example.float())
        if self.args.alpha_mlm:
            output = sequence_loss(MLE, "data", student_logits=ours.logits, **common)
            scale, metrics = self.args.alpha_mlm, step_metrics({"data": output})
            yield Part("data_nll", scale * output.loss, scale * output.steps.sum(1), per_example.float(), metrics)

    def _hidden_parts(
        self, ours: HiddenStates, theirs: HiddenStates | None, batch: Batch, normalizers: dict[str, Tensor]
    ) -> Iterator[Part]:
        for stack, pairs in self.matches.items():
            assert theirs is not None
            mask = ours.masks[stack]
            project = dict(self.projections.items()).get(stack)
            errors = [
                state_error(
                    ours.states[stack][i], theirs.states[stack][j], mask, normalize=self.normalize, project=project
                )
                for i, j in pairs
            ]
            values = self.alpha_hid * torch.stack(errors).sum(0)  # [B]
            counts = completions_of(batch).mask.any(1) if self.args.reduction == "sequence" else mask.sum(1)
            yield Part(f"hidden_{stack}", values.sum() / normalizers[stack].clamp(min=1), values, counts.float())


@dataclass(frozen=True)
class Part:
    """One summand of the loss, with what every example adds to its numerator and its count, [B] each."""

    name: str
    loss: Tensor
    values: Tensor
    counts: Tensor
    metrics: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)


def completions_of(batch: Batch) -> Completions:
    """What is learned from: the teacher's completions where the batch has some, else the references."""
    source = "teacher" if "teacher_tokens" in batch else "data"
    return Completions(batch[f"{source}_tokens"], batch[f"{source}_mask"])


def state_error(
    ours: Tensor, theirs: Tensor, mask: Tensor, *, normalize: bool, project: nn.Module | None = None
) -> Tensor:
    """Squared difference of hidden states, mean over their width and sum over real positions.

    Args:
        ours, theirs: [B, L, d]; with `project`, ours may have another width.
        mask: which positions are real, bool [B, L].
        normalize: layer-normalise both first (no weights).
        project: brings ours to the teacher's width.

    Returns:
        [B], in float32 or float64.
    """
    wide = torch.promote_types(ours.dtype, torch.float32)
    ours, theirs = ours.to(wide), theirs.detach().to(wide)
    if project is not None:
        ours = project(ours).to(wide)
    if normalize:
        ours, theirs = layer_norm(ours, ours.shape[-1:]), layer_norm(theirs, theirs.shape[-1:])
    return mse_loss(ours, theirs, reduction="none").mean(-1).masked_fill(~mask, 0.0).sum(1)


def matched_layers(student: Any, teacher: Any) -> dict[str, list[tuple[int, int]]]:
    """Which hidden states are compared: by stack, pairs of a student's and a teacher's (0: embeddings; i: after layer i).

    A student's layer stands for the teacher's from the one it was copied from up to the next copied one, so that its output
    is compared with what that next one reads; the last layer's with the teacher's last. A student that `make_student` did
    not make is taken to have its layers spread evenly, and of a deeper student the teacher's layers are spread evenly.
    """
    student, teacher = unwrap(student), unwrap(teacher)
    copied = getattr(student.config, "fdistill_layers", None) or {}
    theirs = layer_stacks(teacher)
    matches = {}
    for stack, (_, layers) in layer_stacks(student).items():
        depth, full = len(layers), len(theirs[stack][1])
        if depth > full:
            matches[stack] = [((layer * depth) // full, layer) for layer in range(1, full + 1)]
            continue
        first = copied.get(stack)
        if first is None or len(first) != depth or max(first) >= full:
            first = [index * full // depth for index in range(depth)]
        matches[stack] = [(index + 1, end) for index, end in enumerate([*first[1:], full])]
    return matches


def _projections(student: Any, teacher: Any, stacks: Any, seed: int) -> nn.ModuleDict:
    """For each of the stacks a linear map of the student's states to the teacher's width; none where both have one width."""
    ours, theirs = unwrap(student).config.hidden_size, unwrap(teacher).config.hidden_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.ModuleDict({stack: nn.Linear(ours, theirs, bias=False) for stack in stacks if ours != theirs})


@contextmanager
def _attached(student: nn.Module, projections: nn.ModuleDict) -> Iterator[None]:
    """Make the projections a part of the student inside the block: trained, clipped and synchronised like its weights."""
    if len(projections):
        student.add_module(PROJECTIONS, projections)
    try:
        yield
    finally:
        if hasattr(student, PROJECTIONS):
            delattr(student, PROJECTIONS)
