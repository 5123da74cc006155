"""The stages of a run, in order: teacher, sample, predistill, train, evaluate; each skips what is there and resumes.

    data ─► teacher ─► store ─► predistilled ─► students/<name> … ─► metrics.json
                                                 mle: from the same cut of the teacher, without pre-distillation

Every stage is a function of the recipe, the data and the stages before it, so that a run that was killed and started
again ends with the numbers of one that was not.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from fdistill.errors import FDistillError, StoreError
from fdistill.evaluate import RestaurantsTruth
from fdistill.pipeline.environment import environment
from fdistill.pipeline.evaluation import Evaluator, assemble, row_path
from fdistill.pipeline.folder import fingerprint, read_json, write_arrays, write_json, write_text
from fdistill.pipeline.inputs import RunInputs
from fdistill.pipeline.plan import STAGES, rows_of, weights
from fdistill.pipeline.progress import Display, Silent
from fdistill.pipeline.training import save_model, train
from fdistill.recipe import Recipe, check_all_training

logger = logging.getLogger("fdistill")


class Pipeline(RunInputs):
    """One run of a recipe in its output folder.

    Args:
        recipe: what to do; `recipe.output` is the folder.
        display: where progress is shown.
        verify: before anything trains, check the losses on this device (seconds).
    """

    def __init__(self, recipe: Recipe, display: Display | None = None, *, verify: bool = True):
        super().__init__(recipe)
        self.display = display or Silent()
        self.verify = verify
        self._verified = False

    def run(self, until: str = "evaluate") -> dict[str, Any]:
        """Run all stages up to `until` (teacher, sample, predistill, train or evaluate); return the metrics if there are any.

        Raises:
            FDistillError: before any work, where recipe, data or what lies in the folder do not fit together.
        """
        if until not in STAGES:
            raise FDistillError(f"unknown stage {until!r}; stages are {', '.join(STAGES)}.")
        with self.folder.locked():
            self._prepare()
            self.display.plan(weights(self.recipe, until))
            for stage in STAGES[: STAGES.index(until) + 1]:
                getattr(self, f"_{stage}")()
        return read_json(self.folder.metrics, {}) if until == "evaluate" else {}

    # ------------------------------------------------------------------ stages

    def _prepare(self) -> None:
        """Everything that can be refused is refused here, before the first long step."""
        check_all_training(self.recipe)
        _quiet_transformers()
        logger.info("data: %d training, %d test inputs", len(self.train_examples), len(self.test_examples))
        self.folder.clean()
        for stage, (inputs, output) in self.inputs().items():
            self.folder.check(stage, inputs, output)
        write_text(self.folder.recipe, yaml.safe_dump(self.settings, sort_keys=False, allow_unicode=True))
        found = {**environment(), "seed": self.recipe.seed, "data": self.data}
        known = read_json(self.folder.environment, {})
        write_json(self.folder.environment, {**found, **({"scores": known["scores"]} if "scores" in known else {})})

    def _teacher(self) -> None:
        def work(folder: Path, display: Callable[[int, int], None]) -> None:
            tokenizer, model = self._new_teacher()
            args = self._arguments(self.recipe.teacher.training, folder, objective="mle")
            if self.recipe.teacher.training is None:
                save_model(self._trainer(model, tokenizer, args, train_dataset=None), self.folder.teacher)
                return
            trainer = self._trainer(model, tokenizer, args)
            train(trainer, folder, display)
            save_model(trainer, self.folder.teacher)

        self._stage("teacher", "training the teacher", work)

    def _sample(self) -> None:
        if not self._needs_store:
            return

        def work(folder: Path, display: Callable[[int, int], None]) -> None:
            from fdistill.store import build_store

            settings = self.recipe.store
            build_store(
                self.folder.store,
                self.teacher_model.to(self.device),
                self.tokenizer,
                [example.prompt for example in self.train_examples],
                draws=settings.draws,
                beams=settings.beams if self._needs_beams else 0,
                top_k=settings.top_k,
                seed=self.recipe.seed,
                batch_size=settings.batch_size,
                max_prompt_length=self.lengths[0],
                max_completion_length=self.lengths[1],
                progress=display,
            )

        self._mend_store()
        self._stage("store", "sampling from the teacher", work)

    def _mend_store(self) -> None:
        """Let the stage run again where a store that students still need was damaged: it makes what is broken anew."""
        made = self.inputs()
        waiting = [
            name for name in made if name.startswith("students/") and not self.folder.is_complete(name, made[name][1])
        ]
        if not waiting or not self.folder.is_complete("store", self.folder.store):
            return
        from fdistill.store import TeacherStore

        try:
            TeacherStore.open(self.folder.store).verify()
        except StoreError as error:
            logger.warning("%s", error)
            self.folder.reopen("store")

    def _predistill(self) -> None:
        if self.recipe.predistill is None:
            return

        def work(folder: Path, display: Callable[[int, int], None]) -> None:
            from fdistill.predistill import PredistillConfig, PredistillTrainer
            from fdistill.store import TeacherStore

            settings = self.settings["predistill"]
            weights = {key: value for key, value in settings.items() if key not in ("training", "text")}
            args = self._arguments(settings["training"], folder, kind=PredistillConfig, **weights)
            trainer = PredistillTrainer(
                model=self._new_student(),
                teacher_model=self.teacher_model,
                args=args,
                train_dataset=_rows(self.train_examples),
                eval_dataset=self._eval_rows(args),
                processing_class=self.tokenizer,
                store=TeacherStore.open(self.folder.store) if self.recipe.predistills_on_samples else None,
            )
            train(trainer, folder, display)
            save_model(trainer, self.folder.predistilled)

        self._stage("predistilled", "pre-distilling the student", work)

    def _train(self) -> None:
        for entry in self.recipe.objectives:
            self._train_one(entry)

    def _train_one(self, entry: Any) -> None:
        def work(folder: Path, display: Callable[[int, int], None]) -> None:
            objective = entry.build()
            warm = self._is_distilled(entry) and self.recipe.predistill is not None
            student = self._load(self.folder.predistilled) if warm else self._new_student()
            section = {"num_beams": self.recipe.store.beams, **self.recipe.training_of(entry)}
            args = self._arguments(section, folder, objective=entry.objective, objective_options=entry.options or None)
            needed = self._needs_teacher(objective, args, entry.online)
            sources = {"teacher_model": self.teacher_model if needed else None}
            if entry.reads_store:
                from fdistill.store import TeacherStore

                sources["store"] = TeacherStore.open(self.folder.store)
            trainer = self._trainer(student, self.tokenizer, args, **sources)
            train(trainer, folder, display)
            save_model(trainer, self.folder.students / entry.name)

        self._stage(f"students/{entry.name}", f"training {entry.name}", work)

    def _evaluate(self) -> None:
        settings = self.settings["evaluation"]
        made = self.inputs()
        reads = {"data.test": self.data["test"], "seed": self.recipe.seed, "lengths": list(self.lengths), **settings}
        evaluator: Evaluator | None = None
        for name in rows_of(self.recipe):
            stage = name if name in ("teacher", "predistilled") else f"students/{name}"
            inputs = fingerprint([reads, made[stage][0], made["teacher"][0]])
            path = row_path(self.folder, name)
            if read_json(path, {}).get("inputs") == inputs:
                self.display.skip(f"evaluate/{name}")
                continue
            with self._step(f"evaluate/{name}", f"evaluating {name}") as update:
                evaluator = evaluator or self._evaluator()
                if name == "teacher":
                    row = evaluator.teacher_row(update)
                else:
                    row = evaluator.student_row(self._load(made[stage][1]).to(self.device), update)
                write_arrays(self.folder.scores / f"{name}.npz", row.scores)
                write_json(path, {"inputs": inputs, "row": row.record})
        if evaluator is not None:
            known = read_json(self.folder.environment, {})
            write_json(self.folder.environment, {**known, "scores": evaluator.text.signatures})
        assemble(self.folder, rows_of(self.recipe), self.test_examples)

    # ------------------------------------------------------------------ parts

    def _stage(self, stage: str, label: str, work: Callable[[Path, Callable[[int, int], None]], None]) -> None:
        inputs, output = self.inputs()[stage]
        if not self.folder.begin(stage, inputs, output):
            self.display.skip(stage)
            return
        self._verify_losses()
        with self._step(stage, label) as update:
            work(self.folder.checkpoints / stage, update)
        self.folder.complete(stage)

    @contextmanager
    def _step(self, name: str, label: str) -> Iterator[Callable[[int, int], None]]:
        with self.folder.timed(name), self.display.step(name, label) as update:
            yield update

    def _verify_losses(self) -> None:
        if self.verify and not self._verified:
            from fdistill.checks import quick_check

            quick_check(self.device)
            self._verified = True

    def _trainer(self, model: Any, tokenizer: Any, args: Any, **sources: Any) -> Any:
        from fdistill.trainer import FDistillTrainer

        data = {"train_dataset": _rows(self.train_examples), "eval_dataset": self._eval_rows(args)}
        return FDistillTrainer(model=model, args=args, processing_class=tokenizer, **{**data, **sources})

    def _eval_rows(self, args: Any) -> list[dict[str, Any]] | None:
        """The validation split, where a training section asks for evaluation while training."""
        wanted = _evaluates(args)
        if wanted and not self.validation_examples:
            raise FDistillError(
                "a training section sets eval_strategy, but data.validation is null. Set data.validation."
            )
        return _rows(self.validation_examples) if wanted else None

    def _new_teacher(self) -> tuple[Any, Any]:
        from fdistill.models import build_model, load_model

        teacher, tokenizer = self.recipe.teacher, self.new_tokenizer()
        if teacher.model is not None:
            return tokenizer, load_model(teacher.model)
        assert teacher.config is not None  # the schema sees to it
        return tokenizer, build_model(teacher.config, tokenizer, seed=self.recipe.seed)

    def _new_student(self) -> Any:
        """The student before any training: alternate layers of the teacher, or what the recipe names."""
        from fdistill.models import build_model, load_model, make_student

        student = self.recipe.student
        if student.model is not None:
            return load_model(student.model)
        if student.config is not None:
            return build_model(student.config, self.tokenizer, seed=self.recipe.seed)
        return make_student(self.teacher_model, student.encoder_layers, student.decoder_layers).to("cpu")

    def _evaluator(self) -> Evaluator:
        if not self.test_examples:
            raise FDistillError("the test split is empty: there is nothing to evaluate on. Set data.test.")
        built_in = self.recipe.data.format == "restaurants"
        return Evaluator(
            self.teacher_model.to(self.device),
            self.tokenizer,
            self.test_examples,
            self.settings["evaluation"],
            lengths=self.lengths,
            seed=self.recipe.seed,
            device=self.device,
            truth=RestaurantsTruth(self.test_examples, self.recipe.seed) if built_in else None,
        )

    def _needs_teacher(self, objective: Any, args: Any, online: bool) -> bool:
        """Whether the teacher must be in memory: not where a store's top-k answers for it; the store knows no validation."""
        if "teacher" in objective.sources and (online or _evaluates(args)):
            return True
        return any(
            objective.needs_teacher(source) and not (source == "teacher" and self.recipe.store.top_k)
            for source in objective.sources
        )


def _quiet_transformers() -> None:
    """Turn off the bars that Transformers draws for every file read or written: the display shows progress."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()


def _evaluates(args: Any) -> bool:
    """Whether a training looks at the validation split."""
    return str(args.eval_strategy).rpartition(".")[2].lower() != "no"


def _rows(examples: Sequence[Any]) -> list[dict[str, Any]]:
    return [{"prompt": e.prompt, "completion": e.completion, "references": list(e.references)} for e in examples]
