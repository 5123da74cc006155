"""What a batch must look like, known values by hand, and what `sequence_loss` returns beside its loss."""

import math

import pytest
import torch

from fdistill import LinearLogits, ObjectiveError, TopKLogits, VocabularyError, objective, sequence_loss, step_losses
from fdistill.loss.score import returns_to_go


def batch(**changes):
    values = {
        "student_logits": torch.zeros(2, 3, 4),
        "teacher_logits": torch.zeros(2, 3, 4),
        "tokens": torch.zeros(2, 3, dtype=torch.long),
        "mask": torch.ones(2, 3, dtype=torch.bool),
    }
    return {**values, **changes}


REFUSALS = [
    ("kl", {"teacher_logits": torch.zeros(2, 3, 5)}, VocabularyError, "have 5 tokens and student_logits 4"),
    ("kl", {"teacher_logits": torch.zeros(2, 2, 4)}, ObjectiveError, "must be aligned to tokens [2, 3]"),
    ("kl", {"teacher_logits": None}, ObjectiveError, "needs teacher_logits"),
    ("kl", {"mask": torch.ones(2, 3)}, ObjectiveError, "mask must be bool"),
    ("kl", {"tokens": torch.zeros(2, 3)}, ObjectiveError, "tokens must be integers"),
    ("kl", {"tokens": torch.full((2, 3), 4)}, ObjectiveError, "from 4 to 4, outside the vocabulary of 4"),
    ("kl", {"documents": torch.zeros(2, 2)}, ObjectiveError, "documents must have the shape"),
    ("kl", {"baseline": "leave_one_out"}, ObjectiveError, "belongs to gradient 'full'"),
]


@pytest.mark.parametrize(("name", "changes", "kind", "words"), REFUSALS)
def test_a_wrong_batch_is_refused_in_one_line(name, changes, kind, words):
    with pytest.raises(kind) as refusal:
        step_losses(objective(name), "teacher", **batch(**changes))
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


FULL = [
    ({"baseline": "mean"}, "baseline is None, 'leave_one_out'"),
    ({"baseline": "leave_one_out"}, "needs groups"),
    ({"baseline": "leave_one_out", "groups": torch.tensor([0, 1])}, "has one sample alone"),
    ({"baseline": torch.zeros(2, 3, requires_grad=True)}, "must be detached"),
    ({"baseline": torch.zeros(2, 2)}, "of the shape of tokens"),
    ({"reduction": "token"}, "refused with reduction 'token'"),
]


@pytest.mark.parametrize(("changes", "words"), FULL)
def test_a_full_gradient_refuses_what_would_bias_it(changes, words):
    with pytest.raises(ObjectiveError, match=words.replace("(", r"\(")):
        sequence_loss(objective("rkl", gradient="full"), "student", **batch(**changes))


def test_what_a_top_k_teacher_cannot_give_is_refused():
    teacher = TopKLogits(
        torch.zeros(2, 3, 1, dtype=torch.long), torch.zeros(2, 3, 1), torch.zeros(2, 3), torch.zeros(2, 3)
    )
    with pytest.raises(ObjectiveError, match="cannot be computed from a top-k teacher"):
        step_losses(objective("engine"), "student", **batch(teacher_logits=teacher))
    with pytest.raises(ObjectiveError, match="only a teacher may be known by its top k"):
        step_losses(objective("mle"), "data", **batch(student_logits=teacher))


def known_batch():
    """p = (.8, .2), q = (.5, .5) at both steps of one sequence."""
    p, q = torch.tensor([0.8, 0.2]).log(), torch.tensor([0.5, 0.5]).log()
    return {
        "teacher_logits": p.expand(1, 2, 2).double(),
        "student_logits": q.expand(1, 2, 2).double(),
        "tokens": torch.tensor([[0, 1]]),
        "mask": torch.ones(1, 2, dtype=torch.bool),
    }


KL = 0.8 * math.log(0.8 / 0.5) + 0.2 * math.log(0.2 / 0.5)
RKL = 0.5 * math.log(0.5 / 0.8) + 0.5 * math.log(0.5 / 0.2)


def half_js(p, w):
    m = (w * 0.8 + (1 - w) * 0.5, w * 0.2 + (1 - w) * 0.5)
    return 0.5 * (p[0] * math.log(p[0] / m[0]) + p[1] * math.log(p[1] / m[1]))


# After token 0 the ratio is .8/.5 = 1.6: the posterior is 1.6/2.6, min(1, u) is 1/1.6, min(1, r) is 1.
KNOWN = [
    ("mle", {}, "data", [math.log(2), math.log(2)]),
    ("kl", {}, "teacher", [KL, KL]),
    ("rkl", {}, "student", [RKL, RKL]),
    ("engine", {}, "student", [RKL + math.log(2)] * 2),
    ("tvd", {}, "teacher", [0.15, 0.15]),
    ("tvd", {"bound": "overlap"}, "teacher", [0.15, 0.15 / 1.6]),
    ("tvd", {"bound": "overlap"}, "student", [0.15, 0.15]),
    ("tvd", {"bound": "product"}, "teacher", [0.15, 0.15 / 1.6]),
    ("js", {}, "teacher", [half_js((0.8, 0.2), 0.5)] * 2),
    ("js", {"middle": "sequence"}, "teacher", [half_js((0.8, 0.2), 0.5), half_js((0.8, 0.2), 1.6 / 2.6)]),
    ("js", {"middle": "sequence"}, "student", [half_js((0.5, 0.5), 0.5), half_js((0.5, 0.5), 1.6 / 2.6)]),
    ("f_divergence", {"generator": "kl", "estimator": "teacher"}, "teacher", [KL, KL]),
    ("f_divergence", {"generator": "kl"}, "student", [KL, 1.6 * KL]),
    ("f_divergence", {"generator": "reverse_kl"}, "student", [RKL, RKL]),
]


