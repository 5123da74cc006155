"""Paired tests against enumeration, analysis and sacrebleu's own corpus scores."""

from functools import partial
from itertools import product

import numpy as np
import pytest
import sacrebleu

from fdistill.errors import DataError
from fdistill.evaluate import Bootstrap, TextScorer, from_sums
from fdistill.evaluate.significance import holm, paired_difference

RNG = np.random.default_rng(3)


def mean(inputs):
    return partial(from_sums, "kl", inputs=inputs)


def test_the_permutation_test_is_the_enumeration_of_all_swaps():
    """A one-sided count, or swaps that are not fair, would be far off."""
    a, b = RNG.normal(0.7, 1, size=(9, 1)), RNG.normal(0, 1, size=(9, 1))
    gaps = (a - b)[:, 0]
    everything = [abs(np.mean(gaps * signs)) for signs in product((1, -1), repeat=9)]
    exact = np.mean(np.array(everything) >= abs(gaps.mean()) - 1e-12)
    found = paired_difference([a], [b], mean(9), resamples=20000)
    assert found.p == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 20000) + 1e-4)


def test_the_interval_of_a_mean_is_the_normal_one():
    a, b = RNG.normal(1, 1, size=(400, 1)), RNG.normal(0, 1, size=(400, 1))
    found = paired_difference([a], [b], mean(400), resamples=4000)
    half = 1.96 * (a - b).std() / np.sqrt(400)
    assert found.value == pytest.approx(float((a - b).mean()))
    assert (found.high - found.value, found.value - found.low) == (pytest.approx(half, rel=0.1),) * 2
    assert found.p == 1 / 4001


def test_pairing_tells_apart_what_intervals_of_their_own_do_not():
    hard = RNG.normal(0, 10, size=(200, 1))
    found = paired_difference([hard + 0.3 + RNG.normal(0, 0.5, size=(200, 1))], [hard], mean(200))
    assert found.p < 0.01 and found.low > 0


def test_equal_models_do_not_differ_and_exchanged_ones_differ_the_other_way():
    a, b = RNG.normal(size=(30, 1)), RNG.normal(size=(30, 1))
    same = paired_difference([a], [a], mean(30))
    assert (same.value, same.low, same.high, same.p) == (0, 0, 0, 1)
    one, other = paired_difference([a], [b], mean(30)), paired_difference([b], [a], mean(30))
    assert (one.value, one.low, one.high, one.p) == pytest.approx((-other.value, -other.high, -other.low, other.p))


def test_by_chance_p_is_below_a_twentieth_in_about_a_twentieth_of_cases():
    small = 0
    for _ in range(200):
        values = RNG.normal(size=(2, 25, 1))
        small += paired_difference([values[0]], [values[1]], mean(25), resamples=200).p < 0.05
    assert 2 <= small <= 20  # 10 expected, three standard deviations are 9


def test_corpus_bleu_is_compared_as_a_corpus():
    references = [[f"the cat number {i} sat on the mat", f"cat {i} sat there"] for i in range(12)]
    outputs = [[f"the cat number {i} sat on a mat" for i in range(12)], [f"a cat {i} sat" for i in range(12)]]
    scorer = TextScorer(references, Bootstrap(12, 0), ["bleu"])
    first, second = (scorer.statistics(texts)["bleu"] for texts in outputs)
    found = paired_difference([first], [second], partial(from_sums, "bleu", inputs=12), resamples=500)
    streams = [[refs[i] for refs in references] for i in range(2)]
    scores = [sacrebleu.corpus_bleu(texts, streams, force=True).score for texts in outputs]
    assert found.value == pytest.approx(scores[0] - scores[1])


def test_seeds_are_averaged_and_a_seed_twice_is_one():
    a, b, c = RNG.normal(size=(3, 40, 1))
    once, twice = paired_difference([a], [b], mean(40)), paired_difference([a, a], [b, b], mean(40))
    assert twice == once
    both = paired_difference([a, c], [b, b], mean(40))
    assert both.value == pytest.approx(float((a + c - 2 * b).mean() / 2))


def test_other_inputs_are_refused():
    with pytest.raises(DataError, match="first: 3 inputs, 1 runs, second: 4 inputs, 1 runs"):
        paired_difference([np.zeros((3, 1))], [np.zeros((4, 1))], mean(3))
    with pytest.raises(DataError, match="need the same test inputs"):
        paired_difference([np.zeros((3, 1)), np.zeros((4, 1))], [np.zeros((3, 1))] * 2, mean(3))


def test_holm_is_the_textbooks():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0] and holm([]) == []
