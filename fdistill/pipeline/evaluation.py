"""The evaluate stage: every model of a run becomes one row of metrics.json, its prefix curves and its sample outputs."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from fdistill import evaluate
from fdistill.evaluate.generate import Generator
from fdistill.pipeline.folder import RunFolder, read_json, write_json, write_text
from fdistill.pipeline.progress import Update

logger = logging.getLogger("fdistill")
SHOWN = 50  # test inputs whose outputs are kept in samples.jsonl
DRAWS_SHOWN = 4  # samples of each of them that are kept
STEPS = {"decode": 3, "draw": 1, "score": 2}  # rough shares of a row's time, for its progress


@dataclass
class Row:
    """What is known of one model.

    Attributes:
        metrics: {metric: estimate}.
        curves: {"js", "tvd"} over prefix lengths.
        outputs, samples: texts for the first test inputs.
        scores: {name: per-input statistics [N, K]}, of whose sums metrics are made; for tests between rows.
    """

    metrics: dict[str, evaluate.Estimate]
    curves: dict[str, Any] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)
    samples: list[list[str]] = field(default_factory=list)
    scores: dict[str, Any] = field(default_factory=dict)

    @property
    def record(self) -> dict[str, Any]:
        """Return what is kept as JSON: all but the scores, which are arrays."""
        return {name: value for name, value in vars(self).items() if name != "scores"}


class Evaluator:
    """Scores models against one test split and one teacher; what depends on the teacher alone is computed once.

    Args:
        teacher: the teacher model.
        tokenizer: shared by all models.
        examples: the test split, one per distinct input, with all its references.
        settings: the recipe's evaluation section: num_beams, length_penalty, draws, bootstrap, batch_size, metrics.
        lengths: (max_prompt_length, max_completion_length).
        truth: scores sampled texts against a known truth where the task has one, else None.
    """

    def __init__(
        self,
        teacher: Any,
        tokenizer: Any,
        examples: Sequence[Any],
        settings: Mapping[str, Any],
        *,
        lengths: tuple[int, int],
        seed: int,
        device: str,
        truth: Any = None,
    ):
        self.teacher, self.settings, self.truth = teacher, dict(settings), truth
        self.examples = list(examples)
        self.bootstrap = evaluate.Bootstrap(len(self.examples), settings["bootstrap"], seed)
        references = [list(example.references) or [example.completion] for example in self.examples]
        wanted = wanted_metrics(settings)
        if not any(example.texts[0] for example in self.examples):  # prompts only: nothing to compare with
            wanted = [name for name in wanted if name.startswith("distinct")]
        self.text = evaluate.TextScorer(
            references, self.bootstrap, wanted, bertscore=settings.get("bertscore"), device=device
        )
        self.generator = Generator(
            tokenizer,
            [example.prompt for example in self.examples],
            max_prompt_length=lengths[0],
            max_completion_length=lengths[1],
            batch_size=settings.get("batch_size") or 64,
            seed=seed,
            device=device,
        )

    @cached_property
    def teacher_samples(self) -> list[list[list[int]]]:
        """Return `draws` teacher samples per test input, as token ids: the same for every row."""
        return self.generator.draw(self.teacher, self.settings["draws"])

    def teacher_row(self, update: Update) -> Row:
        """Return the teacher's row: text scores, TeacherDist, and its entropy on its own samples, which is both its risks."""
        progress = _Shares(update, len(self.examples))
        outputs = self._decode(self.teacher, progress)
        progress.next("draw")
        samples = self.teacher_samples
        progress.next("score")
        scored = self.generator.score(self.teacher, self.teacher, samples, written_by="teacher", progress=progress)
        entropy = evaluate.teacher_entropy(scored, self.bootstrap)
        texts = self._texts(samples)
        statistics = self.text.statistics(outputs)
        metrics = {
            **self.text.estimates(outputs, statistics),
            "teacher_dist": evaluate.sample_distinctness(texts, self.bootstrap),
            **entropy,
            **{name.replace("h_p", "r_llh"): value for name, value in entropy.items()},
            **{name.replace("h_p", "r_cvg"): value for name, value in entropy.items()},
        }
        return self._finish(self.teacher, metrics, {}, outputs, texts, statistics)

    def student_row(self, student: Any, update: Update) -> Row:
        """Return a student's row: text scores, risks, and the four sequence-level divergences from the teacher."""
        progress = _Shares(update, len(self.examples))
        outputs = self._decode(student, progress)
        progress.next("draw")
        samples = self.generator.draw(student, self.settings["draws"], step=1, progress=progress)
        progress.next("score")
        of_teacher = self.generator.score(
            self.teacher, student, self.teacher_samples, written_by="teacher", progress=progress
        )
        of_student = self.generator.score(self.teacher, student, samples, written_by="student", progress=progress)
        texts = self._texts(samples)
        statistics = self.text.statistics(outputs)
        values = {
            **evaluate.risk_values(of_teacher, of_student, len(self.examples)),
            **evaluate.divergence_values(of_teacher, of_student, len(self.examples)),
        }
        metrics = {
            **self.text.estimates(outputs, statistics),
            "sample_dist": evaluate.sample_distinctness(texts, self.bootstrap),
            **{name: self.bootstrap.mean(value) for name, value in values.items()},
        }
        curves = evaluate.prefix_curves(of_teacher, of_student, self.bootstrap)
        statistics |= {name: value[:, None] for name, value in values.items()}
        return self._finish(student, metrics, curves, outputs, texts, statistics)

    def _decode(self, model: Any, progress: "_Shares") -> list[str]:
        progress.next("decode")
        beams, penalty = self.settings["num_beams"], self.settings.get("length_penalty", 1.0)
        return self.generator.decode(model, num_beams=beams, length_penalty=penalty, progress=progress)

    def _texts(self, samples: list[list[list[int]]]) -> list[list[str]]:
        return [[self.generator.text(tokens) for tokens in draws] for draws in samples]

    def _finish(
        self,
        model: Any,
        metrics: dict[str, Any],
        curves: dict[str, Any],
        outputs: list[str],
        texts: list[list[str]],
        scores: dict[str, Any],
    ) -> Row:
        if self.truth is not None:
            metrics |= self.truth(model, self.generator, texts, self.bootstrap)
        return Row(metrics, curves, outputs[:SHOWN], [draws[:DRAWS_SHOWN] for draws in texts[:SHOWN]], scores)


