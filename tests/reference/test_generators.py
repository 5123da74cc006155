"""Generators f: what makes one, and how each name relates to the others."""

import numpy as np
import pytest
from fdistill_reference import GENERATORS
from fdistill_reference.generators import FAMILIES, check_generator, numerical_derivative, open_unit, resolve_generator
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import generator_options, user_generator
from tests.tolerances import FINITE_DIFFERENCE, at_most, close

RATIOS = np.logspace(-4, 4, 41)


@given(options=generator_options())
def test_every_generator_is_convex_and_zero_at_one(options):
    """Catches a sign, or a constant left out: D_f(p‖p) would not be 0, or D_f could be negative."""
    check_generator(resolve_generator(**options))


@given(options=generator_options())
def test_derivatives_are_derivatives(options):
    """Catches a gradient that belongs to another f than the value."""
    f = resolve_generator(**options)
    t = RATIOS[abs(RATIOS - 1) > 0.01]
    assert np.allclose(f.derivative(t), numerical_derivative(f.f)(t), rtol=FINITE_DIFFERENCE, atol=FINITE_DIFFERENCE)


@given(options=generator_options())
def test_the_limits_at_zero_and_infinity_are_approached(options):
    """Catches swapped limits, which would charge a missing teacher token as a missing student token."""
    f = resolve_generator(**options)
    for claimed, seen in (
        (f.at_zero, lambda t: f.f(np.array([1 / t]))[0]),
        (f.slope_at_infinity, lambda t: f.f(np.array([t]))[0] / t),
    ):
        if np.isinf(claimed):
            assert seen(1e30) > 2 * seen(1e12) > 0 or seen(1e30) > seen(1e12) + 10
        else:
            assert abs(seen(1e30) - claimed) < 1e-5


@given(options=generator_options())
def test_the_perspective_of_a_zero_is_its_limit(options):
    """Catches a zero probability that is dropped instead of charged."""
    f = resolve_generator(**options)
    assert f.perspective(0.0, 2.0) == 2 * f.at_zero and f.perspective(2.0, 0.0) == 2 * f.slope_at_infinity
    assert f.perspective(0.0, 0.0) == 0.0
    teacher, student = f.perspective_slopes(np.array([0.0, 2.0, 0.0]), np.array([2.0, 0.0, 0.0]))
    assert list(student) == [2 * f.at_zero, 0, 0] and list(teacher) == [0, 2 * f.slope_at_infinity, 0]


@given(options=generator_options(), a=st.floats(0.01, 1), b=st.floats(0.01, 1), c=st.floats(0.1, 10))
def test_the_perspective_is_homogeneous(options, a, b, c):
    """Catches b·f(b/a) in place of b·f(a/b) wherever f is not symmetric, and Euler's identity for its slopes."""
    f = resolve_generator(**options)
    assert close(f.perspective(c * a, c * b), c * f.perspective(a, b), 1e-10)
    assert close(sum(x for x in f.perspective_slopes(a, b)), f.perspective(a, b), 1e-9)


def test_symmetric_generators_are_symmetric_and_the_others_are_not():
    """Catches teacher and student exchanged in a formula that claims symmetry."""
    t = np.array([0.2, 0.7, 3.0])
    for name, f in GENERATORS.items():
        swapped = t * f.f(1 / t)  # the generator of D_f(q‖p)
        gap = f.f(t) - swapped
        assert np.allclose(gap / (t - 1), (gap / (t - 1))[0]) == f.symmetric, name  # equal up to c(t - 1)


def test_the_paper_s_table_of_generators():
    """Catches another convention: the paper's JS generator is twice ours, since ours is the halved divergence (Eqn. 8)."""
    t = RATIOS
    assert np.allclose(GENERATORS["kl"].f(t), t * np.log(t))
    assert np.allclose(GENERATORS["reverse_kl"].f(t), -np.log(t))
    assert np.allclose(2 * GENERATORS["js"].f(t), -(t + 1) * np.log((t + 1) / 2) + t * np.log(t))
    assert np.allclose(GENERATORS["tvd"].f(t), abs(t - 1) / 2)


def test_relations_between_families():
    """Catches a factor: alpha at ½ is four Hellinger distances, at 2 half of chi-square, near 1 and 0 the two KLs."""
    t = np.linspace(0.2, 4, 20)
    assert np.allclose(FAMILIES["alpha"](0.5).f(t), 4 * GENERATORS["hellinger"].f(t))
    assert np.allclose(FAMILIES["alpha"](2.0).f(t), GENERATORS["chi2"].f(t) / 2)
    assert np.allclose(FAMILIES["alpha"](1 + 1e-6).f(t), t * np.log(t) - t + 1, atol=1e-4)
    assert np.allclose(FAMILIES["alpha"](1e-6).f(t), t - 1 - np.log(t), atol=1e-4)
    assert np.allclose(GENERATORS["jeffreys"].f(t), GENERATORS["kl"].f(t) + GENERATORS["reverse_kl"].f(t))


@given(options=generator_options())
def test_the_upper_bound_is_what_disjoint_models_reach(options):
    """Catches a bound that is not attained, or is exceeded."""
    f = resolve_generator(**options)
    disjoint = f.perspective(np.array([1.0, 0.0]), np.array([0.0, 1.0])).sum()
    assert disjoint == f.upper_bound
    t = RATIOS
    below = f.perspective(t / (1 + t), 1 / (1 + t)) + f.perspective(1 / (1 + t), t / (1 + t))
    assert all(at_most(x, f.upper_bound) for x in below)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: resolve_generator(lambda t: -((t - 1) ** 2)), "not convex"),
        (lambda: resolve_generator(lambda t: np.sqrt(t) - 1), "not convex"),
        (lambda: resolve_generator(lambda t: t * np.log(t) + 0.1), r"f\(1\) = 0.1"),
        (lambda: resolve_generator(lambda t: np.where(t > 100, np.nan, t - 1)), "finite number"),
        (lambda: resolve_generator("kullback"), "unknown generator 'kullback'"),
        (lambda: resolve_generator("alpha", beta=2), "no parameter beta"),
        (lambda: resolve_generator("alpha", alpha=1), "its limit is kl"),
        (lambda: resolve_generator("alpha", alpha=0), "its limit is reverse_kl"),
        (lambda: resolve_generator("js", teacher_weight=0), r"kl \(its limit at 0\)"),
        (lambda: resolve_generator("skew_kl", alpha=1), "strictly between"),
        (lambda: open_unit(float("nan"), "teacher_weight", ""), "strictly between"),
        (lambda: resolve_generator(user_generator).perspective(0.0, 1.0), "needs at_zero="),
        (lambda: resolve_generator(user_generator).perspective(1.0, 0.0), "needs slope_at_infinity="),
    ],
)
def test_what_is_no_generator_is_refused_with_the_reason(make, message):
    """Catches a loss that trains on something which is not a divergence."""
    with pytest.raises(ValueError, match=message):
        make()


def test_a_user_s_function_may_carry_its_limits():
    """Catches options that are read from one place alone."""

    def f(t):
        return user_generator(t)

    f.at_zero, f.slope_at_infinity = 1.0, 1.0
    made = resolve_generator(f)
    assert made(np.array([1.0])) == 0 and made.upper_bound == 2
    assert resolve_generator(user_generator).upper_bound == np.inf
    assert resolve_generator(made, at_zero=3.0).at_zero == 3.0 and resolve_generator("rkl").name == "reverse_kl"
