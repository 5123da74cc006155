"""The keys of a recipe, their defaults and what they may hold; README and design tables are read off these classes."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, model_serializer, model_validator

from fdistill.errors import ObjectiveError, closest
from fdistill.objectives import Objective, objective
from fdistill.tasks import FORMATS

RESERVED = ("teacher", "predistilled", "truth")  # rows of the tables that are no objective
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Section(BaseModel):
    """A mapping with these keys and no others, its values taken strictly (no text for a number)."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, validate_default=False)


def _source(value: Any) -> Any:
    """A path, the name of a split, a share of train, or a number of built-in examples."""
    if value is None or (isinstance(value, str | int | float) and not isinstance(value, bool)):
        return value
    raise ValueError(f"must be a path, the name of a split, a number or null, not {value!r}")


def _format(value: Any) -> Any:
    if value in FORMATS:
        return value
    raise ValueError(f"must be one of {', '.join(FORMATS)}, not {value!r}.{closest(str(value), FORMATS)}")


Count = Annotated[int, Field(ge=1)]
Source = Annotated[str | int | float | None, BeforeValidator(_source)]


class Data(Section):
    """Where the text comes from."""

    format: Annotated[str, BeforeValidator(_format), Field(json_schema_extra={"enum": list(FORMATS)})] = Field(
        description="how the files are read"
    )
    train: Source = Field(
        default=None, description="a path, two parallel paths, a split of hub, or a number (of a built-in format)"
    )
    validation: Source = Field(default=None, description="as train, or a share of train by distinct input, such as 0.1")
    test: Source = Field(default=None, description="as validation")
    limit: Count | None = Field(
        default=None, description="at most so many distinct inputs of every split, chosen by seed"
    )
    seed: int | None = Field(
        default=None, ge=0, description="of shares, limit and built-in text; null: the recipe's seed"
    )
    hub: str | None = Field(
        default=None, description="a Hugging Face data set; train, validation, test then name its splits"
    )
    subset: str | None = Field(default=None, description="a configuration of the hub's data set, such as ro-en")
    prompt_column: str | None = Field(default=None, description="the column to read as prompt (default: prompt)")
    completion_column: str | None = Field(
        default=None, description="the column to read as completion (default: completion)"
    )
    skip_empty: bool | None = Field(
        default=None, description="leave out entries with an empty text instead of refusing them"
    )
    linearisation: Literal["paper", "readable"] | None = Field(
        default=None, description="dart: how triples are written"
    )
    prefix: str | None = Field(default=None, description="wmt16-en-ro: what stands before the English text")
    separator: str | None = Field(default=None, description="commonsense-dialogue: the token that closes every turn")

    @model_validator(mode="after")
    def _fits_format(self) -> Data:
        for name in ("train", "validation", "test"):
            self._check_source(name, getattr(self, name))
        form = FORMATS[self.format]
        for key in ("prompt_column", "completion_column", "linearisation", "prefix", "separator"):
            if getattr(self, key) is not None and key not in form.options:
                raise ValueError(f"{key} means nothing for the format {self.format}; remove it")
        if self.hub is not None and form.rows is None:
            raise ValueError(f"hub cannot be used with the format {self.format}; remove it, or use format: hub")
        return self

    def _check_source(self, name: str, value: Any) -> None:
        built_in = FORMATS[self.format].built_in
        if value is None:
            return
        if built_in and (not isinstance(value, int) or value < 1):
            raise ValueError(f"{name} must be a number of examples for the format {self.format}, not {value!r}")
        if isinstance(value, float) and name != "train" and not 0 < value < 1:
            raise ValueError(f"{name} is {value!r}; a share of train must lie between 0 and 1")
        if not built_in and (isinstance(value, int) or (isinstance(value, float) and name == "train")):
            raise ValueError(f"{name} must be a path or the name of a split, not the number {value!r}")


class Tokenizer(Section):
    """A tokenizer trained on the data, or one by name or folder."""

    vocab_size: Annotated[int, Field(ge=260)] | None = Field(  # 256 bytes and the special tokens
        default=None, description="of a byte-level tokenizer trained on the training data"
    )
    model: str | None = Field(default=None, description="a name or folder to load it from")

    @model_validator(mode="after")
    def _one_of(self) -> Tokenizer:
        _exactly_one(self, "vocab_size", "model")
        return self


class Teacher(Section):
    """A model built from its configuration and trained, or one by name or folder (which `training` fine-tunes)."""

    model: str | None = Field(default=None, description="a name or folder to load it from")
    config: dict[str, Any] | None = Field(
        default=None, description="a Transformers configuration, model_type first, to build it from"
    )
    training: dict[str, Any] | None = Field(default=None, description="null: it is used as it is")

    @model_validator(mode="after")
    def _one_of(self) -> Teacher:
        _exactly_one(self, "model", "config")
        if self.config is not None and self.training is None:
            raise ValueError("training is missing: a teacher built from config must be trained")
        if self.config is not None and not isinstance(self.config.get("model_type"), str):
            raise ValueError("config.model_type is missing: name the architecture, such as t5, bart, gpt2 or llama")
        return self


