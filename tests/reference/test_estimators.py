"""Monte-Carlo estimators, judged without sampling: their mean and variance by enumeration."""

import numpy as np
import pytest
from fdistill_reference import TabularModel, estimators, gradient, gradients, stepwise_divergence
from fdistill_reference.stepwise import make_scene, rows, stepwise_terms
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import cases, seeded_pairs, tabular_model_pairs, teacher_weights
from tests.tolerances import close

from .numerics import costly

CASES = [case for case in cases() if case.name not in ("mle", "kd")]
BY_STUDENT = ["rkl", "engine", "js", "tvd"]


@given(models=tabular_model_pairs())
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_loss_along_a_sample_is_unbiased(models, case):
    """Catches a step that is counted twice, or off the sample's own prefixes."""
    p, q = models
    found = estimators.value_moments(case.name, p, q, **case.options)
    assert close(found.mean, stepwise_divergence(case.name, p, q, **case.options), 1e-10) and found.variance >= 0


@costly
@given(models=seeded_pairs())
@pytest.mark.parametrize("mode", ["full", "stepwise"])
def test_the_gradient_along_a_sample_is_unbiased(models, mode):
    """Catches a score function with the wrong return, and a path weight whose derivative lands on another path."""
    p, q = models
    for case in CASES:
        found = estimators.gradient_moments(case.name, p, q, mode, **case.options)
        whole = gradient(case.name, p, q, mode, **case.options)
        assert np.allclose(found.mean, whole, atol=1e-10 * (1 + abs(whole).max())), str(case)


@given(models=seeded_pairs(), seed=st.integers(0, 99))
@pytest.mark.parametrize("name", BY_STUDENT)
def test_a_baseline_of_the_prefix_leaves_the_gradient_alone(models, name, seed):
    """Catches a baseline that is subtracted at the wrong step."""
    p, q = models
    baseline = estimators.prefix_baseline(q, np.random.default_rng(seed).standard_normal(q.tree.size))
    found = estimators.gradient_moments(name, p, q, baseline=baseline)
    assert np.allclose(found.mean, gradient(name, p, q))


@given(models=seeded_pairs(min_length=2))
def test_a_baseline_that_knows_the_token_biases_the_gradient(models):
    """Catches a test that no baseline could fail: the return after the step depends on y_t, and takes the score part away."""
    p, q = models
    row = rows("rkl", p, q)[0]
    batch = q.batch()
    returns = estimators.returns_after(row.losses[batch.rows] * batch.mask)
    found = estimators.gradient_moments("rkl", p, q, baseline=returns)
    assert np.allclose(found.mean, gradient("rkl", p, q, "stepwise"))


@given(models=seeded_pairs(max_vocab=3, max_length=2))
@pytest.mark.parametrize("name", BY_STUDENT)
def test_leave_one_out_is_unbiased(models, name):
    """Catches a mean that contains the sample itself: it shrinks the score part by 1 - 1/N; leave-one-out does not."""
    p, q = models
    score = gradients.score_part(name, p, q)
    for group in (2, 3) if len(q.sequences()) <= 5 else (2,):
        assert np.allclose(estimators.group_score_gradient(name, p, q, group), score)
        own = estimators.group_score_gradient(name, p, q, group, include_self=True)
        assert np.allclose(own, (1 - 1 / group) * score)


@given(models=seeded_pairs(), weight=teacher_weights())
def test_every_estimator_of_the_js_gradient_has_the_same_mean(models, weight):
    """Catches an estimator that trades bias for variance unseen."""
    p, q = models
    exact = {"teacher_weight": weight, "middle": "sequence"}
    whole = gradient("js", p, q, **exact)
    means = [
        estimators.js_reinforce_moments(p, q, weight).mean,
        estimators.js_balance_score_moments(p, q, weight).mean,
        *(
            estimators.gradient_moments("js", p, q, estimator=one, **exact).mean
            for one in ("balance", "teacher", "student")
        ),
    ]
    assert all(np.allclose(mean, whole, atol=1e-11) for mean in means)


@given(models=seeded_pairs(), weight=teacher_weights(), seed=st.integers(0, 99))
def test_two_sources_mix_into_one(models, weight, seed):
    """Catches the balance estimator with π where w belongs: πE_P a + (1-π)E_Q b = E_M[w a + (1-w) b]."""
    p, q = models
    teacher, student = np.random.default_rng(seed).standard_normal((2, p.tree.size))
    assert close(*estimators.mixed_mean(p, q, teacher, student, weight))


@given(models=seeded_pairs(), weight=teacher_weights())
def test_teacher_side_js_terms_are_at_most_those_of_kl(models, weight):
    """Catches π/w gone astray: each term of exact JS from teacher samples alone is at most π KL(p‖q)."""
    p, q = models
    js = stepwise_terms("js", p, q, teacher_weight=weight, middle="sequence", estimator="teacher")["teacher"]
    assert (js <= weight * stepwise_terms("kl", p, q)["teacher"] + 1e-12).all()


def test_balance_varies_less_than_halves():
    """Catches an estimator that is offered for its variance and has none to offer, in value and gradient."""
    for scale in (0.5, 1.0, 3.0):
        values, steps = {}, {}
        for one in ("halves", "balance"):
            exact = {"middle": "sequence", "estimator": one}
            pairs = [_pair(seed, scale) for seed in range(20)]
            values[one] = np.mean([estimators.value_moments("js", *pair, **exact).variance for pair in pairs])
            moments = [estimators.gradient_moments("js", *pair, "stepwise", **exact) for pair in pairs]
            steps[one] = np.mean([m.relative_variance for m in moments])
        assert values["balance"] < values["halves"] and steps["balance"] < steps["halves"], scale


def test_reinforce_varies_most():
    """Catches a score part that is not reduced by summing each step over the vocabulary."""
    pairs = [_pair(seed, 0.3) for seed in range(10)]
    reinforce = [estimators.js_reinforce_moments(*pair).relative_variance for pair in pairs]
    balance = [estimators.js_balance_score_moments(*pair).relative_variance for pair in pairs]
    assert np.mean(balance) < np.mean(reinforce) / 3


def test_moments_are_mean_and_variance():
    """Catches a variance about zero in place of the mean."""
    found = estimators.moments(np.array([0.25, 0.75]), np.array([[4.0, 0.0], [0.0, 0.0]]))
    assert list(found.mean) == [1, 0] and found.variance == 3 and found.relative_variance == 3
    assert list(estimators.returns_after(np.array([1.0, 2.0, 4.0]))) == [6, 4, 0]
    p, q = _pair(0, 1.0)
    probs = estimators.sequence_probs(make_scene(p, q), p, q, "teacher")
    samples = estimators.sample_gradients(make_scene(p, q), rows("kl", p, q)[0], q)
    assert np.allclose(np.tensordot(probs, samples, axes=1), gradient("kl", p, q))


def _pair(seed, scale):
    rng = np.random.default_rng(seed)
    p = TabularModel.random(3, 3, rng, eos=0)
    return p, p.with_logits(p.logits + scale * rng.standard_normal(p.logits.shape))
