"""The built-in requests: distinct, in disjoint splits, and a test split that more training data leaves alone."""

import pytest

from fdistill.errors import DataError
from fdistill.tasks import load_split
from fdistill.tasks.instructions import requests


def split(name, **sizes):
    return load_split({"format": "instructions", "train": 40, "validation": 5, "test": 10, **sizes}, name, seed=1)


def test_requests_are_distinct_and_some_hundreds():
    assert len(set(requests())) == len(requests()) > 400
    assert all(text[0].isupper() and text[-1] in ".?" and "{" not in text for text in requests())


def test_splits_share_nothing():
    parts = [{example.prompt[0]["content"] for example in split(name)} for name in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [40, 5, 10] and len(set.union(*parts)) == 55
    assert set.union(*parts) <= set(requests())


def test_more_training_data_leaves_the_test_split_alone():
    assert split("test") == split("test", train=200)
    assert split("train") == split("train", train=200)[:40]
    assert split("test") != load_split({"format": "instructions", "train": 40, "test": 10}, "test", seed=2)


def test_more_than_there_are_is_refused():
    with pytest.raises(DataError, match=r"has \d+ requests, and data asks for 100015"):
        split("train", train=100000)
