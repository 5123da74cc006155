"""Properties of the `restaurants` grammar: its probabilities sum to one, fit its samples, and its sentences read back."""

from __future__ import annotations

import math
import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from fdistill.tasks.grammar import Expression, choice, draw, enumerate_all, probability, sequence, words
from fdistill.tasks.restaurants import Grammar
from fdistill.tasks.wording import VALUES

GRAMMAR = Grammar()
SUM = 1e-12  # some hundred products of at most ten factors, each rounded once: far below 1,000 units of 2^-53


@st.composite
def records(draw_):
    """Any record: a name, a food, and at least one other fact."""
    facts = {slot: draw_(st.sampled_from(VALUES[slot])) for slot in VALUES}
    kept = draw_(st.sets(st.sampled_from(["price", "area", "family"]), min_size=1))
    return {slot: value for slot, value in facts.items() if slot in ("name", "food") or slot in kept}


def expressions() -> st.SearchStrategy[Expression]:
    """Small trees over two words, so that different derivations often write the same sentence."""
    leaves = st.lists(st.sampled_from("ab"), max_size=2).map(lambda found: words(" ".join(found)))
    weights = st.integers(1, 5)
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3).map(lambda parts: sequence(*parts)),
            st.lists(st.tuples(weights, inner), min_size=1, max_size=3).map(lambda options: choice(*options)),
        ),
        max_leaves=6,
    )


@given(record=records())
def test_probabilities_of_a_record_sum_to_one(record):
    assert abs(math.fsum(GRAMMAR.sentences(record).values()) - 1) <= SUM


def test_probabilities_sum_to_one_for_every_combination_of_slots():
    for price in (None, *VALUES["price"]):
        for area in (None, *VALUES["area"]):
            for family in (None, *VALUES["family"]):
                record = {"name": "Lazy Fox", "food": "Greek", "price": price, "area": area, "family": family}
                record = {slot: value for slot, value in record.items() if value}
                if len(record) > 2:
                    assert abs(math.fsum(GRAMMAR.sentences(record).values()) - 1) <= SUM


@given(record=records())
@settings(max_examples=15)
def test_log_prob_is_the_enumerated_probability(record):
    for sentence, mass in GRAMMAR.sentences(record).items():
        assert math.isclose(GRAMMAR.log_prob(record, sentence), math.log(mass), rel_tol=1e-12)


@given(record=records(), seed=st.integers(0, 10**6))
def test_sampled_sentence_has_probability_and_reads_back(record, seed):
    sentence = GRAMMAR.realise(record, random.Random(seed))
    assert GRAMMAR.log_prob(record, sentence) > -math.inf
    assert GRAMMAR.parse(sentence) == record
    assert GRAMMAR.slot_errors(record, sentence) == 0


@given(record=records())
@settings(max_examples=15)
def test_every_sentence_reads_back_as_its_record_and_no_other(record):
    for sentence in GRAMMAR.sentences(record):
        assert GRAMMAR.parse(sentence) == record


def test_sampled_frequencies_fit_the_probabilities():
    record = {"name": "Lazy Fox", "food": "Greek", "area": "river"}
    truth = GRAMMAR.sentences(record)
    n = 20_000
    rng = random.Random(0)
    counts = Counter(GRAMMAR.realise(record, rng) for _ in range(n))
    assert set(counts) <= set(truth)
    chi2 = sum((counts[s] - n * mass) ** 2 / (n * mass) for s, mass in truth.items())
    freedom = len(truth) - 1
    assert abs(chi2 - freedom) < 5 * math.sqrt(2 * freedom)  # the statistic's mean and five standard deviations


def test_sampled_log_probs_average_to_the_entropy():
    record = {"name": "Lazy Fox", "food": "Greek", "price": "high", "area": "river", "family": "no"}
    rng = random.Random(1)
    surprises = [-GRAMMAR.log_prob(record, GRAMMAR.realise(record, rng)) for _ in range(2000)]
    mean = sum(surprises) / len(surprises)
    error = math.sqrt(sum((value - mean) ** 2 for value in surprises) / len(surprises) ** 2)
    assert abs(mean - GRAMMAR.entropy(record)) < 5 * error


@given(expression=expressions())
def test_any_expression_sums_to_one_and_scores_as_enumerated(expression):
    truth = enumerate_all(expression)
    assert abs(math.fsum(truth.values()) - 1) <= SUM
    for sentence, mass in truth.items():
        assert math.isclose(probability(expression, list(sentence)), mass, rel_tol=1e-12)


@given(expression=expressions(), seed=st.integers(0, 10**6))
def test_any_draw_is_in_the_enumeration(expression, seed):
    assert tuple(draw(expression, random.Random(seed))) in enumerate_all(expression)


@given(prompt_seed=st.integers(0, 10**6), record=records())
def test_prompt_is_read_back(prompt_seed, record):
    shuffled = list(record.items())
    random.Random(prompt_seed).shuffle(shuffled)
    assert GRAMMAR.record(GRAMMAR.prompt(dict(shuffled))) == record
