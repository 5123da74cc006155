"""The variance of the full gradient under every baseline, judged by enumerating whole groups of samples."""

from itertools import product

import numpy as np
import pytest
from fdistill_reference import TabularModel, estimators, gradient, variance
from fdistill_reference.objectives import objective_rows
from fdistill_reference.sequence import score
from fdistill_reference.stepwise import make_scene
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import seeded_pairs, teacher_weights
from tests.tolerances import close

BY_STUDENT = [
    ("rkl", {}),
    ("engine", {}),
    ("js", {}),
    ("js", {"middle": "sequence"}),
    ("js", {"middle": "sequence", "estimator": "balance"}),
    ("tvd", {}),
    ("tvd", {"bound": "overlap"}),
]


@given(models=seeded_pairs(), group=st.integers(2, 5))
@pytest.mark.parametrize("baseline", variance.BASELINES)
@pytest.mark.parametrize(("name", "options"), BY_STUDENT)
def test_no_baseline_changes_the_mean(models, group, baseline, name, options):
    """Catches a baseline that knows the token it is subtracted from."""
    p, q = models
    found = variance.full_gradient_moments(name, p, q, group, baseline, **options)
    whole = gradient(name, p, q, **options)
    assert np.allclose(found.mean, whole, atol=1e-10 * (1 + abs(whole).max())) and found.variance >= -1e-15


@given(models=seeded_pairs(max_vocab=2, max_length=3), group=st.sampled_from((2, 3)))
@pytest.mark.parametrize("name", ["rkl", "engine"])
def test_the_variance_of_leave_one_out_is_that_of_whole_groups(models, group, name):
    """Catches a U-statistic with the wrong weights: here every group of samples is written out, each with its probability."""
    p, q = models
    (row,) = objective_rows(name, make_scene(p, q))
    probs, scores = np.exp(q.sequence_log_probs()), variance.step_scores(q)
    alone = estimators.sample_gradients(make_scene(p, q), row, q, "full").reshape(len(probs), -1)
    batch = q.batch()
    returns = estimators.returns_after(row.losses[batch.rows] * batch.mask)
    samples, chances = [], []
    for members in map(list, product(range(len(probs)), repeat=group)):
        total = returns[members].sum(0)
        others = [(total - returns[i]) / (group - 1) for i in members]
        parts = [alone[i] - other @ scores[i] for i, other in zip(members, others, strict=True)]
        samples.append(np.mean(parts, axis=0))
        chances.append(probs[members].prod())
    truth = estimators.moments(np.array(chances), np.array(samples))
    found = variance.full_gradient_moments(name, p, q, group, "leave_one_out")
    assert np.allclose(found.mean.reshape(-1), truth.mean) and close(found.variance, truth.variance, 1e-9)


@given(models=seeded_pairs(), group=st.integers(2, 5))
@pytest.mark.parametrize(("name", "options"), BY_STUDENT)
def test_independent_draws_divide_the_variance(models, group, name, options):
    """Catches a group that is counted twice, in either source."""
    p, q = models
    one = estimators.gradient_moments(name, p, q, **options)
    assert close(variance.full_gradient_moments(name, p, q, group, **options).variance, one.variance / group, 1e-10)
    assert variance.averaged(one, group).variance == one.variance / group


@given(models=seeded_pairs())
def test_the_value_of_a_prefix_is_the_mean_return_of_what_follows_it(models):
    """Catches a value that counts the step itself, and one that counts behind the end."""
    p, q = models
    (row,) = objective_rows("rkl", make_scene(p, q))
    batch, probs = q.batch(), np.exp(q.sequence_log_probs())
    returns = estimators.returns_after(row.losses[batch.rows] * batch.mask)
    values = variance.expected_returns(row, q)
    for prefix in range(q.tree.size):
        here = (batch.rows == prefix) & batch.mask
        chance = (probs[:, None] * here).sum()
        assert close(values[prefix], (probs[:, None] * here * returns).sum() / chance)


@given(models=seeded_pairs())
def test_scores_of_steps_add_up_to_the_score_of_the_sequence(models):
    """Catches a score that lands on another step's prefix."""
    _, q = models
    assert np.allclose(variance.step_scores(q).sum(1).reshape(-1, *q.logits.shape), score(q))


@given(models=seeded_pairs(), weight=teacher_weights())
def test_every_estimator_of_the_js_gradient_is_unbiased_under_one_budget(models, weight):
    """Catches a budget that changes what is estimated."""
    p, q = models
    whole = gradient("js", p, q, teacher_weight=weight, middle="sequence")
    for name, found in variance.js_estimators(p, q, weight).items():
        assert np.allclose(found.mean, whole, atol=1e-11), name


def test_estimators_of_the_js_gradient_stand_in_their_order():
    """Catches a claim about variance that holds for nobody: summing out what can be summed out pays, under one budget."""
    for peakedness in (1.0, 3.0):
        found = [variance.js_estimators(*_pair(seed, peakedness)) for seed in range(10)]
        mean = {name: np.mean([one[name].variance for one in found]) for name in found[0]}
        assert mean["step-wise balance + score"] < 1.25 * mean["teacher only"]
        assert max(mean["step-wise balance + score"], mean["teacher only"]) < mean["balance"] < mean["halves"]
        assert mean["halves"] < mean["REINFORCE"] and mean["student only"] < mean["REINFORCE"]


def test_leave_one_out_pays_where_returns_are_large_and_costs_in_pairs_where_they_are_about_zero():
    """Catches a promise that it always helps: the one other sample of a pair can add more than it takes away."""
    pairs = [_pair(seed, 1.0) for seed in range(10)]

    def mean(name, baseline, group, **options):
        found = [variance.full_gradient_moments(name, *pair, group, baseline, **options) for pair in pairs]
        return np.mean([one.variance for one in found])

    assert mean("engine", "value", 4) < mean("engine", "leave_one_out", 4) < 0.7 * mean("engine", None, 4)
    exact = {"middle": "sequence", "estimator": "student"}
    assert mean("js", "leave_one_out", 2, **exact) > mean("js", None, 2, **exact)
    assert mean("js", "leave_one_out", 4, **exact) < mean("js", None, 4, **exact)


def test_what_is_no_baseline_is_refused():
    """Catches a misspelt baseline that is taken for none, and a group of one."""
    pair = _pair(0, 1.0)
    with pytest.raises(ValueError, match="mean"):
        variance.full_gradient_moments("rkl", *pair, 2, "mean")
    with pytest.raises(ValueError, match="at least 2"):
        variance.full_gradient_moments("rkl", *pair, 1, "leave_one_out")


def _pair(seed, peakedness):
    rng = np.random.default_rng(seed)
    return tuple(TabularModel.random(3, 3, rng, None, peakedness) for _ in range(2))
