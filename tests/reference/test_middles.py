"""Jensen-Shannon's middle: exact, token by token, and everything between."""

from itertools import pairwise

import numpy as np
import pytest
from fdistill_reference import counterexamples, sequence_divergence, stepwise_divergence
from fdistill_reference.middles import (
    authors_js,
    binary_entropy,
    gkd_divergence,
    js_as_information,
    js_chain,
    log_odds,
    middle_gap,
    middle_model,
    posterior_middle_model,
    skew_chain,
    token_middle_model,
)
from fdistill_reference.prefixes import Prefixes
from fdistill_reference.words import log_sigmoid
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import seeded_pairs, tabular_model_pairs, teacher_weights, tempers
from tests.tolerances import at_most, close


@given(models=tabular_model_pairs(zeros=True), weight=teacher_weights())
def test_the_middle_s_conditional_is_a_mixture_by_posterior(models, weight):
    """Catches the token middle taken for the sequence middle (Wen et al., 2023, Eqn. 12): both ways give πP + (1-π)Q."""
    p, q = models
    mixture = weight * np.exp(p.sequence_log_probs()) + (1 - weight) * np.exp(q.sequence_log_probs())
    for make in (middle_model, posterior_middle_model):
        assert np.allclose(np.exp(make(p, q, weight).sequence_log_probs()), mixture, atol=1e-12)


@given(models=tabular_model_pairs(zeros=True), weight=teacher_weights())
def test_the_posterior_weight_is_a_sigmoid_of_the_log_ratio(models, weight):
    """Catches odds of the student in place of the teacher's."""
    p, q = models
    prefixes = Prefixes(p, q)
    reachable = prefixes.middle(weight) > 0
    assert np.allclose(prefixes.weight(weight)[reachable], np.exp(log_sigmoid(log_odds(p, q, weight)))[reachable])


@given(models=tabular_model_pairs(zeros=True), weight=teacher_weights())
def test_js_is_mutual_information_with_a_chain_rule(models, weight):
    """Catches a JS that is not the halved one, or whose steps are weighed by P or Q in place of M."""
    p, q = models
    whole = sequence_divergence("js", p, q, teacher_weight=weight)
    assert close(js_as_information(p, q, weight), whole) and close(js_chain(p, q, weight).sum(), whole)
    assert (js_chain(p, q, weight) >= -1e-12).all()


@given(
    models=tabular_model_pairs(zeros=True),
    weight=teacher_weights(),
    temper=tempers(),
    memory=tempers(),
    clip=st.floats(0.1, 3),
)
def test_another_middle_costs_exactly_the_gap(models, weight, temper, memory, clip):
    """Catches a middle that differs between the halves: only a common m' adds Σ M KL(m‖m'), and never less than zero."""
    p, q = models
    used = {"middle": temper, "memory": memory, "clip": clip}
    value = stepwise_divergence("js", p, q, teacher_weight=weight, **used)
    gap = middle_gap(p, q, log_odds(p, q, weight, temper, memory, clip), weight)
    assert close(value, sequence_divergence("js", p, q, teacher_weight=weight) + gap) and at_most(0.0, gap)


@given(models=tabular_model_pairs(zeros=True), weight=teacher_weights())
def test_the_token_middle_is_a_bound_whose_gap_is_a_kl_of_sequences(models, weight):
    """Catches Eqn. 11 sold as exact: it is JS + KL(M‖M̃), M̃ flipping the coin at every token, and at most T·H(π)."""
    p, q = models
    js = sequence_divergence("js", p, q, teacher_weight=weight)
    token = stepwise_divergence("js", p, q, teacher_weight=weight)
    middles = [make(p, q, weight) for make in (middle_model, token_middle_model)]
    assert close(token, js + sequence_divergence("kl", *middles))
    assert at_most(js, token) and at_most(token, p.length * float(binary_entropy(weight)))


@given(models=tabular_model_pairs(zeros=True), weight=teacher_weights(), low=tempers(), high=tempers())
def test_tempering_falls_from_token_to_sequence(models, weight, low, high):
    """Catches τ applied to log w in place of log r: the value is monotone in τ, token at 0, exact at 1."""
    p, q = models
    low, high = sorted((low, high))
    values = [stepwise_divergence("js", p, q, teacher_weight=weight, middle=x) for x in (0.0, low, high, 1.0)]
    assert all(at_most(b, a) for a, b in pairwise(values))


