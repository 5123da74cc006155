"""The verdict on somebody else's loss: the right one passes, and each usual mistake is named."""

import pytest
import torch
from torch.nn.functional import kl_div

from fdistill import CheckError
from fdistill.checks.cases import CASES as EVERY_OBJECTIVE
from fdistill.verify import enumeration_table, judge, run_verify


def log_probs(student_logits, teacher_logits):
    return student_logits.log_softmax(-1), teacher_logits.log_softmax(-1).detach()


def good_kl(student_logits, teacher_logits, mask):
    log_q, log_p = log_probs(student_logits, teacher_logits)
    return ((log_p.exp() * (log_p - log_q)).sum(-1) * mask).sum() / mask.sum()


def reversed_kl(student_logits, teacher_logits):
    log_q, log_p = log_probs(student_logits, teacher_logits)
    return (log_q.exp() * (log_q - log_p)).sum(-1).mean()


def half_kl(student_logits, teacher_logits):
    return 0.5 * good_kl(student_logits, teacher_logits, torch.ones(student_logits.shape[:2]))


def mean_over_everything(student_logits, teacher_logits):
    log_q, log_p = log_probs(student_logits, teacher_logits)
    return kl_div(log_q, log_p, log_target=True)


def cross_entropy(student_logits, teacher_logits, labels):
    log_q, log_p = log_probs(student_logits, teacher_logits)
    return -((log_p.exp() * log_q).sum(-1)[labels != -100]).mean()


def js_weighing(student_logits, teacher_logits, beta, on_student=False):
    log_q, log_p = log_probs(student_logits, teacher_logits)
    pi = 1 - beta if on_student else beta
    m = (pi * log_p.exp() + (1 - pi) * log_q.exp()).log()
    return (pi * log_p.exp() * (log_p - m) + (1 - pi) * log_q.exp() * (log_q - m)).sum(-1).mean()


def js_on_student(student_logits, teacher_logits, beta):
    return js_weighing(student_logits, teacher_logits, beta, on_student=True)


def shifted_rkl(student_logits, teacher_logits, labels):
    return reversed_kl(student_logits[:, :-1], teacher_logits[:, :-1])


def euclidean(student_logits, teacher_logits):
    return (student_logits - teacher_logits).square().mean()


def lying_gradient(student_logits, teacher_logits):
    value = reversed_kl(student_logits, teacher_logits)
    return value.detach() + 0.0 * student_logits.sum()


CASES = [
    (good_kl, "kl", {}, True, "kl, KL(teacher ‖ student)", "token mean"),
    (reversed_kl, "rkl", {}, True, "reverse_kl, KL(student ‖ teacher)", ""),
    (reversed_kl, "kl", {}, False, "reverse_kl, KL(student ‖ teacher)", ""),
    (half_kl, "kl", {}, False, "half of kl", ""),
    (mean_over_everything, "kl", {}, True, "kl, KL(teacher ‖ student)", "also over the vocabulary"),
    (cross_entropy, "kl", {}, False, "without the teacher's entropy", "token mean"),
    (js_weighing, "js", {"beta": 0.3}, True, "beta weighs the teacher", ""),
    (js_on_student, "js", {"beta": 0.3}, True, "beta weighs the student", ""),
    (shifted_rkl, "rkl", {}, True, "labels shifted by one inside", ""),
    (euclidean, "kl", {}, False, "none of the registered divergences", ""),
]


@pytest.mark.parametrize(("loss", "expected", "options", "passed", "computes", "reduction"), CASES)
def test_a_loss_is_what_it_computes(loss, expected, options, passed, computes, reduction):
    verdict = judge(loss, expected, options)
    assert verdict.passed is passed
    assert computes in verdict.computes
    assert reduction in verdict.reduction


def notes_of(loss, expected):
    return {name: (ok, text) for name, ok, text in judge(loss, expected).notes}


def test_notes_warn_and_do_not_decide():
    assert notes_of(good_kl, "kl")["padding"][0]
    assert not notes_of(reversed_kl, "rkl")["padding"][0]
    assert not notes_of(lying_gradient, "rkl")["gradient"][0]
    assert judge(lying_gradient, "rkl").passed
    assert notes_of(good_kl, "kl")["gradient"] == (True, "the divergence's own")
    assert not notes_of(shifted_rkl, "rkl")["label shift"][0]


@pytest.mark.parametrize(
    ("loss", "expected", "words"),
    [
        ("tests.unit.test_verify", "kl", "package.module:function"),
        ("tests.unit.nothing:f", "kl", "cannot import"),
        ("tests.unit.test_verify:god_kl", "kl", "Did you mean 'good_kl'?"),
        (good_kl, "kll", "Did you mean 'kl'?"),
        (lambda x: x, "kl", "must take student_logits and teacher_logits"),
        (lambda student_logits, teacher_logits: 1.0, "kl", "a loss returns a tensor"),
        (lambda student_logits, teacher_logits: student_logits @ teacher_logits, "kl", "failed on a batch"),
    ],
)
def test_what_cannot_be_judged_is_refused_in_one_line(loss, expected, words):
    with pytest.raises(CheckError) as refusal:
        judge(loss, expected)
    assert words in str(refusal.value)


def test_the_enumeration_table_has_a_row_for_every_case():
    rows = list(enumeration_table(pairs=1))
    assert [row.label for row in rows] == [case.label for case in EVERY_OBJECTIVE]
    assert max(max(row.value, row.stepwise, row.full) for row in rows) <= 1e-9


def test_a_dtype_or_a_device_that_is_not_there_is_refused():
    with pytest.raises(CheckError, match="Did you mean 'float32'"):
        run_verify(dtype="float31")
    with pytest.raises(CheckError, match="cannot be used here"):
        run_verify(device="cuda:99")
