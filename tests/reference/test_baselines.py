"""SeqKD, ENGINE and the two risks, against the divergences they approximate."""

import numpy as np
from fdistill_reference import baselines, sequence_divergence, stepwise_divergence
from hypothesis import given

from tests.strategies import seeded_pairs, tabular_model_pairs
from tests.tolerances import at_most, close


@given(models=tabular_model_pairs())
def test_seqkd_is_kl_plus_the_teacher_s_entropy(models):
    """Catches a likelihood under the wrong model (Wen et al., 2023, Eqns. 2 and 3)."""
    p, q = models
    whole = sequence_divergence("kl", p, q) + baselines.sequence_entropy(p)
    assert close(sequence_divergence("seqkd", p, q), whole) and close(stepwise_divergence("seqkd", p, q), whole)
    assert close(baselines.coverage_risk(p, q), whole) and close(sequence_divergence("mle", p, q), whole)


@given(models=tabular_model_pairs())
def test_engine_is_reverse_kl_plus_the_student_s_entropy(models):
    """Catches ENGINE sold as reverse KL: it is short of the student's entropy."""
    p, q = models
    whole = sequence_divergence("rkl", p, q) + baselines.sequence_entropy(q)
    assert close(sequence_divergence("engine", p, q), whole) and close(stepwise_divergence("engine", p, q), whole)
    assert close(baselines.likelihood_risk(p, q), whole)


@given(models=tabular_model_pairs(zeros=True))
def test_entropy_has_a_chain_rule(models):
    """Catches an entropy of prefixes that are not weighed."""
    p, _ = models
    assert close(baselines.chain_entropy(p), baselines.sequence_entropy(p))


@given(models=seeded_pairs())
def test_the_likelihood_risk_is_least_at_collapse(models):
    """Catches R_llh read as "lower is better": a student that writes the teacher's mode alone beats Q = P."""
    p, q = models
    collapsed = baselines.collapsed(p)
    assert close(baselines.likelihood_risk(p, collapsed), -p.log_prob(baselines.mode(p)))
    assert at_most(baselines.likelihood_risk(p, collapsed), baselines.likelihood_risk(p, q))
    assert baselines.likelihood_risk(p, collapsed) < baselines.likelihood_risk(p, p)
    assert baselines.coverage_risk(p, collapsed) == np.inf


@given(models=seeded_pairs())
def test_the_coverage_risk_is_least_at_equality(models):
    """Catches R_cvg reported without the H(P) that is its floor."""
    p, q = models
    assert close(baselines.coverage_risk(p, p), baselines.sequence_entropy(p))
    assert baselines.coverage_risk(p, q) > baselines.sequence_entropy(p)


@given(models=tabular_model_pairs())
def test_hard_seqkd_is_the_loss_of_one_sequence(models):
    """Catches the expectation and its one-sequence approximation taken for each other."""
    p, q = models
    best = baselines.mode(p)
    assert all(p.log_prob(best) >= p.log_prob(y) for y in p.sequences())
    assert close(baselines.hard_seqkd(p, q), -q.log_prob(best))
    assert close(sequence_divergence("seqkd", baselines.collapsed(p), q), baselines.hard_seqkd(p, q))


def test_distinct_bigrams():
    """Catches bi-grams across sequences, and a division by zero on short ones."""
    assert baselines.distinct_bigram_share([(1, 2, 1, 2), (1, 2)]) == 0.5
    assert baselines.distinct_bigram_share([(1,), ()]) == 0.0
