"""What the stages of a run read: splits, models, lengths, and what each stage is made from, by which a change is noticed."""

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from fdistill.errors import FDistillError
from fdistill.pipeline.environment import default_device
from fdistill.pipeline.folder import RunFolder, fingerprint, flatten
from fdistill.pipeline.training import arguments
from fdistill.recipe import Recipe
from fdistill.tasks import data_fingerprint, load_split, plain_text


class RunInputs:
    """A recipe and its folder, with everything derived from them loaded when first asked for."""

    def __init__(self, recipe: Recipe):
        self.recipe = recipe
        self.folder = RunFolder(recipe.output)
        self.settings = recipe.resolved()

    @cached_property
    def train_examples(self) -> list[Any]:
        """Return the training split."""
        return load_split(self.recipe.data, "train", self.recipe.seed)

    @cached_property
    def test_examples(self) -> list[Any]:
        """Return the test split."""
        return load_split(self.recipe.data, "test", self.recipe.seed)

    @cached_property
    def validation_examples(self) -> list[Any]:
        """Return the validation split, empty where the recipe has none."""
        none = self.recipe.data.validation is None
        return [] if none else load_split(self.recipe.data, "validation", self.recipe.seed)

    @cached_property
    def data(self) -> dict[str, str]:
        """Return the fingerprints of the splits."""
        return {
            "train": data_fingerprint(self.train_examples),
            "validation": data_fingerprint(self.validation_examples),
            "test": data_fingerprint(self.test_examples),
        }

    @cached_property
    def teacher_model(self) -> Any:
        """Return the run's teacher, from its folder."""
        return self._load(self.folder.teacher)

    @cached_property
    def tokenizer(self) -> Any:
        """Return the run's tokenizer, which all models share."""
        from fdistill.models import load_tokenizer

        return self._read(load_tokenizer, self.folder.teacher)

    @cached_property
    def kind(self) -> str:
        """Return "encoder-decoder" or "decoder-only"."""
        from transformers import AutoConfig

        from fdistill.models import model_kind

        teacher = self.recipe.teacher
        if teacher.model is not None:
            return model_kind(teacher.model)
        assert teacher.config is not None  # the schema sees to it
        made = AutoConfig.for_model(teacher.config["model_type"])
        return "encoder-decoder" if made.is_encoder_decoder else "decoder-only"

    def new_tokenizer(self) -> Any:
        """Return the tokenizer that the recipe names, or one trained on its data."""
        from fdistill.models import load_tokenizer, train_tokenizer

        wanted, teacher = self.recipe.tokenizer, self.recipe.teacher
        if wanted is not None and wanted.model:
            return load_tokenizer(wanted.model)
        if teacher.model is not None:
            return load_tokenizer(teacher.model)
        assert wanted is not None and wanted.vocab_size is not None  # the schema sees to it
        texts = (plain_text(text) for example in self.train_examples for text in (example.prompt, example.completion))
        return train_tokenizer(texts, wanted.vocab_size, self.kind)

    @cached_property
    def device(self) -> str:
        """Return where models run."""
        cpu = bool((self.recipe.training or {}).get("use_cpu"))
        return "cpu" if cpu else default_device()

    @cached_property
    def lengths(self) -> tuple[int, int]:
        """Return (max_prompt_length, max_completion_length) of the students' training, by which all sample and score."""
        args = self._arguments(self.recipe.training, self.folder.checkpoints)
        return args.max_prompt_length, args.max_completion_length

    def inputs(self) -> dict[str, tuple[dict[str, Any], Path]]:
        """Return {stage: (what it is made from, what it makes)} of the training stages, in order."""
        s, folder = self.settings, self.folder
        base = {"seed": s["seed"], "data.train": self.data["train"]}
        teacher = (
            base
            | flatten({"tokenizer": s["tokenizer"], "teacher": s["teacher"]})
            | self._validation(s["teacher"].get("training"))
        )
        made = {"teacher": (teacher, folder.teacher)}
        student = {"teacher": fingerprint(teacher)} | flatten({"student": s["student"]})
        if self._needs_store:
            sampling = {key: value for key, value in s["store"].items() if key not in ("batch_size", "beams")}
            sampling["beams"] = s["store"]["beams"] if self._needs_beams else 0
            limits = dict(zip(("max_prompt_length", "max_completion_length"), self.lengths, strict=True))
            made["store"] = (
                {"seed": s["seed"], "teacher": fingerprint(teacher)} | flatten({"store": sampling}) | limits,
                folder.store,
            )
        if self.recipe.predistill is not None:
            warm = (
                student | flatten({"predistill": s["predistill"]}) | self._validation(s["predistill"].get("training"))
            )
            if self.recipe.predistills_on_samples:
                warm["store"] = fingerprint({k: v for k, v in made["store"][0].items() if k != "store.beams"})
            made["predistilled"] = (warm, folder.predistilled)
        for entry in self.recipe.objectives:
            objective = entry.build()
            own: dict[str, Any] = {
                "objective": entry.objective,
                **{f"objective.{k}": str(v) for k, v in entry.options.items()},
            }
            training = self.recipe.training_of(entry)
            own |= flatten({"training": training}) | student | self._validation(training)
            if entry.reads_store:
                own["store"] = self._draws_of(objective, made["store"][0])
            elif entry.online:
                own |= {"online": True, "store.beams": s["store"]["beams"]}
            if self._is_distilled(entry) and "predistilled" in made:
                own["predistilled"] = fingerprint(made["predistilled"][0])
            made[f"students/{entry.name}"] = (own, folder.students / entry.name)
        return made

    def _arguments(self, section: Mapping[str, Any] | None, folder: Path, **more: Any) -> Any:
        return arguments(section, folder, self.recipe.seed, **more)

    def _validation(self, training: Mapping[str, Any] | None) -> dict[str, str]:
        """The validation split's fingerprint, for a training section whose result may depend on it."""
        return (
            {"data.validation": self.data["validation"]} if (training or {}).get("eval_strategy", "no") != "no" else {}
        )

    def _load(self, folder: Path) -> Any:
        from fdistill.models import load_model

        return self._read(load_model, folder)

    def _read(self, load: Callable[[str], Any], folder: Path) -> Any:
        """What this run made and now cannot read was damaged since; the mend is to make that one thing again."""
        try:
            return load(str(folder))
        except FDistillError as error:
            problem = str(error).partition(" Give a folder")[0]
            raise FDistillError(
                f"{problem} It was whole when this run made it: put it back from a copy, or delete {folder} and run the "
                "same command again, which makes it once more."
            ) from error

    def _draws_of(self, objective: Any, store: Mapping[str, Any]) -> str:
        """The fingerprint of the draws that an objective reads: of samples it does not matter whether there are beams too."""
        beams = objective.teacher_draws == "beam"
        return fingerprint({key: value for key, value in store.items() if beams or key != "store.beams"})

    def _is_distilled(self, entry: Any) -> bool:
        """Whether an objective learns from the teacher; those that do start from the pre-distilled student."""
        objective = entry.build()
        return "teacher" in objective.sources or any(objective.needs_teacher(source) for source in objective.sources)

    @property
    def _needs_store(self) -> bool:
        return self.recipe.needs_store

    @property
    def _needs_beams(self) -> bool:
        return any(entry.reads_store and entry.build().teacher_draws == "beam" for entry in self.recipe.objectives)