class Student(Section):
    """Alternate layers of the teacher, a model built from a configuration, or one by name or folder."""

    encoder_layers: Count | None = Field(default=None, description="layers of the teacher's encoder that it keeps")
    decoder_layers: Count | None = Field(
        default=None, description="layers of the teacher's decoder, or of a decoder-only teacher, that it keeps"
    )
    config: dict[str, Any] | None = Field(
        default=None, description="a Transformers configuration, model_type first, to build it from"
    )
    model: str | None = Field(default=None, description="a name or folder to load it from")

    @model_validator(mode="after")
    def _one_of(self) -> Student:
        layers = self.encoder_layers is not None or self.decoder_layers is not None
        if layers + (self.config is not None) + (self.model is not None) != 1:
            raise ValueError("must have exactly one of encoder_layers/decoder_layers, config and model")
        if self.config is not None and not isinstance(self.config.get("model_type"), str):
            raise ValueError("config.model_type is missing: name the architecture, such as t5, bart, gpt2 or llama")
        return self


class Store(Section):
    """What the teacher writes once, before training."""

    draws: Annotated[int, Field(ge=1)] = Field(default=1, description="samples of every training input")
    beams: Count = Field(default=5, description="width of the beam search whose output seqkd learns from")
    top_k: Annotated[int, Field(ge=0)] = Field(
        default=0, description="teacher log-probabilities kept per token; 0: none"
    )
    batch_size: Count = Field(default=64, description="sequences at once")


class Predistill(Section):
    """The warm start of distilled students (Wen et al., 2023, section 3; Shleifer and Rush, 2020)."""

    alpha_ce: Annotated[float, Field(ge=0)] = Field(
        default=0.8, description="weight of the word-level divergence from the teacher"
    )
    alpha_mlm: Annotated[float, Field(ge=0)] = Field(default=0.2, description="weight of the likelihood of the text")
    alpha_hid: Annotated[float, Field(ge=0)] = Field(
        default=3.0, description="weight of the distance between hidden states"
    )
    temperature: Annotated[float, Field(gt=0)] = Field(
        default=2.0, description="of both models in the word-level divergence"
    )
    normalize_hidden: bool = Field(default=False, description="layer-normalise hidden states before they are compared")
    freeze_embeddings: bool = Field(default=False, description="leave the input embeddings as they are")
    text: Literal["data", "teacher"] | None = Field(
        default=None,
        description="what it learns to write: the data's completions, or the store's samples of the teacher; null: the "
        "former where the data has some",
    )
    training: dict[str, Any] = Field(default_factory=dict, description="of the warm start")


class BertScore(Section):
    """The model whose hidden states BERTScore compares."""

    model: str = Field(description="a local folder or a name on the hub")
    layer: Count = Field(description="which of its hidden layers")


class Evaluation(Section):
    """Decoding, sampling and intervals of the scores."""

    num_beams: Count = Field(default=5, description="width of the beam search that writes the outputs; 1: greedy")
    length_penalty: float = Field(default=1.0, description="of the beam search; above 0 favours long outputs")
    draws: Annotated[int, Field(ge=2)] = Field(default=5, description="samples per input for the risks and TeacherDist")
    bootstrap: Annotated[int, Field(ge=0)] = Field(
        default=1000, description="resamples of the intervals; 0: no intervals"
    )
    batch_size: Count = Field(default=64, description="sequences at once")
    metrics: list[str] | None = Field(
        default=None,
        description="text metrics by name; null: all that need no download, METEOR where WordNet's files are, "
        "and BERTScore where its model is set",
    )
    bertscore: BertScore | None = Field(default=None, description="a local folder or a name on the hub, and the layer")


class ObjectiveEntry(BaseModel):
    """One row of the results: a name, the objective of that name or another, and its options."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    name: str = Field(description="of the row and its folder; the objective's where it is left out")
    objective: str = Field(description="a name of the table of objectives; further keys are its options")
    online: bool = Field(
        default=False,
        description="the teacher writes anew in every step, not once before training (Wen et al., 2023, Table 4)",
    )
    training: dict[str, Any] = Field(default_factory=dict, description="what is other than in the recipe's training")

    @property
    def reads_store(self) -> bool:
        """Whether its student learns from the teacher's offline samples."""
        return "teacher" in self.build().sources and not self.online

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.__pydantic_extra__ or {})

    def build(self) -> Objective:
        """The objective itself.

        Raises:
            ObjectiveError: where the name or an option is unknown, or the options have no meaning together.
        """
        return objective(self.objective, **self.options)

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value, "objective": value}
        if not isinstance(value, dict) or not any(isinstance(value.get(key), str) for key in ("name", "objective")):
            raise ValueError("must be the name of an objective, or {name: ..., objective: ..., and its options}")
        return {"name": value.get("objective"), "objective": value.get("name")} | value

    @model_validator(mode="after")
    def _name_is_a_folder(self) -> ObjectiveEntry:
        if not NAME.fullmatch(self.name) or self.name in RESERVED:
            raise ValueError(
                f"name {self.name!r} cannot be used: it becomes a folder, of letters, digits, '.', '_' and '-', and "
                f"{', '.join(RESERVED)} are taken"
            )
        return self

    @model_serializer
    def _shortest(self) -> Any:
        own: dict[str, Any] = {"online": True} if self.online else {}
        own |= {"training": self.training} if self.training else {}
        if self.name == self.objective and not self.options and not own:
            return self.name
        return {"name": self.name, "objective": self.objective, **own, **self.options}


