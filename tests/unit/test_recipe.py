"""Recipes: built-in ones load, overrides apply, and every mistake gets one clear line with the key's full path."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import yaml

from fdistill.errors import FDistillError, ObjectiveError, RecipeError
from fdistill.recipe import (
    Recipe,
    built_in_recipes,
    check_all_training,
    check_training,
    json_schema,
    load_recipe,
    make_recipe,
)
from fdistill.tasks import load_split

PAPER = ["commonsense-dialogue", "dart", "wmt16-en-ro", "xsum"]
NAMES = sorted([*PAPER, *(f"{name}-small" for name in PAPER), "e2e", "restaurants", "smollm2"])
MINIMAL = """
data: {format: jsonl, train: train.jsonl}
teacher: {model: some/teacher}
student: {decoder_layers: 2}
objectives: [kl]
"""


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return str(path)


def refusal(name, *overrides, error=RecipeError) -> str:
    with pytest.raises(error) as caught:
        load_recipe(name, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --------------------------------------------------------------------------- what is there


def test_built_in_recipes_are_these():
    assert sorted(built_in_recipes()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_built_in_recipe_loads_and_its_resolved_form_is_the_same_recipe(name, tmp_path):
    recipe = load_recipe(name)
    assert recipe.name == name and recipe.output == f"runs/{name}"
    again = load_recipe(write(tmp_path / f"{name}.yaml", yaml.safe_dump(recipe.resolved(), sort_keys=False)))
    assert again.resolved() == recipe.resolved()
    assert again == recipe


@pytest.mark.parametrize("name", NAMES)
def test_built_in_training_sections_are_known_to_the_trainer(name):
    check_all_training(load_recipe(name))


@pytest.mark.parametrize("name", ["dart", "xsum", "wmt16-en-ro", "commonsense-dialogue"])
def test_papers_recipes_are_as_published(name):
    recipe = load_recipe(name)
    assert [entry.name for entry in recipe.objectives] == ["mle", "seqkd", "engine", "kl", "rkl", "js", "tvd"]
    assert recipe.objectives[5].options["middle"] == "token"
    assert recipe.training["reduction"] == "token" and recipe.training["num_train_epochs"] == 12
    assert recipe.predistill.training["num_train_epochs"] == 28
    assert recipe.data.train is None


def test_restaurants_recipe_gives_its_data():
    recipe = load_recipe("restaurants", ["data.train=30", "data.test=10"])
    assert len(load_split(recipe.data, "train", recipe.seed)) == 30
    assert len(load_split(recipe.data, "test", recipe.seed)) == 10


def test_minimal_recipe_has_the_documented_defaults(tmp_path):
    recipe = load_recipe(write(tmp_path / "mine.yaml", MINIMAL))
    assert (recipe.name, recipe.output, recipe.seed) == ("mine", "runs/mine", 0)
    assert (recipe.store.draws, recipe.store.beams, recipe.store.top_k) == (1, 5, 0)
    assert (recipe.evaluation.num_beams, recipe.evaluation.draws, recipe.evaluation.bootstrap) == (5, 5, 1000)
    assert recipe.predistill is None and recipe.tokenizer is None and recipe.training == {}


def test_recipe_imports_neither_torch_nor_transformers():
    code = (
        "import sys; from fdistill.recipe import load_recipe; load_recipe('e2e', ['objectives=kl,js']); "
        "print({'torch', 'transformers', 'datasets'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr


def test_json_schema_names_every_key():
    schema = json_schema()
    json.dumps(schema)
    assert set(schema["properties"]) == set(Recipe.model_fields)
    assert schema["additionalProperties"] is False
    assert "e2e" in schema["$defs"]["Data"]["properties"]["format"]["enum"]


# --------------------------------------------------------------------------- overrides


def test_overrides_are_yaml_values_at_dotted_keys():
    recipe = load_recipe(
        "e2e",
        ["data.train=a b.csv", "data.limit=300", "training.max_steps=12", "training.learning_rate=1e-4", "predistill=null",
         "teacher.config.d_model=64", "evaluation.metrics=bleu, chrf", "seed=3"],
    )  # fmt: skip
    assert recipe.data.train == "a b.csv" and recipe.data.limit == 300 and recipe.seed == 3
    assert recipe.training["max_steps"] == 12 and recipe.training["learning_rate"] == 1e-4
    assert recipe.predistill is None and recipe.teacher.config["d_model"] == 64
    assert recipe.evaluation.metrics == ["bleu", "chrf"]


def test_commas_separate_where_a_list_is_expected_and_only_there():
    recipe = load_recipe("e2e", ["objectives=kl, js", "data.format=xsum", "data.train=a.source,a.target"])
    assert [entry.name for entry in recipe.objectives] == ["kl", "js"]
    assert recipe.data.train == "a.source,a.target"
    assert [entry.name for entry in load_recipe("e2e", ["objectives=kl"]).objectives] == ["kl"]


def test_override_makes_a_section_that_is_null():
    recipe = load_recipe("smollm2", ["predistill=null", "predistill.alpha_hid=1", "tokenizer.model=x"])
    assert recipe.predistill.alpha_hid == 1 and recipe.tokenizer.model == "x"


def test_later_override_wins():
    assert load_recipe("e2e", ["seed=1", "seed=2"]).seed == 2


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("seed", "--set seed: a key and a value are needed"),
        ("=3", "a key and a value are needed"),
        ("a..b=3", "a key and a value are needed"),
        ("training.x={", "the value is no YAML"),
        ("seed.a=3", "seed is 0 and has no keys"),
        ("objectives.0=kl", "objectives is .* and has no keys"),
    ],
)
def test_bad_override_gets_one_line(override, line):
    import re

    assert re.search(line, refusal("e2e", override))


# --------------------------------------------------------------------------- objectives


def test_objective_entries_have_names_and_options():
    entry = "{name: js-exact, objective: js, middle: sequence}"
    recipe = load_recipe("e2e", [f"objectives=[kl, {entry}, {{objective: tvd, bound: overlap}}]"])
    assert [(e.name, e.objective, e.options) for e in recipe.objectives] == [
        ("kl", "kl", {}),
        ("js-exact", "js", {"middle": "sequence"}),
        ("tvd", "tvd", {"bound": "overlap"}),
    ]
    assert recipe.objectives[1].build().sources == ("teacher", "student")
    assert recipe.resolved()["objectives"][:2] == ["kl", {"name": "js-exact", "objective": "js", "middle": "sequence"}]


def test_unknown_objective_is_refused_in_the_registrys_own_words():
    from fdistill.objectives import objective

    with pytest.raises(ObjectiveError) as direct:
        objective("jss")
    assert refusal("e2e", "objectives=kl,jss", error=ObjectiveError) == str(direct.value)
    assert "middle" in refusal("e2e", "objectives=[{objective: js, middel: token}]", error=ObjectiveError)


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("kl,js,kl", "objectives has two entries named 'kl'"),
        ("3", "unknown objective '3'"),
        ("[]", "objectives must be a list of at least one objective"),
        ("null", "objectives must be a list of at least one objective"),
        ("[[kl]]", "objectives.0 must be the name of an objective"),
        ("[{middle: token}]", "objectives.0 must be the name of an objective"),
        ("[{name: teacher, objective: kl}]", "objectives.0.name 'teacher' cannot be used"),
        ("[{name: ../x, objective: kl}]", "objectives.0.name '../x' cannot be used"),
        ("[{name: 3, objective: kl}]", "objectives.0.name must be a text, not 3"),
    ],
)
def test_bad_objectives_get_one_line(value, line):
    assert line in refusal("e2e", f"objectives={value}", error=FDistillError)


# --------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["data.limt=3"], "unknown key data.limt. Did you mean data.limit?"),
        (["evaluation.num_beam=3"], "unknown key evaluation.num_beam. Did you mean evaluation.num_beams?"),
        (["objective=kl"], "unknown key objective. Did you mean objectives?"),
        (["beams=3"], "unknown key beams. Did you mean store.beams?"),
        (["max_step=3"], "unknown key max_step. Did you mean training.max_steps?"),
        (["xyzzy=3"], "unknown key xyzzy. Known here: seed, output, data"),
        (["data.limit=many"], "data.limit must be a whole number, not 'many'"),
        (["data.limit=0"], "data.limit must be at least 1, not 0"),
        (["data.limit=true"], "data.limit must be a whole number, not True"),
        (["seed=-1"], "seed must be at least 0, not -1"),
        (["output=5"], "output must be a text, not 5"),
        (["store.draws=1.5"], "store.draws must be a whole number, not 1.5"),
        (["predistill.temperature=0"], "predistill.temperature must be greater than 0, not 0"),
        (["predistill.freeze_embeddings=1"], "predistill.freeze_embeddings must be true or false, not 1"),
        (["training=3"], "training must be a mapping of keys, not 3"),
        (["data=3"], "data must be a mapping of keys, not 3"),
        (["teacher=null"], "teacher must be a mapping of keys, not null"),
        (["data.format=e22"], "not 'e22'. Did you mean 'e2e'?"),
        (["data.train=5"], "data.train must be a path or the name of a split, not the number 5"),
        (["data.train=true"], "data.train must be a path, the name of a split, a number or null, not True"),
        (["data.validation=1.5"], "data.validation is 1.5; a share of train must lie between 0 and 1"),
        (["data.prefix=x"], "data.prefix means nothing for the format e2e"),
        (["data.format=dart", "data.hub=x"], "data.hub cannot be used with the format dart"),
        (
            ["data.format=dart", "data.linearisation=nice"],
            "data.linearisation must be 'paper' or 'readable', not 'nice'",
        ),
        (["data.format=restaurants", "data.train=x"], "data.train must be a number of examples"),
        (["teacher.model=x"], "teacher must have exactly one of model and config"),
        (["teacher.training=null"], "teacher.training is missing"),
        (["teacher.config.model_type=null"], "teacher.config.model_type is missing"),
        (["student.model=x"], "student must have exactly one of encoder_layers/decoder_layers, config and model"),
        (["student={}"], "student must have exactly one of"),
        (["tokenizer=null"], "tokenizer is missing"),
        (["tokenizer.model=x"], "tokenizer must have exactly one of vocab_size and model"),
        (["teacher={model: x}"], "tokenizer.vocab_size would train a new tokenizer"),
    ],
)
def test_bad_value_gets_one_line_with_its_path(overrides, line):
    message = refusal("e2e", *overrides)
    assert line in message and message.startswith("recipe e2e: ") and "pydantic" not in message


@pytest.mark.parametrize("missing", ["data", "teacher", "student", "objectives"])
def test_missing_section_is_named(missing, tmp_path):
    values = yaml.safe_load(MINIMAL)
    del values[missing]
    assert f"{missing} is missing" in refusal(write(tmp_path / "a.yaml", yaml.safe_dump(values)))


def test_misspelt_recipe_gets_the_nearest_name():
    message = refusal("restaurant")
    assert "there is no recipe 'restaurant'. Did you mean 'restaurants'?" in message and "path" in message


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("seed: 0\nseed: 1\n", "line 2: bad YAML: the key 'seed' stands here a second time"),
        ("data: {format: e2e, format: csv}\n", "line 1: bad YAML: the key 'format'"),
        ("seed: [1\n", "bad YAML"),
        ("seed: 0\n\tdata: 1\n", "line 2: bad YAML"),
        ("- a\n", "a mapping of keys"),
        ("", "a mapping of keys"),
        ("seed: !!python/object:os.system x\n", "bad YAML"),
    ],
)
def test_bad_yaml_gets_its_line(text, line, tmp_path):
    assert line in refusal(write(tmp_path / "a.yaml", text))


def test_unreadable_recipe_files_get_one_line(tmp_path):
    assert "No such file" in refusal(str(tmp_path / "no.yaml"))
    assert "this is a folder" in refusal(str(tmp_path))
    (tmp_path / "latin.yaml").write_bytes(b"output: caf\xe9\n")
    assert "not UTF-8" in refusal(str(tmp_path / "latin.yaml"))


@pytest.mark.parametrize("text", ["1e-4", "1E-4", "1.e-4", ".1e-3", "1.0e-4", "1e-04"])
def test_number_with_exponent_is_a_number(text):
    assert load_recipe("e2e", [f"training.learning_rate={text}"]).training["learning_rate"] == 1e-4


@pytest.mark.parametrize("text", ["1e", "e4", "1e-4x", "2024-01-01"])
def test_text_that_looks_like_a_number_stays_text(text):
    assert load_recipe("e2e", [f"output={text}"]).output == text


def test_recipe_made_of_plain_data_is_checked_alike():
    values = yaml.safe_load(MINIMAL)
    assert make_recipe(values, "mine").output == "runs/mine"
    with pytest.raises(RecipeError, match=r"^recipe run: unknown key sead\. Did you mean seed\?"):
        make_recipe(values | {"sead": 1})


# --------------------------------------------------------------------------- training sections


@pytest.mark.parametrize(
    ("section", "line"),
    [
        ({"max_step": 3}, "unknown key teacher.training.max_step. Did you mean teacher.training.max_steps?"),
        ({"num_student_sample": 3}, "Did you mean teacher.training.num_student_samples?"),
        ({"xyzzy": 3}, "unknown key teacher.training.xyzzy. Known are"),
        ({"max_steps": "many"}, "teacher.training.max_steps must be a number, not 'many'"),
        ({"max_steps": True}, "teacher.training.max_steps must be a number, not True"),
        ({"disable_dropout": 1}, "teacher.training.disable_dropout must be true or false, not 1"),
        ({"output_dir": "x"}, "teacher.training.output_dir is set by the run"),
        ({"objective": "kl"}, "teacher.training.objective is set by the run"),
        ({"lr_scheduler_type": "cosin"}, "teacher.training: cosin is not a valid SchedulerType"),
        ({"top_p": 3.0}, "teacher.training: top_p"),
        ({"reduction": "mean"}, "teacher.training: reduction"),
    ],
)
def test_bad_training_section_gets_one_line(section, line):
    with pytest.raises(RecipeError) as caught:
        check_training(section, "teacher.training")
    assert line in str(caught.value) and "\n" not in str(caught.value)


def test_every_training_section_is_checked():
    for path in ("teacher.training", "predistill.training", "training"):
        with pytest.raises(RecipeError, match=rf"unknown key {path}\.max_stepz"):
            check_all_training(load_recipe("e2e", [f"{path}.max_stepz=1"]))
    check_training(None)
    check_training({})


def test_training_of_one_row_is_the_recipes_but_for_what_it_says():
    rows = "objectives=[kl, {name: js-4, objective: js, training: {num_student_samples: 4, learning_rate: 1e-4}}]"
    recipe = load_recipe("restaurants", [rows])
    plain, other = recipe.objectives
    assert recipe.training_of(plain) == recipe.training
    assert recipe.training_of(other) == {**recipe.training, "num_student_samples": 4, "learning_rate": 1e-4}
    assert other.options == {} and make_recipe(recipe.resolved()).objectives == recipe.objectives
    check_all_training(recipe)


@pytest.mark.parametrize(
    ("training", "line"),
    [
        ("{max_stepz: 1}", "unknown key objectives: training of js-4.max_stepz. Did you mean"),
        ("{baseline: leave_one_out}", "training of js-4: baseline 'leave_one_out' compares samples of one prompt"),
        ("{max_completion_length: 9}", "max_completion_length is one for all rows"),
        ("{num_train_epochs: 3}", "num_train_epochs says nothing beside training.max_steps"),
        ("{use_cpu: true}", "use_cpu is one for the whole run. Set training.use_cpu."),
    ],
)
def test_bad_training_of_one_row_gets_one_line(training, line):
    with pytest.raises(RecipeError) as caught:
        check_all_training(
            load_recipe("restaurants", [f"objectives=[{{name: js-4, objective: js, training: {training}}}]"])
        )
    assert line in str(caught.value) and "\n" not in str(caught.value)
