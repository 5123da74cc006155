"""Dynamic programming over contexts, against enumeration where that is possible."""

from itertools import pairwise

import numpy as np
import pytest
from fdistill_reference import bounds, markov, recursions, sequence_divergence, stepwise_divergence, words
from fdistill_reference.markov import MarkovModel
from hypothesis import given

from tests.strategies import markov_model_pairs, teacher_weights
from tests.tolerances import at_most, close


@given(models=markov_model_pairs(), weight=teacher_weights())
def test_dynamic_programming_equals_enumeration(models, weight):
    """Catches contexts that are read in the wrong order, EOS that goes on, or a kernel of the wrong model."""
    p, q = (m.tabular() for m in models)
    expected = {
        markov.kl: sequence_divergence("kl", p, q),
        markov.reverse_kl: sequence_divergence("rkl", p, q),
        markov.teacher_bound: bounds.teacher_bound(p, q),
        markov.student_bound: bounds.student_bound(p, q),
        markov.paper_bound: bounds.paper_bound(p, q),
        markov.product_bound: bounds.product_bound(p, q),
    }
    for function, value in expected.items():
        assert close(function(*models), value), function.__name__
    assert close(markov.token_middle_js(*models, weight), stepwise_divergence("js", p, q, teacher_weight=weight))
    for alpha in (0.5, 2.0, 1.3):
        assert close(markov.log_power_sum(*models, alpha), recursions.log_power_sum(p, q, alpha))


@given(models=markov_model_pairs())
def test_masses_are_the_probabilities_of_unfinished_prefixes(models):
    """Catches mass that is lost or doubled between contexts."""
    p = models[0].tabular()
    for kernel, alive in ((markov.teacher, p), (markov.student, models[1].tabular())):
        for step, mass in markov.context_masses(*models, kernel):
            assert close(mass.sum(), np.exp(alive.prefix_log_probs())[p.tree.depth == step].sum())
    shared = [mass.sum() for _, mass in markov.context_masses(*models, markov.overlap)]
    assert all(at_most(b, a) for a, b in pairwise(shared))
    entropy = markov.prefix_sum(*models, markov.teacher, lambda a, b: words.entropy(a))
    assert close(entropy, float(words.entropy(p.sequence_log_probs())))


@given(models=markov_model_pairs())
def test_samples_are_sequences_with_their_probability(models):
    """Catches sampling behind EOS, and a log-probability of other tokens than those drawn."""
    p, rng = models[0], np.random.default_rng(0)
    tokens, mask = p.sample(5, rng)
    for row, kept, log_prob in zip(tokens, mask, p.log_prob(tokens, mask), strict=True):
        assert close(log_prob, p.tabular().log_prob(tuple(int(v) for v in row[kept])))


def test_contexts_are_the_last_tokens_read_as_digits():
    """Catches the oldest token kept and the newest dropped."""
    context = np.array(0)
    for step, token in enumerate((2, 0, 1)):
        context = markov.next_context(context, np.array(token), step, 2, 3)
    assert context == 0 * 3 + 1
    assert markov.next_context(np.array(0), np.array(2), 0, 0, 3) == 0


def test_lengths_far_beyond_enumeration():
    """Catches a cost or an underflow that grows with the length: V = 50, T = 200, 50^200 sequences."""
    rng = np.random.default_rng(0)
    p = MarkovModel.random(50, 1, 200, rng)
    q = p.perturbed(rng, 0.05)
    kl, reverse_kl = markov.kl(p, q), markov.reverse_kl(p, q)
    assert kl > 0 and reverse_kl > 0 and abs(kl / reverse_kl - 1) < 0.2
    tv, hellinger = markov.product_bound(p, q), -np.expm1(markov.log_power_sum(p, q, 0.5))
    assert hellinger <= tv <= 1 and tv <= markov.paper_bound(p, q)
    assert markov.log_power_sum(p, q, 2.0) >= kl  # Rényi divergences rise with their order
    token = markov.token_middle_js(p, q)
    assert 0 < token <= (kl + reverse_kl) / 4  # JS of every step is at most a quarter of Jeffreys


def test_models_of_another_shape_are_refused():
    """Catches a broadcast between contexts that do not belong together."""
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="must share"):
        markov.kl(MarkovModel.random(2, 1, 3, rng), MarkovModel.random(2, 1, 4, rng))
    with pytest.raises(ValueError, match="contexts of 1 tokens"):
        MarkovModel([np.zeros((1, 2)), np.zeros((3, 2))], 3)
