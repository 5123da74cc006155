"""The `restaurants` task: known sentences and probabilities, facts of any text, splits."""

from __future__ import annotations

import math
import random
import re
from collections import Counter

import pytest

from fdistill.errors import DataError
from fdistill.tasks import load_split, statistics
from fdistill.tasks.grammar import choice, draw, enumerate_all, probability, sequence, text_of, tokens
from fdistill.tasks.restaurants import REFERENCES, Grammar

GRAMMAR = Grammar()
RECORD = {"name": "Silver Spoon", "food": "Thai", "area": "river"}


def test_probability_of_a_sentence_known_by_hand():
    # Frames of a record with an area alone weigh 5, 4, 3, 2 and 3; this is the first, with "restaurant" (0.5) and
    # "by the river" (0.6).
    sentence = "Silver Spoon is a Thai restaurant by the river."
    assert GRAMMAR.log_prob(RECORD, sentence) == pytest.approx(math.log(5 / 17 * 0.5 * 0.6))
    assert GRAMMAR.log_prob(RECORD, f"  {sentence}\n") == GRAMMAR.log_prob(RECORD, sentence)


@pytest.mark.parametrize(
    "sentence",
    [
        "",
        "Silver Spoon is a Thai restaurant by the river",
        "Silver Spoon is a Thai restaurant by the river .",
        "Silver Spoon  is a Thai restaurant by the river.",
        "silver Spoon is a Thai restaurant by the river.",
        "Silver Spoon is a Greek restaurant by the river.",
        "Silver Spoon is a cheap Thai restaurant by the river.",
        "Silver Spoon is a Thai restaurant by the river. It is cheap.",
    ],
)
def test_what_the_grammar_cannot_write_has_no_probability(sentence):
    assert GRAMMAR.log_prob(RECORD, sentence) == -math.inf


def test_probabilities_of_ambiguous_derivations_are_added():
    expression = sequence(choice((1, "a"), (3, "a b")), choice((1, "b c"), (1, "c")))
    assert probability(expression, ["a", "b", "c"]) == pytest.approx(0.25 * 0.5 + 0.75 * 0.5)
    assert enumerate_all(expression) == {("a", "b", "c"): 0.5, ("a", "c"): 0.125, ("a", "b", "b", "c"): 0.375}
    assert probability(expression, ["a", "b"]) == probability(expression, ["a", "b", "c", "c"]) == 0


def test_draw_never_falls_through_its_weights():
    class AlmostOne(random.Random):
        def random(self):
            return 1 - 2**-53

    assert draw(choice(*((1, str(i)) for i in range(7))), AlmostOne()) == ["6"]


def test_tokens_and_text_are_inverse():
    sentence = "If you like Thai food, try Silver Spoon, which is low-cost."
    assert text_of(tokens(sentence)) == sentence


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("", []),
        ("Silver Spoon by the river", [("name", "Silver Spoon"), ("area", "river")]),
        ("Silver Oak Spoon is inexpensive", [("name", "Silver Oak"), ("price", "cheap")]),
        ("it is not good for children. Good for children!", [("family", "no"), ("family", "yes")]),
        ("THAI and Greek food, near the station", [("food", "Thai"), ("food", "Greek"), ("area", "station")]),
        ("in the city centre at high prices", [("area", "centre"), ("price", "high")]),
        ("Children are not welcome at a", [("family", "no")]),
    ],
)
def test_facts_of_any_text(text, facts):
    assert GRAMMAR.facts(text) == facts


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        ("Silver Spoon is a Thai restaurant by the river.", 0),
        ("Silver Spoon is a Thai restaurant.", 1),
        ("Silver Spoon is a cheap Thai restaurant by the river.", 1),
        ("Silver Spoon is a Greek restaurant by the river.", 2),
        ("Silver Spoon is a Thai restaurant by the river by the river.", 1),
        ("", 3),
    ],
)
def test_slot_errors_count_missing_wrong_and_repeated_facts(text, errors):
    assert GRAMMAR.slot_errors(RECORD, text) == errors
    assert GRAMMAR.slot_error_rate([RECORD], [text]) == pytest.approx(errors / 3)