def _objectives(value: Any) -> Any:
    if not isinstance(value, list) or not value:
        raise ValueError("must be a list of at least one objective, such as [mle, kl, js]")
    return value


class Recipe(Section):
    """Everything one run does."""

    seed: int = Field(default=0, ge=0, description="of everything random in the run")
    output: str = Field(default="", description="the run's folder; empty: runs/ and the recipe's name")
    data: Data
    tokenizer: Tokenizer | None = Field(default=None, description="null: the teacher's")
    teacher: Teacher
    student: Student
    store: Store = Field(default_factory=Store)
    predistill: Predistill | None = None
    objectives: Annotated[list[ObjectiveEntry], BeforeValidator(_objectives)] = Field(
        description="a student is trained for each"
    )
    training: dict[str, Any] = Field(default_factory=dict, description="of the objectives' students")
    evaluation: Evaluation = Field(default_factory=Evaluation)
    _name: str = PrivateAttr(default="run")

    @property
    def name(self) -> str:
        """The built-in recipe's name, or the file's without its ending."""
        return self._name

    def training_of(self, entry: ObjectiveEntry) -> dict[str, Any]:
        """The training section of one row: the recipe's, and what the entry has otherwise."""
        return {**self.training, **entry.training}

    def resolved(self) -> dict[str, Any]:
        """Every key with its value, as plain data that `yaml.safe_dump` writes and `load_recipe` reads back."""
        return self.model_dump()

    @model_validator(mode="after")
    def _sections_fit(self) -> Recipe:
        names = [entry.name for entry in self.objectives]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(
                    f"objectives has two entries named {name!r}; give one another name, as in "
                    f"{{name: {name}-2, objective: {name}, ...}}"
                )
        if self.tokenizer is None and self.teacher.config is not None:
            raise ValueError("tokenizer is missing: a teacher built from config needs one, such as {vocab_size: 1024}")
        if self.tokenizer is not None and self.tokenizer.vocab_size and self.teacher.model is not None:
            raise ValueError(
                "tokenizer.vocab_size would train a new tokenizer, but teacher.model has one already; remove tokenizer"
            )
        for entry in self.objectives:
            try:
                sources = entry.build().sources
            except ObjectiveError as error:
                raise _Refused(error) from None
            if entry.online and "teacher" not in sources:
                raise ValueError(
                    f"objectives has {entry.name} with online, but {entry.objective} learns from no completions of the "
                    "teacher; remove online"
                )
        if not FORMATS[self.data.format].completions:
            self._needs_no_completions()
        return self

    def _needs_no_completions(self) -> None:
        """Refuse what cannot be done with prompts alone."""
        only = f"the format {self.data.format} has prompts only"
        for entry in self.objectives:
            if "data" in entry.build().sources:
                raise ValueError(
                    f"objectives has {entry.name}, which learns from the data's completions, and {only}; remove it"
                )
        if self.predistill is not None and self.predistill.text == "data":
            raise ValueError(f"{only}, so pre-distillation needs the teacher's text; set predistill.text to teacher")
        if self.teacher.training is not None:
            raise ValueError(f"teacher.training has nothing to learn from: {only}; remove it")

    @property
    def predistills_on_samples(self) -> bool:
        """Whether pre-distillation learns from the teacher's offline samples and not from the data's completions."""
        if self.predistill is None:
            return False
        return self.predistill.text == "teacher" or not FORMATS[self.data.format].completions

    @property
    def needs_store(self) -> bool:
        """Whether anything reads the teacher's offline samples."""
        return self.predistills_on_samples or any(entry.reads_store for entry in self.objectives)


class _Refused(Exception):  # no ValueError, so that pydantic lets it through
    """Carries an ObjectiveError out of pydantic, unchanged."""

    def __init__(self, error: ObjectiveError) -> None:
        self.error = error


def _exactly_one(section: BaseModel, *keys: str) -> None:
    if sum(getattr(section, key) is not None for key in keys) != 1:
        raise ValueError(f"must have exactly one of {' and '.join(keys)}")


def json_schema() -> dict[str, Any]:
    """The JSON schema of a recipe, for editors."""
    schema = Recipe.model_json_schema()
    entry = schema["$defs"]["ObjectiveEntry"]
    entry["required"] = ["objective"]
    schema["$defs"]["ObjectiveEntry"] = {"anyOf": [{"type": "string"}, entry]}
    return schema
