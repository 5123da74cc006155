"""FDistillConfig: what can be set about distilling, checked the moment it is set."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from transformers import TrainingArguments

from fdistill.errors import TrainingError
from fdistill.evaluate import LOWER_IS_BETTER, TEXT_METRICS
from fdistill.objectives import Objective, objective

REDUCTIONS = ("sequence", "token")


def text_metric(metric_for_best_model: str | None) -> str | None:
    """Return the text metric that the best model is chosen by, or None where it is chosen by something else."""
    name = (metric_for_best_model or "").removeprefix("eval_")
    return name if name in TEXT_METRICS else None


def text(words: str) -> dict[str, str]:
    """A field's help text, where command-line parsers look for it."""
    return {"help": words}


def check_range(name: str, value: Any, low: float, high: float = float("inf"), *, whole: bool = False) -> None:
    """Refuse a setting outside [low, high], with its name and value."""
    kind = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
        what = "a whole number" if whole else "a number"
        bounds = f"at least {low:g}" if high == float("inf") else f"from {low:g} to {high:g}"
        raise TrainingError(f"{name} is {what} {bounds}, not {value!r}.")


@dataclass
class TextTrainingConfig(TrainingArguments):
    """TrainingArguments with what every trainer of this library shares: lengths, dropout, loading of models."""

    _VALID_DICT_FIELDS = [  # noqa: RUF012
        *TrainingArguments._VALID_DICT_FIELDS,
        "model_init_kwargs",
        "teacher_model_init_kwargs",
    ]

    learning_rate: float = field(default=1e-4, metadata=text("The initial learning rate."))
    logging_steps: float = field(default=10, metadata=text("Log every so many optimizer steps."))
    use_cache: bool = field(
        default=True, metadata=text("Kept in the student's saved config; training itself never builds a cache.")
    )
    remove_unused_columns: bool = field(
        default=False, metadata=text("The trainer reads the columns it knows and ignores others.")
    )
    reduction: str = field(
        default="sequence",
        metadata=text("'sequence' divides the summed loss by the number of sequences, 'token' by that of tokens."),
    )
    max_prompt_length: int | None = field(
        default=512, metadata=text("Longer prompts are truncated to so many tokens; none: never.")
    )
    max_completion_length: int = field(
        default=256, metadata=text("Longer completions are truncated, and sampling stops, at so many tokens.")
    )
    disable_dropout: bool = field(
        default=True, metadata=text("Train with dropout off, so that the distribution sampled is the one scored.")
    )
    freeze_embeddings: bool = field(
        default=False, metadata=text("Do not train the input embeddings (nor a head that is tied to them).")
    )
    eval_num_beams: int = field(
        default=1, metadata=text("Beams of the outputs that metric_for_best_model scores, where it is a text metric.")
    )
    model_init_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata=text("Keyword arguments for from_pretrained where the student is given by name.")
    )
    teacher_model_init_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata=text("Keyword arguments for from_pretrained where the teacher is given by name.")
    )

    def __post_init__(self) -> None:
        if self.reduction not in REDUCTIONS:
            raise TrainingError(f"reduction is 'sequence' or 'token', not {self.reduction!r}.")
        check_range("max_completion_length", self.max_completion_length, 1, whole=True)
        if self.max_prompt_length is not None:
            check_range("max_prompt_length", self.max_prompt_length, 1, whole=True)
        check_range("eval_num_beams", self.eval_num_beams, 1, whole=True)
        if self.text_metric in LOWER_IS_BETTER and self.greater_is_better is None:
            self.greater_is_better = False
        super().__post_init__()

    @property
    def text_metric(self) -> str | None:
        """The score of decoded outputs that `metric_for_best_model` names, such as "bleu"; None where it names none."""
        return text_metric(self.metric_for_best_model)


