"""Inequalities in exact arithmetic: no tolerance anywhere in this file but where floats are compared with fractions."""

from fractions import Fraction
from itertools import pairwise

import pytest
from fdistill_reference import bounds, counterexamples, rational, recursions, sequence_divergence
from fdistill_reference.rational import RationalModel
from hypothesis import given

from tests.strategies import rational_model_pairs
from tests.tolerances import close

PAIRS = rational_model_pairs()


@given(models=PAIRS)
def test_the_bounds_stand_in_their_order_exactly(models):
    """Catches an inequality that holds up to rounding alone."""
    p, q = models
    chain = [
        rational.tvd(p, q),
        rational.product_bound(p, q),
        rational.overlap_bound(p, q),
        min(rational.teacher_bound(p, q), rational.student_bound(p, q)),
        rational.paper_bound(p, q),
    ]
    assert all(a <= b for a, b in pairwise(chain)) and chain[0] >= 0 and chain[1] <= 1


@given(models=PAIRS)
def test_the_exact_steps_of_tvd(models):
    """Catches a step-wise TVD that is exact only where nothing vanishes."""
    p, q = models
    steps = rational.tvd_by_steps(p, q)
    assert sum(steps) == rational.tvd(p, q) and min(steps) >= 0
    assert rational.product_bound(p, q) == rational.product_complement(p, q)


@given(models=PAIRS)
def test_equal_models_have_distance_exactly_zero(models):
    """Catches noise at equality."""
    p, _ = models
    assert rational.tvd(p, p) == rational.paper_bound(p, p) == rational.product_complement(p, p) == 0


@given(models=rational_model_pairs(smallest=1))
def test_chi_square_multiplies_along_a_sequence(models):
    """Catches a recursion that is right to rounding alone, and Pinsker's cousin 4·TVD² ≤ χ²."""
    p, q = models
    assert rational.chi2_by_recursion(p, q) == rational.chi2(p, q) >= 0
    assert 4 * rational.tvd(p, q) ** 2 <= rational.chi2(p, q)


@given(models=rational_model_pairs(smallest=1))
def test_floating_point_agrees_with_fractions(models):
    """Catches a shared mistake between float functions: these were summed without a logarithm."""
    exact, floats = models, [m.tabular() for m in models]
    assert close(sequence_divergence("tvd", *floats), float(rational.tvd(*exact)))
    assert close(recursions.chi2(*floats), float(rational.chi2(*exact)), 1e-10)
    for name in ("teacher_bound", "student_bound", "paper_bound", "overlap_bound", "product_bound"):
        assert close(getattr(bounds, name)(*floats), float(getattr(rational, name)(*exact))), name


def test_the_overlap_bound_passes_one_exactly():
    """Catches the claim that it is a probability: (9/8)·(…) by hand for coins of ¾ and ¼ and four tosses."""
    heads, tails = (Fraction(3, 4), Fraction(1, 4)), (Fraction(1, 4), Fraction(3, 4))
    prefixes = counterexamples.biased_coins(4, 0.5)[0].prefixes()
    p, q = (RationalModel(dict.fromkeys(prefixes, row), 4) for row in (heads, tails))
    assert rational.overlap_bound(p, q) == sum(
        Fraction(1, 2) * x for x in (1, Fraction(1, 2), Fraction(1, 2), Fraction(5, 16))
    )
    assert rational.word_tvd(p, q, ()) == Fraction(1, 2) and rational.product_overlap(p, q, (0, 1)) == Fraction(1, 16)
    assert rational.weighted(p, q, lambda s: Fraction(1)) == Fraction(15, 2)


def test_rows_that_are_no_distributions_are_refused():
    """Catches fractions that do not sum to one."""
    with pytest.raises(ValueError, match="no distribution"):
        RationalModel({(): (Fraction(1, 2), Fraction(1, 3))}, 1)
    with pytest.raises(ValueError, match="exactly the unfinished prefixes"):
        RationalModel({(): (Fraction(1), Fraction(0))}, 2)
