"""FDistillTrainer: an objective's loss on a student, its teacher or a store of the teacher's samples, and text."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fdistill.errors import TrainingError
from fdistill.loss import worth_compiling
from fdistill.models import adapter_for
from fdistill.objectives import Objective
from fdistill.store import TeacherStore
from fdistill.trainer.base import Batch, TextTrainer, by_name, check_config, in_form_of, score_by_text, text_format
from fdistill.trainer.config import FDistillConfig
from fdistill.trainer.data import TextFormat, TokenizedDataset, check_columns, tokenize_dataset
from fdistill.trainer.loading import (
    add_adapters,
    check_pair,
    check_vocabulary,
    loaded,
    resolve_model,
    resolve_tokenizer,
)
from fdistill.trainer.sources import check_store, teacher_needs
from fdistill.trainer.step import EVALUATION_STEP, DistillationStep

logger = logging.getLogger("fdistill")


class FDistillTrainer(TextTrainer):
    """Distils a student by an objective of `fdistill.OBJECTIVES`; "mle" trains any model on its references.

    Args:
        model: the student: a name, a folder or a model.
        teacher_model: the teacher, likewise; or a `TeacherStore` where the objective needs no teacher on student prefixes.
            A teacher that the objective never runs is not loaded.
        args: an `FDistillConfig`; None for its defaults.
        train_dataset: rows with ``prompt`` and ``completion`` (text or chat messages), and ``teacher_completion_ids``
            where the teacher's completions are attached: ids of one, or a list of several, which take turns by epoch.
        eval_dataset: likewise, or several by name. Its loss is the objective's at the end of its schedule, on the same
            draws every time.
        processing_class: the tokenizer; None: the student's.
        peft_config: adapters to train in place of the student's weights.
        callbacks, optimizers, data_collator: as `transformers.Trainer` takes them.
        store, eval_store: the teacher's completions of the two datasets, kept on disk; by index of the example.

    Where the objective learns from teacher completions and none are attached or stored, the teacher writes them anew in
    every step (beam output where the objective says so). All draws are keyed by seed, example and optimizer step.
    """

    args: FDistillConfig
    objective: Objective

    def __init__(
        self,
        model: Any = None,
        teacher_model: Any = None,
        args: FDistillConfig | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        peft_config: Any = None,
        callbacks: list[Any] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        data_collator: Any = None,
        *,
        store: TeacherStore | None = None,
        eval_store: TeacherStore | None = None,
    ) -> None:
        args = check_config(args, FDistillConfig)
        self.objective = args.make_objective()
        if isinstance(teacher_model, TeacherStore):
            store, teacher_model = store or teacher_model, None
        given = {"train_dataset": train_dataset, **by_name(eval_dataset)}
        datasets = {name: data for name, data in given.items() if data is not None}
        stores = {name: store if name == "train_dataset" else eval_store for name in datasets}
        student, teacher, tokenizer = self._models(model, teacher_model, args, processing_class, datasets, stores)
        self.vocab_size = check_vocabulary(student, teacher, tokenizer)
        form = text_format(student, tokenizer, args)
        made = {name: self._tokenized(data, form, name, stores[name]) for name, data in datasets.items()}
        score_by_text(args, made, datasets)
        student = add_adapters(student, peft_config, args)
        self.distillation = distillation_step(args, student, teacher, self.vocab_size, form)
        self.card_title = "Model" if teacher is None and not store else f"Student distilled by {self.objective.name}"
        self._shown: tuple[Tensor, Tensor, Tensor] | None = None
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

    def _models(
        self,
        model: Any,
        teacher_model: Any,
        args: FDistillConfig,
        processing_class: Any,
        datasets: dict[str, Any],
        stores: dict[str, TeacherStore | None],
    ) -> tuple[Any, Any, Any]:
        """Student, teacher (None where nothing runs it) and tokenizer, once columns and stores are known to do."""
        needs = [
            teacher_needs(self.objective, name, columns_of(data, name, self.objective), stores[name])
            for name, data in datasets.items()
        ]
        reasons = [need for need in needs if need]
        if reasons and teacher_model is None:
            raise TrainingError(reasons[0])
        student = resolve_model(model, args.model_init_kwargs, "student", "model_init_kwargs")
        teacher = None
        if reasons:
            kwargs = args.teacher_model_init_kwargs
            teacher = resolve_model(teacher_model, kwargs, "teacher", "teacher_model_init_kwargs")
            check_pair(student, teacher)
        tokenizer = resolve_tokenizer(processing_class, student)
        for name, data in datasets.items():
            if stores[name] is not None:
                check_store(stores[name], data, name, self.objective, teacher or loaded(teacher_model), tokenizer)
        return student, teacher, tokenizer

    def _tokenized(self, data: Any, form: TextFormat, name: str, store: TeacherStore | None) -> TokenizedDataset:
        reads_teacher = "teacher" in self.objective.sources
        return tokenize_dataset(
            data,
            form,
            name=name,
            needs_completion="data" in self.objective.sources,
            store=store if reads_teacher else None,
            kind=self.objective.teacher_draws,
        )

    # ---- what `TextTrainer` asks

    def before_training(self) -> None:
        if self.args.verify:
            from fdistill.checks import quick_check

            quick_check(str(self.args.device), self.compute_dtype)

    @property
    def compute_dtype(self) -> torch.dtype:
        """What the models compute in: the autocast's dtype, or that of the student's weights."""
        if self.args.bf16:
            return torch.bfloat16
        return torch.float16 if self.args.fp16 else next(self.model.parameters()).dtype

    def step(self, student: Any, batch: Batch, training: bool) -> dict[str, Any]:
        """The distillation step of one batch, within one forward of the wrapped student."""
        if not training:
            return self.distillation(student, batch, self.objective.at(1.0), EVALUATION_STEP)
        return self.distillation(
            student, batch, self._objective_now(), self.state.global_step, compiled=self.compiles_loss
        )

    @property
    def compiles_loss(self) -> bool:
        """Whether the loss is compiled: as the settings say, or where the run is long enough to gain by it."""
        args = self.args
        if args.compile_loss is not None:
            return args.compile_loss
        sequences = args.train_batch_size * args.gradient_accumulation_steps * self.state.max_steps
        tokens = sequences * args.max_completion_length * len(self.objective.sources)
        return worth_compiling(tokens * self.vocab_size, args.device.type)

    def _objective_now(self) -> Objective:
        return self.objective.at(self.state.global_step / max(self.state.max_steps, 1))

    def prepare_batches(self, batches: list[Batch]) -> list[Batch]:
        """Draw first where the loss is divided by tokens that are still to be drawn, in this or another batch or rank."""
        whole = len(batches) == 1 and self.accelerator.num_processes == 1
        if self.args.reduction == "sequence" or whole:
            return batches
        return [self._drawn(self._prepare_inputs(batch)) for batch in batches]

    def _drawn(self, batch: Batch) -> Batch:
        with torch.no_grad():
            draw = partial(
                self.distillation.draw, batch=batch, objective=self._objective_now(), step=self.state.global_step
            )
            return self.model_wrapped(fdistill_step=draw)

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        prompts = len(batch["example"])
        found = {}
        for source in self.objective.sources:
            if f"{source}_mask" in batch:
                found[source] = self.distillation.count(batch[f"{source}_mask"], prompts).sum()
            elif self.args.reduction == "sequence":
                times = self.args.num_student_samples if source == "student" else 1
                found[source] = torch.tensor(float(prompts * times), device=batch["example"].device)
        return found

    # ---- logging and saving

    def note_outputs(self, batch: Batch, outputs: dict[str, Any]) -> None:
        if self.args.log_completions and "student_tokens" in outputs:
            self._shown = batch["input_ids"], outputs["student_tokens"], outputs["student_mask"]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        super().log(logs, start_time)
        if self._shown is not None and self.is_world_process_zero():
            for prompt, completion in self._texts(*self._shown):
                logger.info("step %d: %r -> %r", self.state.global_step, prompt, completion)
        self._shown = None

    def _texts(self, prompts: Tensor, tokens: Tensor, mask: Tensor) -> list[tuple[str, str]]:
        times = len(tokens) // len(prompts)
        shown = range(min(self.args.log_completions, len(tokens)))
        decode = partial(self.form.tokenizer.decode, skip_special_tokens=True)
        return [(decode(prompts[row // times]), decode(tokens[row][mask[row]])) for row in shown]

    def card_facts(self) -> dict[str, str]:
        options = "".join(f", {name} {value}" for name, value in dict(self.objective.options).items())
        return {
            "objective": self.objective.name + options,
            "reduction": self.args.reduction,
            **super().card_facts(),
        }


def columns_of(data: Any, name: str, objective: Objective) -> list[str]:
    """Columns of a dataset, checked; what a dataset that is tokenised already would have."""
    if isinstance(data, TokenizedDataset):
        return ["prompt"] + (["teacher_completion_ids"] if data.draws is not None else [])
    return check_columns(data, name, "data" in objective.sources)


def distillation_step(
    args: FDistillConfig, student: Any, teacher: Any, vocab_size: int, form: TextFormat
) -> DistillationStep:
    """The step these settings describe."""
    return DistillationStep(
        adapter=adapter_for(student),
        teacher=teacher,
        vocab_size=vocab_size,
        pad_id=form.pad_id,
        max_length=args.max_completion_length + len(form.forced),
        temperature=args.temperature,
        top_k=args.top_k,
        top_p=args.top_p,
        num_student_samples=args.num_student_samples,
        num_beams=args.num_beams,
        seed=args.seed,
        reduction=args.reduction,
        baseline=args.baseline,
        shares_encoder=args.disable_dropout,
    )
