"""Total variation and its bounds, in order."""

from itertools import pairwise

import numpy as np
from fdistill_reference import bounds, counterexamples, sequence_divergence, stepwise_divergence
from fdistill_reference.generators import open_unit
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import tabular_model_pairs, teacher_weights, tempers
from tests.tolerances import at_most, close

PAIRS = tabular_model_pairs(zeros=True, max_length=4, max_vocab=3)


@given(models=PAIRS)
def test_the_bounds_stand_in_their_order(models):
    """Catches a bound with a wrong weight: TVD ≤ product ≤ overlap ≤ min of (36), (37) ≤ paper (25)."""
    p, q = models
    chain = [
        sequence_divergence("tvd", p, q),
        bounds.product_bound(p, q),
        bounds.overlap_bound(p, q),
        min(bounds.teacher_bound(p, q), bounds.student_bound(p, q)),
        bounds.paper_bound(p, q),
    ]
    assert all(at_most(a, b) for a, b in pairwise(chain)), chain
    assert at_most(bounds.product_bound(p, q), 1.0)


@given(models=PAIRS)
def test_the_product_bound_is_a_complement(models):
    """Catches a product that contains the current token, or omits the last one: Σ κ tv = 1 - Σ_y Π min(p, q)."""
    p, q = models
    assert close(bounds.product_bound(p, q), bounds.product_complement(p, q))


@given(models=PAIRS, weight=teacher_weights(), temper=tempers())
def test_objectives_are_these_bounds(models, weight, temper):
    """Catches the objective's ½·½ (Eqns. 9-10) and its options against Σ a(P, Q) tv."""
    p, q = models
    assert close(stepwise_divergence("tvd", p, q), bounds.paper_bound(p, q))
    shares = weight * bounds.teacher_bound(p, q) + (1 - weight) * bounds.student_bound(p, q)
    assert close(stepwise_divergence("tvd", p, q, teacher_weight=weight), shares)
    assert close(stepwise_divergence("tvd", p, q, teacher_weight=weight, bound="overlap"), bounds.overlap_bound(p, q))
    assert close(stepwise_divergence("tvd", p, q, teacher_weight=weight, bound="product"), bounds.product_bound(p, q))
    tempered = bounds.weighted_bound(p, q, lambda a, b: _tempered(a, b, temper, weight))
    assert close(stepwise_divergence("tvd", p, q, teacher_weight=weight, bound=temper), tempered, 1e-10)


def _tempered(a, b, temper, weight):
    low = np.minimum(a, b)
    return weight * a ** (1 - temper) * low**temper + (1 - weight) * b ** (1 - temper) * low**temper


@given(models=PAIRS, low=tempers(), high=tempers())
def test_tempered_bounds_fall_from_paper_to_overlap(models, low, high):
    """Catches an exponent on the wrong factor."""
    p, q = models
    low, high = sorted((low, high))
    values = [stepwise_divergence("tvd", p, q, bound=x) for x in (0.0, low, high, 1.0)]
    assert all(at_most(b, a) for a, b in pairwise(values))
    assert at_most(sequence_divergence("tvd", p, q), values[-1])


@given(models=PAIRS, first=st.floats(-5, 5), second=st.floats(-5, 5))
def test_power_means_rise_from_overlap_to_paper(models, first, second):
    """Catches a mean that is not monotone in ρ, or a wrong limit at 0, -∞ or 1."""
    p, q = models
    low, high = sorted((first, second))
    values = [bounds.power_mean_bound(p, q, rho) for rho in (-np.inf, low, high, np.inf)]
    assert all(at_most(a, b, 1e-10) for a, b in pairwise(values))
    assert close(values[0], bounds.overlap_bound(p, q)) and close(
        bounds.power_mean_bound(p, q, 1.0), bounds.paper_bound(p, q)
    )
    assert at_most(sequence_divergence("tvd", p, q), values[0])
    root = bounds.power_mean_bound(p, q, 0.0)
    assert at_most(bounds.power_mean_bound(p, q, -0.5), root) and at_most(root, bounds.power_mean_bound(p, q, 0.5))


