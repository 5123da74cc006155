"""Bounded estimates of JS and TVD: exactly unbiased, and covered by their intervals."""

import numpy as np
import pytest
from fdistill_reference import montecarlo, sequence_divergence
from fdistill_reference.generators import resolve_generator
from fdistill_reference.markov import MarkovModel
from fdistill_reference.middles import binary_entropy
from fdistill_reference.words import log_fraction, times
from hypothesis import given

from tests.strategies import generator_options, tabular_model_pairs, teacher_weights
from tests.tolerances import close

PAIRS = tabular_model_pairs(zeros=True)


def _expectations(p, q, scores, weight):
    ratios = log_fraction(p.sequence_log_probs(), q.sequence_log_probs())
    values = scores(ratios, weight)
    return weight * np.exp(p.sequence_log_probs()) @ values + (1 - weight) * np.exp(q.sequence_log_probs()) @ values


@given(models=PAIRS, weight=teacher_weights())
def test_js_and_tvd_estimates_are_unbiased(models, weight):
    """Catches scores whose mean under πP + (1-π)Q is another number: enumerated, not sampled."""
    p, q = models
    assert close(
        _expectations(p, q, montecarlo.js_scores, weight), sequence_divergence("js", p, q, teacher_weight=weight)
    )
    assert close(_expectations(p, q, montecarlo.tvd_scores, weight), sequence_divergence("tvd", p, q))


@given(models=PAIRS, weight=teacher_weights())
def test_scores_stay_in_the_interval_that_hoeffding_needs(models, weight):
    """Catches an interval that is too narrow because a score leaves its range."""
    p, q = models
    ratios = log_fraction(p.sequence_log_probs(), q.sequence_log_probs())
    js, tvd = montecarlo.js_scores(ratios, weight), montecarlo.tvd_scores(ratios, weight)
    top = float(binary_entropy(weight))
    assert (js <= top + 1e-12).all() and (js >= top - np.log(2) - 1e-12).all()
    assert (tvd >= 0).all() and (tvd <= max(1 / weight, 1 / (1 - weight)) / 2 + 1e-12).all()


@given(models=tabular_model_pairs(), options=generator_options())
def test_f_scores_are_unbiased_under_the_student(models, options):
    """Catches f(Q/P), or a mean under the teacher; holds wherever P ≪ Q."""
    p, q = models
    ratios = p.sequence_log_probs() - q.sequence_log_probs()
    f = resolve_generator(**options)
    mean = times(np.exp(q.sequence_log_probs()), montecarlo.f_scores(ratios, f)).sum()
    assert close(mean, sequence_divergence("f_divergence", p, q, **options), 1e-10)


@pytest.mark.parametrize("estimate", ["js", "tvd"])
def test_intervals_cover_the_truth(estimate):
    """Catches a level that is not kept: 200 seeded repetitions, at most 5 in 100 may miss."""
    p = MarkovModel.random(3, 1, 4, np.random.default_rng(1), eos=0)
    q = p.perturbed(np.random.default_rng(2), 0.7)
    truth = sequence_divergence(estimate, p.tabular(), q.tabular())
    function = getattr(montecarlo, f"estimate_{estimate}")
    missed = 0
    for seed in range(200):
        found = function(*_log_ratios(p, q, 50, seed))
        assert found.low <= found.value <= found.high
        missed += not found.low <= truth <= found.high
    assert missed <= 10


def test_interval_widths_do_not_depend_on_the_length():
    """Catches a range that grows with T: V = 50, T = 200."""
    widths = []
    for length in (2, 200):
        p = MarkovModel.random(50, 1, length, np.random.default_rng(0))
        q = p.perturbed(np.random.default_rng(1), 0.3)
        found = montecarlo.estimate_js(*_log_ratios(p, q, 400, 3))
        assert 0 <= found.low <= found.high <= np.log(2)
        widths.append(montecarlo.hoeffding_half_width(np.log(2), 400, 400))
    assert widths[0] == widths[1] < 0.05
    assert montecarlo.hoeffding_half_width(1.0, 10, 10, 0.5) < montecarlo.hoeffding_half_width(1.0, 10, 10, 0.9)


def test_estimates_refuse_a_single_source():
    """Catches JS at π = 1, which is 0."""
    with pytest.raises(ValueError, match="strictly between"):
        montecarlo.estimate_js(np.zeros(2), np.zeros(2), teacher_weight=1.0)


def _log_ratios(p, q, count, seed):
    rng = np.random.default_rng(seed)
    draws = [m.sample(count, rng) for m in (p, q)]
    return [p.log_prob(*draw) - q.log_prob(*draw) for draw in draws]
