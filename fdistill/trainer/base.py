"""The Trainer that distillation and pre-distillation share: data, one-forward steps, exact counts, logging and saving."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import Trainer, TrainerCallback
from transformers.trainer_pt_utils import LengthGroupedSampler
from transformers.trainer_utils import EvalLoopOutput

import fdistill
from fdistill.errors import TrainingError
from fdistill.models import adapter_for, count_parameters, special_tokens, unwrap
from fdistill.trainer.card import write_card
from fdistill.trainer.config import TextTrainingConfig
from fdistill.trainer.data import Collator, TextFormat, TokenizedDataset
from fdistill.trainer.dropout import dropout_disabled
from fdistill.trainer.forward import teach_step
from fdistill.trainer.frozen import frozen
from fdistill.trainer.metrics import MetricMeans
from fdistill.trainer.selection import add_references, text_score

logger = logging.getLogger("fdistill")

Batch = dict[str, Any]


class EpochCallback(TrainerCallback):
    """Tells a dataset which epoch it is, so that several teacher completions of an example take turns."""

    def __init__(self, dataset: TokenizedDataset) -> None:
        self.dataset = dataset

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.dataset.set_epoch(int(state.epoch or 0))


class TextTrainer(Trainer):
    """Trains a student on prompts and completions; what one batch's loss is, a subclass says in `step`.

    A step's loss is a sum divided by a count over the whole optimizer step and all ranks (each source of completions by its
    own), so that accumulation and data parallelism give the gradient of one big batch.
    """

    args: TextTrainingConfig
    model: Any
    vocab_size: int
    card_title = "Model"

    def __init__(
        self, student: Any, teacher: Any, args: TextTrainingConfig, tokenizer: Any, form: TextFormat, **kwargs: Any
    ) -> None:
        if args.n_gpu > 1:
            # nn.DataParallel would split the batch of a step that counts over all of it.
            logger.warning(
                "%d GPUs are visible to one process, which uses the first. Use torchrun for all.", args.n_gpu
            )
            args._n_gpu = 1
        self.teacher, self.form = teacher, form
        collator = kwargs.pop("data_collator", None) or Collator(form)
        super().__init__(model=student, args=args, data_collator=collator, processing_class=tokenizer, **kwargs)
        # The loss is divided by counts of the whole optimizer step: Trainer must not divide it again.
        self.model_accepts_loss_kwargs = True
        self.label_names: list[str] = []
        teach_step(self.model)
        if self.teacher is not None:
            self.teacher = self.teacher.to(args.device).eval()
        if isinstance(self.train_dataset, TokenizedDataset):
            self.add_callback(EpochCallback(self.train_dataset))
        self._means = MetricMeans()
        self._evaluated: list[tuple[Tensor, Tensor]] = []
        self._micro_batches = 1

    # ---- what a subclass says

    def step(self, student: Any, batch: Batch, training: bool) -> dict[str, Any]:
        """Return ``loss``, ``terms``, ``metrics``, ``values`` and ``counts`` of one batch (see `DistillationStep`)."""
        raise NotImplementedError

    def prepare_batches(self, batches: list[Batch]) -> list[Batch]:
        """Complete the batches of one optimizer step before their counts are taken."""
        return batches

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """What a batch adds to the normalizer of every source, scalars on its device.

        A source may be left out where the batch is the whole step, whose loss then counts for itself.
        """
        raise NotImplementedError

    def before_training(self) -> None:
        """Checks of seconds, made when training is about to start."""

    # ---- one step

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """As Trainer does it, with dropout off and the embeddings frozen where the settings say so."""
        self.before_training()
        self._means.restart_clock()
        embeddings = unwrap(self.model).get_input_embeddings() if self.args.freeze_embeddings else None
        with dropout_disabled(self.model) if self.args.disable_dropout else nullcontext(), frozen(embeddings):
            return super().train(*args, **kwargs)

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list[Batch], Tensor | None]:
        """The micro-batches of one optimizer step, each with the counts of all of them on all ranks."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        if not batches:
            return batches, None
        batches = self.prepare_batches(batches)
        found = [self.counts(batch) for batch in batches]
        names = list(found[0])
        local = torch.tensor([0.0], device=device)  # so that there is something to sum where no count is known yet
        local = torch.stack([*local, *(torch.stack([counts[name] for counts in found]).sum() for name in names)])
        _, *totals = self.accelerator.reduce(local.float(), "sum")
        normalizers = dict(zip(names, totals, strict=True))
        self._micro_batches = len(batches)
        return [dict(batch, normalizers=normalizers) for batch in batches], local.new_tensor(1.0)

    def compute_loss(
        self,
        model: Any,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Run the step inside one forward of the wrapped student."""
        outputs = model(fdistill_step=partial(self.step, batch=inputs, training=True))
        ranks = self.accelerator.num_processes
        # A term's value is a share of the step's: its mean over log lines is per optimizer step, like the loss's.
        share = 1.0 / (self._micro_batches * ranks)
        pairs = {name: (value, share) for name, value in outputs["terms"].items()}
        self._means.add({**pairs, **outputs["metrics"]}, outputs["loss"].device)
        self.note_outputs(inputs, outputs)
        # Ranks average gradients; the loss is a sum over ranks.
        loss = outputs["loss"] * ranks
        return (loss, outputs) if return_outputs else loss

    def note_outputs(self, batch: Batch, outputs: dict[str, Any]) -> None:
        """A place to keep something of a training batch for the next log line."""

    def floating_point_ops(self, inputs: Batch) -> int:
        """Not estimated: a step's operations depend on what is sampled."""
        return 0

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        """As Trainer does it; "group_by_length" goes by prompt and completion, and reads no store to learn lengths."""
        data = self.train_dataset if train_dataset is None else train_dataset
        if self.args.train_sampling_strategy != "group_by_length" or not isinstance(data, TokenizedDataset):
            return super()._get_train_sampler(train_dataset)
        whole = self.args.train_batch_size * self.args.gradient_accumulation_steps
        return LengthGroupedSampler(whole, lengths=data.lengths())

    # ---- evaluation

    def prediction_step(
        self, model: Any, inputs: Batch, prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[Tensor, None, None]:
        """The loss of one batch; what its examples add to the whole is kept, without those that pad the last batch."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            outputs = model(fdistill_step=partial(self.step, batch=inputs, training=False))
        pair = self.accelerator.gather_for_metrics((outputs["values"], outputs["counts"]))
        self._evaluated.append((pair[0].double().sum(0), pair[1].double().sum(0)))
        return outputs["loss"].detach(), None, None

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> EvalLoopOutput:
        """As Trainer does it, with the loss summed over examples, so that it does not depend on the batches."""
        self._evaluated = []
        output = super().evaluation_loop(*args, **kwargs, metric_key_prefix=metric_key_prefix)  # type: ignore[misc]
        if self._evaluated and output.metrics is not None:
            values, counts = (torch.stack(column).sum(0) for column in zip(*self._evaluated, strict=True))
            output.metrics[f"{metric_key_prefix}_loss"] = float((values / counts.clamp(min=1)).sum())
        self._evaluated = []
        if self.args.text_metric and output.metrics is not None:
            dataloader = kwargs.get("dataloader") or args[0]
            output.metrics[f"{metric_key_prefix}_{self.args.text_metric}"] = self._text_score(dataloader.dataset)
        return output

    def _text_score(self, dataset: Any) -> float:
        """What `metric_for_best_model` says of the student's outputs on an evaluation dataset."""
        return text_score(
            unwrap(self.model),
            dataset,
            self.form,
            str(self.args.text_metric),
            num_beams=self.args.eval_num_beams,
            vocab_size=self.vocab_size,
            batch=self.args.per_device_eval_batch_size,
        )

    # ---- logging and saving

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the means since the last line to a training line."""
        if "loss" in logs:
            logs.update(self._means.pop(self.accelerator.gather))
        super().log(logs, start_time)
        if "loss" not in logs:
            self._means.restart_clock()

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        """The student as plain Transformers loads it: safetensors, tokenizer, generation config, and nothing pickled."""
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            folder = Path(output_dir or str(self.args.output_dir))
            (folder / "training_args.bin").unlink(missing_ok=True)
            encoder_decoder = self.form.adapter.kind == "encoder-decoder"
            auto_class = "AutoModelForSeq2SeqLM" if encoder_decoder else "AutoModelForCausalLM"
            write_card(folder, self.card_title, auto_class, self.card_facts())

    def card_facts(self) -> dict[str, str]:
        """Rows of the model card: what somebody who finds the folder wants to know."""
        teacher = getattr(getattr(self.teacher, "config", None), "_name_or_path", "")
        return {
            **({"teacher": teacher} if teacher else {}),
            "parameters": f"{count_parameters(unwrap(self.model)):,}",
            "optimizer steps": str(self.state.global_step),
            "seed": str(self.args.seed),
            "fdistill": fdistill.__version__,
            "transformers": transformers.__version__,
            "torch": torch.__version__,
        }


def text_format(student: Any, tokenizer: Any, args: TextTrainingConfig) -> TextFormat:
    """How this student reads text, under these limits."""
    special = special_tokens(student)
    return TextFormat(
        tokenizer,
        adapter_for(student),
        special.pad,
        special.forced,
        args.max_prompt_length,
        args.max_completion_length,
    )


def check_config(args: Any, kind: type[TextTrainingConfig]) -> Any:
    """The settings, default ones where there are none; refuse those of another trainer."""
    if args is None:
        return kind()
    if not isinstance(args, kind):
        raise TrainingError(f"args must be a {kind.__name__}, not a {type(args).__name__}.")
    return args


def by_name(eval_dataset: Any) -> dict[str, Any]:
    """One evaluation set, or several given by name, under the names that messages give them."""
    if isinstance(eval_dataset, dict):
        return {f"eval_dataset[{key!r}]": data for key, data in eval_dataset.items()}
    return {} if eval_dataset is None else {"eval_dataset": eval_dataset}


def in_form_of(eval_dataset: Any, made: dict[str, TokenizedDataset]) -> Any:
    """The tokenised evaluation sets, one or several, as they were given."""
    if isinstance(eval_dataset, dict):
        return {key: made[f"eval_dataset[{key!r}]"] for key in eval_dataset}
    return made.get("eval_dataset")


def score_by_text(args: TextTrainingConfig, made: dict[str, TokenizedDataset], given: dict[str, Any]) -> None:
    """Give evaluation sets the texts to score outputs with, where `metric_for_best_model` asks for it."""
    for name, dataset in made.items():
        if args.text_metric and name != "train_dataset":
            add_references(dataset, given[name], name)
