"""The machine, summed over all sequences of drawn models, against the reference: every objective × option × gradient."""

import numpy as np
import pytest
import torch
from fdistill_reference import gradient, sequence_divergence, stepwise_divergence
from hypothesis import given

from fdistill.checks.cases import CASES
from fdistill.checks.enumeration import all_sequences, machine
from fdistill.checks.properties import relative
from fdistill.objectives import OBJECTIVES, objective
from tests.strategies import tabular_model_pairs

EXACT = 1e-9
BY_LABEL = {case.label: case for case in CASES}


def has_kinks(p, q):
    """Whether a token or a prefix is equally likely to both up to rounding: there |p - q| and min(1, r) have no derivative."""
    ratios = p.prefix_log_probs()[1:] - q.prefix_log_probs()[1:]
    return min(np.abs(p.log_probs - q.log_probs).min(), np.abs(ratios).min(initial=np.inf)) < 1e-9


@pytest.mark.parametrize("mode", ["stepwise", "full"])
@pytest.mark.parametrize("label", BY_LABEL)
@given(models=tabular_model_pairs(max_vocab=3, max_length=3))
def test_expected_loss_and_gradient_are_the_references(label, mode, models):
    """Catches a swapped direction, a lost weight, another middle, a detach in the wrong place, a return off by one."""
    case, (p, q) = BY_LABEL[label], models
    value, grad = machine(
        objective(case.name, gradient=mode, **case.options), all_sequences(p, q, "cpu", torch.float64)
    )
    with np.errstate(all="ignore"):
        truth = stepwise_divergence(case.name, p, q, **case.options)
        slope = gradient(case.name, p, q, mode=mode, **case.options)
    if not np.isfinite(truth):
        assert value == truth
        return
    assert relative(value, truth) <= EXACT
    if np.isfinite(slope).all() and not ("tvd" in label and has_kinks(p, q)):
        assert relative(grad, slope) <= EXACT


@pytest.mark.parametrize("label", [case.label for case in CASES if case.exact])
@given(models=tabular_model_pairs(max_vocab=3, max_length=3))
def test_exact_objectives_are_divergences_of_whole_sequences(label, models):
    """Catches a decomposition that only agrees with itself: the truth here sees P(y), Q(y) and f, and no steps."""
    case, (p, q) = BY_LABEL[label], models
    truth = sequence_divergence(case.exact, p, q, **case.divergence_options)
    value, _ = machine(objective(case.name, **case.options), all_sequences(p, q, "cpu", torch.float64))
    assert value == truth if not np.isfinite(truth) else relative(value, truth) <= EXACT


@pytest.mark.parametrize("label", [case.label for case in CASES if case.bounds])
@given(models=tabular_model_pairs(max_vocab=3, max_length=3))
def test_bounds_are_never_below_the_divergence(label, models):
    """Catches a prefix weight that is too small."""
    case, (p, q) = BY_LABEL[label], models
    options = {} if case.bounds == "tvd" else case.divergence_options
    value, _ = machine(objective(case.name, **case.options), all_sequences(p, q, "cpu", torch.float64))
    if case.bounds == "tvd" and case.options.get("bound") == "product":
        assert value <= 1 + EXACT
    assert value >= sequence_divergence(case.bounds, p, q, **options) - EXACT


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("label", BY_LABEL)
@given(models=tabular_model_pairs(max_vocab=3, max_length=3))
def test_identical_models_give_exactly_zero(label, dtype, models):
    """Catches a lost entropy, and noise sold as loss in the dtypes that training uses."""
    from fdistill.loss import step_losses

    case, (p, _) = BY_LABEL[label], models
    if case.name in ("mle", "seqkd", "engine"):
        return
    sequences = all_sequences(p, p, "cpu", dtype)
    made = objective(case.name, **case.options)
    for source in made.sources:
        steps = step_losses(
            made,
            source,
            student_logits=sequences.student_logits(),
            teacher_logits=sequences.teacher_logits(),
            tokens=sequences.tokens,
            mask=sequences.mask & (sequences.probs[source] > 0).unsqueeze(1),
        )
        assert torch.equal(steps, torch.zeros_like(steps))


def test_every_objective_and_estimator_has_a_case():
    """Catches an option that was added to the table and to no test."""
    assert {case.name for case in CASES} == set(OBJECTIVES)
    for name in ("js", "tvd", "f_divergence"):
        tried = {case.options.get("estimator", "default") for case in CASES if case.name == name}
        assert tried >= (
            {"teacher", "student"} if name == "f_divergence" else {"default", "balance", "teacher", "student"}
        )