@given(models=tabular_model_pairs(zeros=True), weight=teacher_weights(), low=st.floats(0, 5), high=st.floats(0, 5))
def test_clipping_falls_from_token_to_sequence(models, weight, low, high):
    """Catches a clip of the odds in place of the ratio, which would move π as well."""
    p, q = models
    low, high = sorted((low, high))
    values = [
        stepwise_divergence("js", p, q, teacher_weight=weight, middle="sequence", clip=x)
        for x in (0.0, low, high, np.inf)
    ]
    assert close(values[0], stepwise_divergence("js", p, q, teacher_weight=weight))
    assert all(at_most(b, a) for a, b in pairwise(values))


@given(models=seeded_pairs(min_length=2))
def test_the_token_middle_is_not_exact_once_prefixes_tell_who_writes(models):
    """Catches a test that could not tell Eqn. 11 from Eqn. 12: with P(s) ≠ Q(s) and p ≠ q behind s the gap is positive."""
    p, q = models
    assert stepwise_divergence("js", p, q) - sequence_divergence("js", p, q) > 1e-12


@given(models=seeded_pairs(max_length=3), seed=st.integers(0, 99))
def test_the_token_middle_is_exact_where_prefixes_are_undecided_or_conditionals_agree(models, seed):
    """Catches a gap that is charged where there is none: first tokens equally likely and the rest free at length two,
    or all conditionals behind the first token equal."""
    p, q = models
    logits = p.logits.copy()
    logits[0] = q.logits[0]
    same_after = p.with_logits(logits)  # differs from p in the first token alone
    assert close(stepwise_divergence("js", p, same_after), sequence_divergence("js", p, same_after))
    if p.length >= 2:
        short = [m.truncated(2) for m in (q, same_after)]  # equal first tokens: every prefix has P(s) = Q(s)
        assert close(stepwise_divergence("js", *short), sequence_divergence("js", *short))


@pytest.mark.parametrize("weight", [0.5, 0.2])
def test_disjoint_conditionals_attain_the_token_bound(weight):
    """Catches a bound that is loose: T·H(π) for the token middle, H(π) for the exact one."""
    p, q = counterexamples.disjoint(3, 3)
    assert close(stepwise_divergence("js", p, q, teacher_weight=weight), 3 * float(binary_entropy(weight)))
    assert close(sequence_divergence("js", p, q, teacher_weight=weight), float(binary_entropy(weight)))


@given(models=tabular_model_pairs(), weight=teacher_weights())
def test_the_authors_beta_is_one_minus_the_teacher_weight(models, weight):
    """Catches β put on the teacher: at ½ nothing shows."""
    p, q = models
    assert close(authors_js(p, q, 1 - weight), stepwise_divergence("js", p, q, teacher_weight=weight), 1e-9)


def test_gkd_can_lie_below_js():
    """Catches generalised knowledge distillation sold as JS: .0823 where JS is .1162."""
    p, q = counterexamples.gkd_below_js()
    assert round(gkd_divergence(p, q), 4) == 0.0823 and round(sequence_divergence("js", p, q), 4) == 0.1162
    assert gkd_divergence(p, q, source="student") > sequence_divergence("js", p, q)


@given(models=tabular_model_pairs(zeros=True), alpha=st.floats(0.05, 0.95))
def test_skewed_kl_has_the_posterior_s_chain_rule(models, alpha):
    """Catches DistiLLM's skew with a constant weight at every token, which is another quantity."""
    p, q = models
    assert close(skew_chain(p, q, alpha), sequence_divergence("skew_kl", p, q, alpha=alpha))
    assert close(skew_chain(q, p, alpha), sequence_divergence("skew_rkl", p, q, alpha=alpha))


@given(weight=st.floats(0, 1))
def test_binary_entropy_is_largest_at_one_half(weight):
    """Catches an entropy in bits, or NaN at 0 and 1."""
    assert 0 <= binary_entropy(weight) <= np.log(2) + 1e-15 and close(float(binary_entropy(0.5)), np.log(2))
