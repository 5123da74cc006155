"""Divergences between whole sequences: what Σ_y Q(y) f(P(y)/Q(y)) must obey."""

import numpy as np
import pytest
from fdistill_reference import GENERATORS, sequence_divergence
from fdistill_reference.middles import binary_entropy, middle_model
from fdistill_reference.sequence import score, sequence_generator, sequence_gradient
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.strategies import (
    generator_options,
    seeded_pairs,
    tabular_model_pairs,
    tabular_model_triples,
    teacher_weights,
)
from tests.tolerances import FINITE_DIFFERENCE_STEP, at_most, close

from .numerics import is_derivative, kink_margin


@given(models=tabular_model_pairs(zeros=True), options=generator_options())
def test_divergences_are_never_negative_and_exactly_zero_at_equality(models, options):
    """Catches an f that lost its constant, and noise at P = Q."""
    p, q = models
    assert at_most(0.0, sequence_divergence("f_divergence", p, q, **options))
    assert sequence_divergence("f_divergence", p, p, **options) == 0


@given(models=seeded_pairs(), options=generator_options())
def test_different_models_have_a_positive_divergence(models, options):
    """Catches a divergence that cannot see a difference, such as half of one."""
    p, q = models
    assert sequence_divergence("f_divergence", p, q, **options) > 1e-12


@given(models=tabular_model_triples(), options=generator_options(), share=st.floats(0, 1))
def test_divergences_are_convex_in_the_student(models, options, share):
    """Catches student and teacher exchanged in Σ q f(p/q): the mixture is of whole sequences, not of tokens."""
    p, q, other = models
    mixed = middle_model(q, other, min(max(share, 1e-6), 1 - 1e-6))
    share = min(max(share, 1e-6), 1 - 1e-6)
    ends = [sequence_divergence("f_divergence", p, x, **options) for x in (q, other)]
    assert at_most(
        sequence_divergence("f_divergence", p, mixed, **options), share * ends[0] + (1 - share) * ends[1], 1e-9
    )


@given(models=tabular_model_pairs(zeros=True))
def test_symmetric_divergences_are_symmetric(models):
    """Catches a claim of symmetry that the code does not keep."""
    p, q = models
    for name, f in GENERATORS.items():
        if f.symmetric:
            assert close(sequence_divergence(name, p, q), sequence_divergence(name, q, p)), name


@given(models=tabular_model_pairs(zeros=True), weight=teacher_weights())
def test_mirrored_divergences(models, weight):
    """Catches a weight on the wrong model: exchanging the models exchanges π and 1-π, KL and reverse KL."""
    p, q = models
    one, other = (
        sequence_divergence("js", p, q, teacher_weight=weight),
        sequence_divergence("js", q, p, teacher_weight=1 - weight),
    )
    assert close(one, other)
    assert close(sequence_divergence("rkl", p, q), sequence_divergence("kl", q, p))
    assert close(
        sequence_divergence("skew_rkl", p, q, alpha=weight), sequence_divergence("skew_kl", q, p, alpha=weight)
    )


@given(models=tabular_model_pairs(zeros=True), weight=teacher_weights())
def test_bounds_between_divergences(models, weight):
    """Catches a factor of two in one of them: JS ≤ H(π), TVD ≤ 1, Pinsker, Bretagnolle-Huber, TVD against Hellinger,
    JS ≤ TVD·log 2."""
    p, q = models
    tv, kl, hellinger, js = (sequence_divergence(name, p, q) for name in ("tvd", "kl", "hellinger", "js"))
    assert at_most(sequence_divergence("js", p, q, teacher_weight=weight), float(binary_entropy(weight)))
    assert at_most(tv, 1.0) and at_most(2 * tv**2, kl) and at_most(tv, np.sqrt(-np.expm1(-max(0.0, kl))), 1e-7)
    assert at_most(hellinger, tv) and at_most(tv, np.sqrt(max(0.0, hellinger * (2 - hellinger))), 1e-7)
    assert at_most(js, tv * np.log(2))


@given(models=tabular_model_pairs(zeros=True, min_length=2), options=generator_options())
def test_shorter_sequences_are_never_further_apart(models, options):
    """Catches a truncation that counts something past its end: dropping the last token is a coarsening."""
    p, q = models
    short = [m.truncated(p.length - 1) for m in models]
    assert at_most(
        sequence_divergence("f_divergence", *short, **options),
        sequence_divergence("f_divergence", p, q, **options),
        1e-10,
    )


@given(models=seeded_pairs(max_length=3), options=generator_options())
def test_the_sequence_gradient_is_the_derivative(models, options):
    """Catches a score function with the wrong weight f(r) - r f'(r), or a softmax forgotten."""
    p, q = models
    claimed = sequence_gradient("f_divergence", p, q, **options)
    assume(options["generator"] != "tvd" or kink_margin(p, q) > 30 * FINITE_DIFFERENCE_STEP)
    assert is_derivative(claimed, lambda x: sequence_divergence("f_divergence", p, x, **options), q)


@given(models=tabular_model_pairs())
def test_the_score_has_mean_zero(models):
    """Catches a score at the wrong row: E_Q ∇log Q = 0."""
    _, q = models
    assert np.allclose(np.tensordot(np.exp(q.sequence_log_probs()), score(q), axes=1), 0)


def test_names_options_and_refusals():
    """Catches a silent fall back to a default."""
    assert (
        sequence_generator("rkl").name == "reverse_kl" and sequence_generator("tvd", teacher_weight=0.3).name == "tvd"
    )
    with pytest.raises(ValueError, match="unknown divergence 'jsd'"):
        sequence_generator("jsd")
    with pytest.raises(ValueError, match="no parameter middle"):
        sequence_generator("js", middle="token")
    with pytest.raises(ValueError, match="strictly between"):
        sequence_generator("tvd", teacher_weight=1)
