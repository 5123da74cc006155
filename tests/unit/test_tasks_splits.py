"""Splits, shares and limits: what is in which part, and that the seed alone decides."""

from __future__ import annotations

import pytest

from fdistill.errors import DataError
from fdistill.tasks import Example, data_fingerprint, load_split, statistics


@pytest.fixture
def data(tmp_path):
    """A hundred inputs with three texts each, not side by side."""
    rows = [f"input {i},text {i} {j}" for j in range(3) for i in range(100)]
    path = tmp_path / "train.csv"
    path.write_text("\n".join(["prompt,completion", *rows]) + "\n", encoding="utf-8")
    return {"format": "csv", "train": str(path), "validation": 0.1, "test": None, "limit": None}


def prompts(examples):
    return [example.prompt for example in examples]


def test_share_of_train_is_taken_by_distinct_input(data):
    train, validation = load_split(data, "train", 0), load_split(data, "validation", 0)
    assert len(validation) == 10 and len(train) == 270
    assert not set(prompts(train)) & set(prompts(validation))
    assert all(len(example.references) == 3 for example in validation)
    assert all(example.references[0] == example.completion for example in validation)


def test_three_parts_of_one_file_are_disjoint(data):
    data["test"] = 0.2
    parts = {split: set(prompts(load_split(data, split, 0))) for split in ("train", "validation", "test")}
    assert [len(part) for part in parts.values()] == [70, 10, 20]
    assert len(set.union(*parts.values())) == 100


def test_seed_decides_the_share(data):
    first, again, other = (prompts(load_split(data, "validation", seed)) for seed in (0, 0, 1))
    assert first == again != other
    assert prompts(load_split(data | {"seed": 1}, "validation", 0)) == other


def test_limit_keeps_so_many_inputs_and_all_their_texts(data):
    data["limit"] = 5
    train, validation = load_split(data, "train", 0), load_split(data, "validation", 0)
    assert statistics(train)["inputs"] == 5 and len(train) == 15
    assert len(validation) == 5
    assert not set(prompts(train)) & set(prompts(validation))


def test_smaller_limit_chooses_among_the_larger_ones_inputs(data):
    few, more = (set(prompts(load_split(data | {"limit": limit}, "train", 3))) for limit in (5, 20))
    assert few < more


def test_order_is_the_files(data):
    numbers = [int(prompt.split()[1]) for prompt in prompts(load_split(data | {"limit": 20}, "validation", 0))]
    assert numbers == sorted(numbers)


def test_tiny_file_still_gives_one_input_to_validation(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("prompt,completion\na,b\nc,d\n", encoding="utf-8")
    data = {"format": "csv", "train": str(path), "validation": 0.1}
    assert len(load_split(data, "validation")) == len(load_split(data, "train")) == 1
    path.write_text("prompt,completion\na,b\n", encoding="utf-8")
    with pytest.raises(DataError, match="nothing is left for train"):
        load_split(data, "train")


def test_only_the_split_asked_for_is_opened(data):
    data["test"] = data["validation"] = "no such file"
    assert len(load_split(data, "train")) == 300
    data["train"], data["validation"] = "no such file", data["train"]
    assert len(load_split(data, "validation")) == 100


@pytest.mark.parametrize(
    ("change", "split", "line"),
    [
        ({"format": "e22"}, "train", r"data.format 'e22' is unknown\. Did you mean 'e2e'\?"),
        ({"format": None}, "train", "data.format is not set"),
        ({}, "tset", "there is no split 'tset'.* Did you mean 'test'"),
        ({}, "test", r"data.test is not set\..*--set data.test=FILE"),
        ({"train": None}, "train", r"data.train is not set\..*--set data.train=FILE"),
        ({"train": None}, "validation", "a share of data.train, which is not set"),
        ({"validation": 1.5}, "validation", "data.validation is 1.5; a share of train must lie between 0 and 1"),
        ({"train": 3}, "train", "data.train is 3; a path is needed"),
        ({"limit": 0}, "train", "data.limit is 0"),
        ({"train": "a,b,c"}, "train", "names 3 files"),
        ({"train": "a,b"}, "train", "csv cannot be read from two parallel files"),
        ({"format": "restaurants"}, "train", "the format restaurants needs a number"),
        ({"format": "restaurants", "train": 0}, "train", "the format restaurants needs a number"),
        (
            {"format": "restaurants", "train": 1, "validation": 60_000, "test": 10_000},
            "test",
            r"ask for 70,000 records",
        ),
    ],
)
def test_bad_settings_get_one_clear_line(data, change, split, line):
    with pytest.raises(DataError, match=line) as caught:
        load_split(data | change, split)
    assert "\n" not in str(caught.value)


def test_path_with_a_comma_is_one_path(tmp_path):
    path = tmp_path / "a,b.csv"
    path.write_text("prompt,completion\na,b\n", encoding="utf-8")
    assert load_split({"format": "csv", "train": str(path)}, "train") == [Example("a", "b")]


# --------------------------------------------------------------------------- statistics and fingerprint


def test_statistics_of_a_known_split():
    examples = [Example("a b", "x", ("x", "y z", "x")), Example("c", "x y z w", ("x y z w",))]
    result = statistics(
        examples,
        prompt_tokens=[3, 2],
        completion_tokens=[1, 2, 1, 4],
        max_prompt_length=2,
        max_completion_length=3,
    )
    assert (result["examples"], result["inputs"], result["texts"]) == (2, 2, 4)
    assert result["references_per_input"] == {"min": 1, "median": 2, "mean": 2, "p95": 3, "max": 3}
    assert result["completion"]["words"] == {"min": 1, "median": 1.5, "mean": 2, "p95": 4, "max": 4}
    assert result["prompt"]["characters"]["max"] == 3
    assert result["prompt"]["tokens"]["max"] == 3
    assert result["truncated"] == {"prompt": 0.5, "completion": 0.25}


def test_statistics_of_training_pairs_count_texts_per_input(data):
    result = statistics(load_split(data, "train"))
    assert (result["examples"], result["inputs"], result["texts"]) == (270, 90, 270)
    assert result["references_per_input"]["median"] == 3
    assert "truncated" not in result and "tokens" not in result["prompt"]


def test_p95_is_the_smallest_length_that_95_percent_do_not_exceed():
    examples = [Example("word " * n, "x") for n in range(1, 101)]
    assert statistics(examples)["prompt"]["words"]["p95"] == 95
    assert statistics(examples[:1])["prompt"]["words"]["p95"] == 1


def test_statistics_of_nothing_are_zero():
    assert statistics([])["completion"]["words"]["max"] == 0


def test_fingerprint_changes_with_any_text():
    examples = [Example("a", "b"), Example("c", "d", ("d", "e"))]
    changed = [
        [Example("a", "b")],
        list(reversed(examples)),
        [Example("a", "b "), examples[1]],
        [examples[0], Example("c", "d", ("d",))],
        [Example("ab", ""), examples[1]],
    ]
    prints = [data_fingerprint(case) for case in [examples, *changed]]
    assert len(set(prints)) == len(prints)
    assert data_fingerprint(list(examples)) == prints[0] and len(prints[0]) == 64
