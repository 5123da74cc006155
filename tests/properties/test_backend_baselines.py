"""The machine's full gradient under every baseline: its exact mean and its exact variance, all pairs of samples enumerated."""

import itertools

import numpy as np
import pytest
import torch
from fdistill_reference import TabularModel, gradient, variance
from fdistill_reference.estimators import prefix_baseline
from fdistill_reference.objectives import objective_rows
from fdistill_reference.stepwise import make_scene
from hypothesis import given

from fdistill import objective, sequence_loss
from fdistill.checks.cases import CASES
from fdistill.checks.enumeration import all_sequences
from tests.strategies import tabular_model_pairs

BY_LABEL = {case.label: case for case in CASES}
LABELS = ["rkl", "engine", "js(middle=sequence)", "js(middle=token)", "tvd(bound=overlap)"]


def pairs_of_samples(sequences, source):
    """Indices [2P] of two samples each, and the probability [P] of each pair."""
    probs = sequences.probs[source]
    written = [i for i in range(len(probs)) if probs[i] > 0]
    found = list(itertools.product(written, written))
    return torch.tensor(found).reshape(-1), torch.stack([probs[i] * probs[j] for i, j in found])


def batch_of(sequences, index):
    return {
        "student_logits": sequences.student_logits()[index],
        "teacher_logits": sequences.teacher_logits()[index],
        "tokens": sequences.tokens[index],
        "mask": sequences.mask[index],
        "groups": torch.arange(len(index) // 2).repeat_interleave(2),
    }


@pytest.mark.parametrize("baseline", [None, "leave_one_out"])
@pytest.mark.parametrize("label", LABELS)
@given(models=tabular_model_pairs(max_vocab=2, max_length=3))
def test_the_full_gradient_is_unbiased_with_every_baseline(label, baseline, models):
    """Catches a baseline that includes the sample itself: two independent samples, all pairs enumerated, no sampling."""
    case, (p, q) = BY_LABEL[label], models
    made = objective(case.name, gradient="full", **case.options)
    truth = gradient(case.name, p, q, mode="full", **case.options)
    if not np.isfinite(truth).all():
        return
    sequences = all_sequences(p, q, "cpu", torch.float64)
    total = torch.zeros((), dtype=torch.float64)
    for source in made.sources:
        index, chances = pairs_of_samples(sequences, source)
        weights = chances.repeat_interleave(2)
        batch = batch_of(sequences, index)
        total = total + sequence_loss(made, source, **batch, weights=weights, baseline=baseline, normalizer=2.0).loss
    (found,) = torch.autograd.grad(total, sequences.student)
    assert np.allclose(found[:-1].numpy(), truth, rtol=1e-8, atol=1e-10)


def gradients_of_pairs(made, source, sequences, baseline, prefixes):
    """The gradient of every pair's mean loss by the student's table, [P, N·V], and the pairs' probabilities [P]."""
    index, chances = pairs_of_samples(sequences, source)
    batch = batch_of(sequences, index)
    leaf = batch["student_logits"].detach().requires_grad_()
    subtracted = baseline[index] if isinstance(baseline, torch.Tensor) and source == "student" else None
    if baseline == "leave_one_out" and source == "student":
        subtracted = baseline
    loss = sequence_loss(made, source, **{**batch, "student_logits": leaf}, baseline=subtracted, normalizer=2.0).loss
    (by_row,) = torch.autograd.grad(loss, leaf)
    table = by_row.new_zeros(len(chances), prefixes + 1, leaf.shape[-1])
    which = torch.arange(len(chances)).repeat_interleave(2).unsqueeze(1).expand_as(sequences.rows[index])
    table.index_put_((which, sequences.rows[index]), by_row, accumulate=True)
    return table[:, :-1].reshape(len(chances), -1), chances


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("baseline", variance.BASELINES)
@pytest.mark.parametrize("label", LABELS)
def test_the_full_gradient_varies_as_the_reference_says(label, baseline, seed):
    """Catches a baseline that is computed and not used, or used with the wrong sign, share or step; the mean hides it."""
    case, rng = BY_LABEL[label], np.random.default_rng(seed)
    p, q = (TabularModel.random(2, 3, rng, eos=(None, 0)[seed % 2]) for _ in range(2))
    sequences = all_sequences(p, q, "cpu", torch.float64)
    given_baseline = baseline
    if baseline == "value":
        rows = objective_rows(case.name, make_scene(p, q), **case.options)
        (row,) = (row for row in rows if row.source == "student")
        given_baseline = torch.tensor(prefix_baseline(q, variance.expected_returns(row, q)))
    made, found = objective(case.name, gradient="full", **case.options), 0.0
    for source in made.sources:
        samples, chances = gradients_of_pairs(made, source, sequences, given_baseline, q.tree.size)
        found += float(chances @ (samples - chances @ samples).square().sum(-1))
    truth = variance.full_gradient_moments(case.name, p, q, 2, baseline, **case.options)
    assert found == pytest.approx(truth.variance, rel=1e-9)