@pytest.mark.parametrize(("name", "options", "source", "truth"), KNOWN)
def test_known_values(name, options, source, truth):
    steps = step_losses(objective(name, **options), source, **known_batch())
    assert steps.squeeze(0).tolist() == pytest.approx(truth, rel=1e-6)


def test_reductions_count_sequences_or_tokens():
    values = {**batch(), "student_logits": torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))}
    values["mask"][1, 1:] = False
    steps = step_losses(objective("kl"), "teacher", **values)
    by_sequence = sequence_loss(objective("kl"), "teacher", **values)
    by_token = sequence_loss(objective("kl"), "teacher", **values, reduction="token")
    assert float(by_sequence.loss) == pytest.approx(float(steps.sum()) / 2)
    assert float(by_token.loss) == pytest.approx(float(steps.sum()) / 4)
    assert (by_token.metrics["tokens"], by_token.metrics["sequences"]) == (4, 2)


def test_what_comes_back_beside_the_loss_is_detached_and_true():
    values = {
        **batch(),
        "student_logits": torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(1)).requires_grad_(),
    }
    output = sequence_loss(objective("js", middle="sequence"), "student", **values)
    log_q = values["student_logits"].detach().log_softmax(-1)
    assert output.loss.requires_grad
    assert not any(
        x.requires_grad
        for x in (output.steps, output.token_log_probs, *output.terms.values(), *output.metrics.values())
    )
    assert torch.allclose(output.token_log_probs, log_q[..., 0])
    assert float(output.metrics["student_entropy"]) == pytest.approx(
        float(-(log_q.exp() * log_q).sum(-1).mean()), rel=1e-5
    )
    assert float(output.terms["student/reverse_kl_to_middle"]) == pytest.approx(float(output.loss), rel=1e-5)


def test_no_gradient_reaches_the_teacher():
    values = batch(
        teacher_logits=torch.randn(2, 3, 4).requires_grad_(), student_logits=torch.randn(2, 3, 4).requires_grad_()
    )
    for source in ("teacher", "student"):
        loss = sequence_loss(objective("js", middle="sequence", gradient="full"), source, **values).loss
        assert torch.autograd.grad(loss, values["teacher_logits"], allow_unused=True)[0] is None


def test_linear_logits_scale_then_bias_then_cap():
    head = LinearLogits(torch.ones(1, 1, 2), torch.tensor([[1.0, 2.0]]), torch.tensor([1.0]), scale=0.5, softcap=2.0)
    assert float(head.dense()) == pytest.approx(2 * math.tanh((0.5 * 3 + 1) / 2))


def test_a_masked_token_inside_a_row_adds_nothing_to_the_ratio():
    """Catches a forced first token that counts: behind it the exact middle is still the prior."""
    values = known_batch()
    values["mask"] = torch.tensor([[False, True]])
    steps = step_losses(objective("js", middle="sequence"), "teacher", **values)
    assert steps.squeeze(0).tolist() == pytest.approx([0.0, half_js((0.8, 0.2), 0.5)])


def test_the_return_of_a_step_starts_at_the_next_one():
    """Catches a return that includes its own step: unbiased, and noisier for nothing."""
    steps = torch.tensor([[1.0, 2.0, 4.0]])
    assert returns_to_go(steps, None).tolist() == [[6.0, 4.0, 0.0]]
    assert returns_to_go(steps, torch.tensor([[0, 0, 1]])).tolist() == [[2.0, 0.0, 0.0]]


def test_the_step_wise_gradient_holds_the_prefix_constant():
    """Catches a ratio that is live: the first step's gradient must not know the second step."""
    values = known_batch()
    student = values["student_logits"].clone().requires_grad_()
    steps = step_losses(objective("tvd", bound="overlap"), "teacher", **{**values, "student_logits": student})
    (grad,) = torch.autograd.grad(steps[0, 1], student)
    assert (grad[0, 0] == 0).all() and (grad[0, 1] != 0).any()


@pytest.mark.parametrize("name", ["rkl", "engine", "js", "tvd"])
def test_the_full_gradient_leaves_the_loss_what_it_is(name):
    """Catches a score-function part with a value of its own: the reported loss must stay the divergence."""
    values = batch(student_logits=torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(2)))
    stepwise, full = (
        sequence_loss(objective(name, gradient=mode), "student", **values).loss for mode in ("stepwise", "full")
    )
    assert torch.allclose(stepwise, full)
