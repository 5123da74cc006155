"""Each installed toolkit's loss computes what the published table says; a change of theirs shows up here."""

import pytest
import torch

from fdistill.verify import judge
from fdistill.verify.conventions import random_batch
from tests.conformance.toolkits import FOREIGN
from tests.conformance.torchrl_loss import distillation


@pytest.mark.parametrize("foreign", FOREIGN, ids=lambda foreign: foreign.toolkit)
def test_a_toolkits_loss_is_what_the_table_says(foreign):
    if reason := foreign.cannot_run():
        pytest.skip(f"{foreign.package}: {reason}")
    verdict = judge(foreign.call, foreign.judged_as, foreign.options)
    assert verdict.passed is foreign.passes
    assert foreign.computes in verdict.computes
    gradient = dict((name, ok or "also flows into the teacher" in text) for name, ok, text in verdict.notes)["gradient"]
    assert gradient is foreign.own_gradient


def test_both_directions_of_torchrl_descend_the_forward_kl():
    """Its reverse loss holds the sampling distribution, so that what is left is the gradient of the other KL."""
    pytest.importorskip("torchrl")
    batch, found = random_batch(0, padded=False), []
    for direction in ("forward", "reverse"):
        student = batch.student.clone().requires_grad_()
        distillation(student, batch.teacher, batch.mask, direction).sum().backward()
        found.append(student.grad)
    assert torch.allclose(*found, atol=1e-5)