@dataclass
class FDistillConfig(TextTrainingConfig):
    """Everything `FDistillTrainer` can be told.

    Args:
        objective: a name of `fdistill.OBJECTIVES`, or an `Objective`.
        objective_options: options of that objective, for example ``{"middle": "sequence"}``.
        reduction: "sequence" (Wen et al., 2023, Eqns. 5-10) or "token".
        baseline: "leave_one_out" subtracts, from the score-function part of gradient "full", the mean return of the
            other samples of the same prompt; it needs ``num_student_samples`` of at least 2.
        max_prompt_length, max_completion_length: lengths in tokens; longer texts are truncated.
        temperature, top_k, top_p: how the student's samples are drawn (1, 0 and 1: from the student itself).
        num_student_samples: fresh samples per prompt and step.
        num_beams: beams of teacher decoding where the objective learns from the teacher's beam output and none is
            attached to the data or kept in a store.
        disable_dropout: dropout off while distilling.
        freeze_embeddings: leave the input embeddings, and a head that is tied to them, as they are.
        metric_for_best_model: "loss" (the objective's on eval_dataset), or a text metric of `fdistill.evaluate`
            ("bleu", "chrf", "rougeL", …): at every evaluation the student's outputs, by beam search with
            ``eval_num_beams`` beams, are scored against eval_dataset's ``references`` (or ``completion``).
        log_completions: how many of the student's samples to log at every logging step.
        compile_loss: fuse the loss, by Triton or torch.compile (see `fdistill.sequence_loss`); None: where the run is so long
            that this saves more time than the compilation takes, and a compiler is there.
        verify: before training, check the properties of the losses on this device in this dtype (seconds).

    The rest is `transformers.TrainingArguments`.
    """

    _VALID_DICT_FIELDS = [*TextTrainingConfig._VALID_DICT_FIELDS, "objective_options"]  # noqa: RUF012

    objective: str = field(default="js", metadata=text("A name of fdistill.OBJECTIVES, or an Objective."))
    objective_options: dict[str, Any] | str | None = field(default=None, metadata=text("Options of the objective."))
    baseline: str | None = field(
        default=None, metadata=text("None or 'leave_one_out': baseline of the score-function gradient.")
    )
    temperature: float = field(default=1.0, metadata=text("Temperature of the student's samples."))
    top_k: int = field(default=0, metadata=text("Sample from the k likeliest tokens only; 0: from all."))
    top_p: float = field(
        default=1.0,
        metadata=text("Sample from the smallest set of tokens with at least this probability; 1: from all."),
    )
    num_student_samples: int = field(default=1, metadata=text("Fresh student samples per prompt and step."))
    num_beams: int = field(
        default=5, metadata=text("Beams of the teacher's decoding where the objective asks for it and none is stored.")
    )
    log_completions: int = field(
        default=0, metadata=text("Log so many of the student's samples at every logging step.")
    )
    compile_loss: bool | None = field(
        default=None,
        metadata=text("Fuse the loss by Triton or torch.compile; none: where the run is long enough to gain by it."),
    )
    verify: bool = field(
        default=True, metadata=text("Check the losses' properties on this device and dtype before training.")
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("temperature", self.temperature, 1e-6)
        check_range("top_k", self.top_k, 0, whole=True)
        check_range("top_p", self.top_p, 1e-6, 1.0)
        check_range("num_student_samples", self.num_student_samples, 1, whole=True)
        check_range("num_beams", self.num_beams, 1, whole=True)
        if self.compile_loss not in (None, True, False):
            raise TrainingError(f"compile_loss is true, false or none, not {self.compile_loss!r}.")
        self.log_completions = int(self.log_completions)
        self.make_objective()
        self._check_baseline()

    def make_objective(self) -> Objective:
        """Return the objective these settings name.

        Raises:
            ObjectiveError: an unknown name or option, or a combination without a meaning.
        """
        if isinstance(self.objective, Objective):
            if self.objective_options:
                raise TrainingError("objective_options belong to an objective given by name; this one is already made.")
            return self.objective
        return objective(self.objective, **self._options())

    def _options(self) -> dict[str, Any]:
        if isinstance(self.objective_options, str):
            raise TrainingError(f"objective_options is a dictionary or its JSON text, not {self.objective_options!r}.")
        return dict(self.objective_options or {})

    def _check_baseline(self) -> None:
        if self.baseline not in (None, "leave_one_out"):
            raise TrainingError(f"baseline is none or 'leave_one_out', not {self.baseline!r}.")
        if self.baseline and self.num_student_samples < 2:
            raise TrainingError(
                f"baseline 'leave_one_out' compares samples of one prompt, and num_student_samples is "
                f"{self.num_student_samples}; set it to 2 or more."
            )

    def to_dict(self) -> dict[str, Any]:
        """As TrainingArguments does it, with the objective and its options as plain data."""
        plain = super().to_dict()
        if isinstance(self.objective, Objective):
            plain["objective"] = self.objective.name
        if isinstance(self.objective_options, dict):
            plain["objective_options"] = {key: plain_value(value) for key, value in self.objective_options.items()}
        return plain


def plain_value(value: Any) -> Any:
    """A value as JSON can hold it; a function by its name."""
    if isinstance(value, (tuple, list)):
        return [plain_value(item) for item in value]
    return getattr(value, "__name__", str(value)) if callable(value) else value