@given(models=PAIRS)
def test_exact_tvd_steps_add_up_and_are_never_negative(models):
    """Catches an exact form that fails at zeros, and steps above the teacher's overlap min(1, u)."""
    p, q = models
    tv = sequence_divergence("tvd", p, q)
    steps, per_teacher = bounds.tvd_steps(p, q), bounds.tvd_steps_by_ratio(p, q)
    assert close(steps.sum(), tv) and (steps >= -1e-12).all()
    teacher = np.exp(p.prefix_log_probs())
    assert np.allclose(teacher * per_teacher, steps, atol=1e-12)
    with np.errstate(divide="ignore", invalid="ignore"):
        u = np.where(teacher > 0, np.exp(q.prefix_log_probs()) / teacher, 0.0)
    assert (per_teacher <= np.minimum(1, u) + 1e-12).all()


@given(models=PAIRS)
def test_the_overlap_falls_by_no_more_than_its_loss(models):
    """Catches a gap in the proof of the overlap bound: a_0 = 1, a_T = 1 - TVD, a_t - a_(t+1) ≤ Σ_{|s|=t} ω(s) tv(s)."""
    p, q = models
    profile, losses = bounds.overlap_profile(p, q), bounds.overlap_losses(p, q)
    assert profile[0] == 1 and close(profile[-1], 1 - sequence_divergence("tvd", p, q))
    assert all(at_most(fall, loss) for fall, loss in zip(-np.diff(profile), losses, strict=True))
    assert close(losses.sum(), bounds.overlap_bound(p, q))


@given(models=PAIRS)
def test_tvd_grows_by_no_more_than_one_step_s_loss(models):
    """Catches a gap in the induction of Theorem 1b (Wen et al., 2023, Eqns. 23-37), with either source of prefixes."""
    p, q = models
    tv, teacher, student = bounds.bound_growth(p, q)
    growth = np.diff(tv, prepend=0.0)
    assert all(at_most(a, b) for a, b in zip(growth, teacher, strict=True))
    assert all(at_most(a, b) for a, b in zip(growth, student, strict=True))
    assert close(teacher.sum(), bounds.teacher_bound(p, q)) and close(student.sum(), bounds.student_bound(p, q))


@given(teacher=st.floats(0.01, 0.99), student=st.floats(0.01, 0.99))
def test_no_smaller_weight_is_always_a_bound(teacher, student):
    """Catches the hope for a sharper function of P(s) and Q(s): any a < min there fails on this pair of models."""
    p, q = bounds.least_weight_witness(teacher, student)
    at_the_root = abs(teacher - student)
    assert close(sequence_divergence("tvd", p, q) - at_the_root, min(teacher, student))
    smaller = bounds.weighted_bound(p, q, lambda a, b: np.where((a == 1) & (b == 1), 1.0, 0.99 * np.minimum(a, b)))
    assert smaller < sequence_divergence("tvd", p, q)


def test_the_overlap_bound_can_pass_one_and_the_product_bound_cannot():
    """Catches a claim that both are probabilities: fair against unfair coins, growing with the length."""
    values = [
        max(bounds.overlap_bound(*counterexamples.biased_coins(t, gap)) for gap in (0.4, 0.5, 0.65)) for t in (2, 4, 8)
    ]
    assert values[0] < values[1] < values[2] and values[1] > 1 and values[2] <= np.sqrt(8)
    assert bounds.product_bound(*counterexamples.biased_coins(8, 0.45)) < 1


@given(a=st.floats(0, 1), b=st.floats(0, 1))
def test_power_means_at_their_named_points(a, b):
    """Catches NaN at zeros."""
    a, b = np.array([a]), np.array([b])
    assert close(bounds.power_mean(a, b, 1.0)[0], (a + b)[0] / 2) and close(
        bounds.power_mean(a, b, 0.0)[0], np.sqrt(a * b)[0]
    )
    assert bounds.power_mean(a, b, -np.inf)[0] == min(a, b) and bounds.power_mean(a, b, np.inf)[0] == max(a, b)
    assert open_unit(0.5, "weight", "") == 0.5