def wanted_metrics(settings: Mapping[str, Any]) -> list[str]:
    """Return the text metrics of an evaluation section: those it names, else all that can be had without a download."""
    if settings.get("metrics"):
        return list(settings["metrics"])
    meteor = ["meteor"] if evaluate.has_meteor() else []
    return [*evaluate.TEXT_METRICS, *meteor, *(["bertscore"] if settings.get("bertscore") else [])]


class _Shares:
    """Turns the progress of a row's parts into one number out of a hundred for the whole row."""

    def __init__(self, update: Update, inputs: int):
        self.update, self.inputs, self.done, self.part = update, inputs, 0.0, 0.0

    def next(self, part: str) -> None:
        """Begin a part; those before it are over."""
        self.done, self.part = self.done + self.part, 100 * STEPS[part] / sum(STEPS.values())
        self.update(int(self.done), 100)

    def __call__(self, done: int, total: int) -> None:
        self.update(int(self.done + self.part * done / total), 100)


def assemble(
    folder: RunFolder, names: Sequence[str], examples: Sequence[Any]
) -> dict[str, dict[str, evaluate.Estimate]]:
    """Write metrics.json, samples.jsonl and plots/curves.json from the records of the rows `names`; return the metrics."""
    rows = {name: read_json(row_path(folder, name), {})["row"] for name in names}
    metrics = {name: row["metrics"] for name, row in rows.items()}
    write_json(folder.metrics, metrics)
    write_text(folder.samples, "".join(_sample_line(i, example, rows) for i, example in enumerate(examples[:SHOWN])))
    history = {stage: read_json(folder.checkpoints / stage / "history.json", []) for stage in _trained(folder, names)}
    write_json(
        folder.curves,
        {"prefix": {name: row["curves"] for name, row in rows.items() if row["curves"]}, "training": history},
    )
    return metrics


def row_path(folder: RunFolder, name: str) -> Path:
    """Return where a row's record lies."""
    return folder.checkpoints / "evaluate" / f"{name}.json"


def _trained(folder: RunFolder, names: Sequence[str]) -> list[str]:
    stages = [name if name in ("teacher", "predistilled") else f"students/{name}" for name in names]
    return [stage for stage in stages if (folder.checkpoints / stage / "history.json").exists()]


def _sample_line(index: int, example: Any, rows: Mapping[str, Mapping[str, Any]]) -> str:
    import json

    line = {
        "prompt": example.prompt,
        "references": [text for text in example.texts if text],
        "outputs": {name: row["outputs"][index] for name, row in rows.items()},
        "samples": {name: row["samples"][index] for name, row in rows.items()},
    }
    return json.dumps(line, ensure_ascii=False) + "\n"
