"""Speculative decoding as the algorithm runs it, against sums over prefixes."""

from itertools import pairwise

import numpy as np
from fdistill_reference import bounds, sequence_divergence, speculative
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import tabular_model_pairs
from tests.tolerances import at_most, close

PAIRS = tabular_model_pairs(zeros=True)


@given(models=PAIRS)
def test_what_is_written_is_the_teacher_s_law(models):
    """Catches a residual that is not (p - q)₊/tv."""
    p, q = models
    assert np.allclose(speculative.accepted(p, q) + speculative.replaced(p, q), np.exp(p.log_probs), atol=1e-12)


@given(models=PAIRS)
def test_expected_rejections_are_the_teacher_bound(models):
    """Catches rejections counted on draft prefixes: (36), with prefixes of the teacher, is their expected number."""
    p, q = models
    assert close(speculative.expected_rejections(p, q), bounds.teacher_bound(p, q))


@given(models=PAIRS)
def test_the_product_bound_is_the_probability_of_any_rejection(models):
    """Catches the number of rejections taken for their probability; TVD, the best coupling, is smaller still."""
    p, q = models
    assert close(speculative.any_rejection(p, q), bounds.product_bound(p, q))
    assert at_most(sequence_divergence("tvd", p, q), speculative.any_rejection(p, q))


@given(models=PAIRS, block=st.integers(1, 4))
def test_the_accepted_length_is_a_sum_of_overlaps(models, block):
    """Catches a block that counts the token after a rejection, or goes on behind EOS."""
    p, q = models
    profile = speculative.acceptance_profile(p, q)
    assert close(speculative.accepted_length(p, q, block), profile[:block].sum())
    assert all(at_most(b, a) for a, b in pairwise(profile))
    if p.eos is None:
        assert close(profile[0], np.exp(np.minimum(p.log_probs, q.log_probs))[0].sum())
        assert close(profile[-1], 1 - bounds.product_bound(p, q))


@given(models=PAIRS)
def test_equal_models_are_never_rejected(models):
    """Catches an acceptance below one at p = q."""
    p, _ = models
    assert speculative.expected_rejections(p, p) == 0 and close(speculative.any_rejection(p, p), 0.0)
