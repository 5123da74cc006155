"""Divergences that multiply along a sequence."""

from itertools import pairwise

import numpy as np
from fdistill_reference import TabularModel, gradient, recursions, sequence_divergence, signal
from fdistill_reference.gradients import js_full_gradient
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import tabular_model_pairs, teacher_weights
from tests.tolerances import at_most, close

POWERS = st.sampled_from((-0.5, 0.3, 0.5, 0.9, 1.5, 2.0))
PAIRS = tabular_model_pairs(zeros=True)


@given(models=PAIRS, alpha=POWERS)
def test_the_backward_recursion_is_the_sum_over_sequences(models, alpha):
    """Catches a recursion that starts from 0 behind EOS, and zeros under negative powers."""
    p, q = models
    edges = recursions.log_power(p.sequence_log_probs(), q.sequence_log_probs(), alpha)
    by_sequences = np.exp(edges).sum()
    assert close(recursions.power_sum(p, q, alpha), by_sequences, 1e-10)
    assert close(recursions.log_power_sum(p, q, alpha), float(np.log(by_sequences)) if by_sequences else -np.inf, 1e-10)


@given(models=PAIRS, alpha=POWERS)
def test_named_divergences_come_from_powers(models, alpha):
    """Catches a factor or a power: Hellinger α = ½, chi-square α = 2, the alpha family."""
    p, q = models
    assert close(recursions.hellinger(p, q), sequence_divergence("hellinger", p, q))
    assert close(recursions.chi2(p, q), sequence_divergence("chi2", p, q), 1e-10)
    assert close(recursions.alpha_divergence(p, q, alpha), sequence_divergence("alpha", p, q, alpha=alpha), 1e-10)


@given(models=PAIRS, alpha=st.sampled_from((0.3, 0.5, 0.9, 1.5, 2.0)))
def test_renyi_is_at_most_the_sum_of_its_worst_steps(models, alpha):
    """Catches a maximum over prefixes that nobody reaches, or a Rényi divergence below zero."""
    p, q = models
    value = recursions.renyi(p, q, alpha)
    assert at_most(0.0, value) and at_most(value, recursions.renyi_step_bound(p, q, alpha))


@given(models=tabular_model_pairs(max_length=1, zeros=True), alpha=st.sampled_from((0.5, 2.0)))
def test_at_length_one_renyi_is_its_word_level_value(models, alpha):
    """Catches an off-by-one in the recursion."""
    p, q = models
    word = recursions.word_log_power_sum(p.log_probs, q.log_probs, alpha)[0] / (alpha - 1)
    assert close(recursions.renyi(p, q, alpha), word) and close(
        recursions.renyi_step_bound(p, q, alpha), max(word, 0.0)
    )


@given(models=PAIRS)
def test_what_two_models_share_never_grows(models):
    """Catches a Bhattacharyya coefficient that is not one: it is 1 - Hellinger and falls with every token."""
    p, q = models
    profile = signal.bhattacharyya_profile(p, q)
    assert all(at_most(b, a) for a, b in pairwise(profile))
    assert close(profile[-1], 1 - sequence_divergence("hellinger", p, q)) and close(
        profile[-1], signal.bhattacharyya(p, q)
    )


@given(models=PAIRS, weight=teacher_weights())
def test_the_exact_js_gradient_is_bounded_by_what_is_shared(models, weight):
    """Catches a gradient with a wrong factor: ‖∇JS‖ ≤ √(π(1-π)) Σ √(PQ) ‖∇log Q‖."""
    p, q = models
    assert at_most(np.linalg.norm(js_full_gradient(p, q, weight)), signal.js_gradient_bound(p, q, weight))


def _coin(heads, tosses):
    return TabularModel.from_probabilities([[heads, 1 - heads]] * (2**tosses - 1), tosses)


@given(
    heads=st.tuples(st.floats(0.05, 0.95), st.floats(0.05, 0.95)), weight=teacher_weights(), tosses=st.integers(1, 5)
)
def test_coins_count_their_heads_alone(heads, weight, tosses):
    """Catches prefixes that are counted once where they have many orders: here all are written out."""
    p, q = (_coin(chance, tosses) for chance in heads)
    slopes = gradient("js", p, q, "stepwise", teacher_weight=weight, middle="sequence")[:, 0]
    by_step = [slopes[level].sum() for level in p.tree.levels()]
    assert np.allclose(signal.coin_gradient_profile(*heads, tosses, weight), by_step)


def test_half_of_the_exact_js_gradient_sits_in_the_first_ten_tokens():
    """Catches a claim about where the signal is: coins that differ by .22 nats a token, sixty tosses."""
    heads = 0.5 + 0.1627859
    assert close((2 * heads - 1) * np.log(heads / (1 - heads)), 0.22, 1e-5)
    profile = abs(signal.coin_gradient_profile(heads, 1 - heads, 60))
    share = profile.cumsum() / profile.sum()
    assert share[8] < 0.5 < share[9]
    per_token = signal.bhattacharyya(_coin(heads, 1), _coin(1 - heads, 1))
    assert (profile[1:] < per_token * profile[:-1]).all()