def test_parse_refuses_what_the_grammar_cannot_write():
    assert GRAMMAR.parse("Silver Spoon is a Thai restaurant by the river.") == RECORD
    assert GRAMMAR.parse("Silver Spoon is a Thai restaurant.") is None  # no record has so few facts
    assert GRAMMAR.parse("Silver Spoon is Thai restaurant by the river.") is None
    assert GRAMMAR.parse("") is None


def test_prompt_and_record_are_inverse():
    prompt = "name : Silver Spoon | food : Thai | area : river"
    assert GRAMMAR.prompt({"area": "river", "food": "Thai", "name": "Silver Spoon"}) == prompt
    assert GRAMMAR.record(prompt) == RECORD


@pytest.mark.parametrize(
    ("record", "line"),
    [
        (RECORD | {"aera": "river"}, "no slot 'aera'.* Did you mean 'area'"),
        (RECORD | {"food": "Tai"}, "'Tai' is no value of the slot food.* Did you mean 'Thai'"),
        ({"name": "Silver Spoon", "food": "Thai"}, "at least one other fact"),
        ({"food": "Thai", "area": "river", "price": "cheap"}, "needs name, food"),
    ],
)
def test_records_outside_the_task_are_refused(record, line):
    with pytest.raises(DataError, match=line):
        GRAMMAR.log_prob(record, "x")


def test_broken_prompt_is_refused():
    with pytest.raises(DataError, match="a slot twice"):
        GRAMMAR.record("name : Silver Spoon | food : Thai | food : Greek | area : river")


def test_records_are_distinct_until_all_were_drawn():
    records = GRAMMAR.sample_records(70_000, 0)
    distinct = {GRAMMAR.prompt(record) for record in records}
    assert len(distinct) == 67_968 and records[67_968] == records[0]
    assert GRAMMAR.sample_records(5, 0) == records[:5] != GRAMMAR.sample_records(5, 1)


def test_splits_have_their_sizes_and_share_no_record():
    data = {"format": "restaurants", "train": 300, "validation": 50, "test": 40}
    parts = {split: load_split(data, split, 0) for split in ("train", "validation", "test")}
    assert [len(part) for part in parts.values()] == [300, 50, 40]
    inputs = [{example.prompt for example in part} for part in parts.values()]
    assert len(set.union(*inputs)) == 390
    assert all(len(example.references) == REFERENCES for example in parts["test"])
    assert all(example.references == () for example in parts["train"])
    assert parts["train"] == load_split(data, "train", 0) != load_split(data, "train", 1)


def test_held_out_splits_do_not_depend_on_the_size_of_train():
    few = {"format": "restaurants", "train": 10, "validation": 5, "test": 5}
    many = few | {"train": 1000}
    for split in ("validation", "test"):
        assert load_split(few, split, 0) == load_split(many, split, 0)
    assert load_split(few, "train", 0) == load_split(many, "train", 0)[:10]


def test_train_larger_than_all_records_words_them_again(monkeypatch):
    from fdistill.tasks import restaurants

    every = GRAMMAR.sample_records(12, 0)
    monkeypatch.setattr(restaurants, "_all_records", lambda: [dict(record) for record in every])
    train = load_split({"format": "restaurants", "train": 100, "validation": 1, "test": 1}, "train", 0)
    counts = Counter(example.prompt for example in train)
    assert len(counts) == 10 and set(counts.values()) == {10}
    assert len({example.completion for example in train}) > 30


def test_language_is_small_and_sentences_short():
    train = load_split({"format": "restaurants", "train": 2000}, "train", 0)
    vocabulary = {word for example in train for word in re.findall(r"[\w-]+", example.completion)}
    assert 90 <= len(vocabulary) <= 150
    lengths = statistics(train)["completion"]["words"]
    assert lengths["min"] >= 6 and 12 <= lengths["median"] <= 16 and lengths["max"] <= 24


def test_task_is_multi_modal():
    entropies = [GRAMMAR.entropy(record) for record in GRAMMAR.sample_records(50, 0)]
    assert min(entropies) > 2.5 and sum(entropies) / len(entropies) > 4
