"""The closed-form slopes of the chunked execution: the derivative of their eager twins, in every regime, and really used."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fdistill.divergences import DIVERGENCES
from fdistill.loss import slopes
from fdistill.loss.slopes import SLOPES, Chunk, Distribution, apply_slope, autograd_slope
from tests.tolerances import IDENTITY

NAMES = sorted(DIVERGENCES)


def chunk_of(teacher_logits, student_logits):
    def junk():
        return torch.full_like(teacher_logits, math.nan)

    p, q = Distribution(teacher_logits, junk(), junk()), Distribution(student_logits, junk(), junk())
    return Chunk(p, q, (junk(), junk()))


def eager(name, teacher_logits, student_logits, known):
    """Value and slope of the eager twin by autograd, on plain log-probabilities."""
    log_p, log_q = teacher_logits.log_softmax(-1), student_logits.log_softmax(-1)
    function = DIVERGENCES[name].function
    return autograd_slope(lambda x: function(log_p, x, **known), log_q)


def knowledge(name, rows, generator):
    known = {"tokens": torch.randint(0, 7, (rows,), generator=generator)}
    known["log_odds"] = 6 * torch.randn(rows, generator=generator, dtype=torch.float64)
    return {key: known[key] for key in DIVERGENCES[name].row_values}


def logit_gradient(found, chunk):
    """What the slope says of the logits' gradient: s - q Σ s."""
    q = chunk.q.probs
    factor = torch.as_tensor(found.factor, dtype=q.dtype).expand(len(found.value)).unsqueeze(-1)
    return factor * (found.slope - q * found.total.unsqueeze(-1))


def models(seed, spread, distance):
    noise = torch.Generator().manual_seed(seed)
    teacher = spread * torch.randn(5, 7, generator=noise, dtype=torch.float64)
    return teacher, teacher + distance * torch.randn(5, 7, generator=noise, dtype=torch.float64), noise


def test_every_registered_divergence_has_a_closed_form():
    """Catches a divergence that silently trains at the speed of autograd."""
    assert {DIVERGENCES[name].function for name in NAMES} == set(SLOPES)


@pytest.mark.parametrize("name", NAMES)
@given(
    seed=st.integers(0, 2**32 - 1),
    spread=st.sampled_from([0.0, 0.3, 3.0, 20.0]),
    distance=st.sampled_from([0.0, 1e-6, 0.1, 3.0]),
)
def test_a_slope_is_the_derivative_of_its_eager_twin(name, seed, spread, distance):
    """Catches a wrong sign, a lost factor, a swapped model and a term that is no multiple of q dropped as if it were one."""
    teacher, student, noise = models(seed, spread, distance)
    known = knowledge(name, 5, noise)
    chunk = chunk_of(teacher, student)
    function = DIVERGENCES[name].function
    truth = eager(name, teacher, student, known)
    found = SLOPES[function](chunk, **known)
    scale = max(1.0, float(truth.value.abs().max()), float(truth.slope.abs().max()))
    assert (found.value - truth.value).abs().max() <= IDENTITY * scale
    assert (logit_gradient(found, chunk) - logit_gradient(truth, chunk)).abs().max() <= IDENTITY * scale


@pytest.mark.parametrize("odds", [-25.0, -12.0, 12.0, 25.0])
def test_js_keeps_its_digits_where_the_middle_leans(odds):
    """Catches rounding that an estimator which divides by the middle's weight would blow up: the error is relative."""
    teacher, student, _ = models(3, 3.0, 1.0)
    known = {"log_odds": torch.full((5,), odds, dtype=torch.float64)}
    truth = eager("js", teacher, student, known)
    found = SLOPES[DIVERGENCES["js"].function](chunk_of(teacher, student), **known)
    assert torch.allclose(found.value, truth.value, rtol=1e-10, atol=0)


@pytest.mark.parametrize("odds", [-40.0, -20.0, 17.0, 20.0, 40.0])
def test_js_stays_finite_where_the_middle_leans_in_float32(odds):
    """Catches log 0 from 1 - 1: the weight of the other model is 1 as rounded, and yet not 1."""
    noise = torch.Generator().manual_seed(0)
    teacher, student = (3 * torch.randn(64, 4096, generator=noise) for _ in range(2))
    known = {"log_odds": torch.full((64,), odds)}
    found = SLOPES[DIVERGENCES["js"].function](chunk_of(teacher, student), **known)
    doubled = {"log_odds": known["log_odds"].double()}
    truth = eager("js", teacher.double(), student.double(), doubled)
    assert found.value.isfinite().all()
    assert torch.allclose(found.value.double(), truth.value, rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_zero_probabilities_are_left_to_the_eager_twin(name):
    """Catches 0 · inf: where a closed form finds no number, the value and slope are autograd's."""
    teacher, student, noise = models(3, 2.0, 1.0)
    teacher[0, 2] = student[0, 2] = teacher[1, 4] = student[2, 5] = -math.inf
    known = knowledge(name, 5, noise)
    chunk = chunk_of(teacher, student)
    function = DIVERGENCES[name].function
    truth = eager(name, teacher, student, known)
    found = apply_slope(function, chunk, known)
    assert torch.allclose(found.value, truth.value, rtol=1e-12)
    finite = truth.value.isfinite()
    ours, theirs = logit_gradient(found, chunk), logit_gradient(truth, chunk)
    assert torch.allclose(ours[finite], theirs[finite], rtol=1e-10, atol=1e-12)


def test_the_fast_path_is_taken_where_values_are_finite(monkeypatch):
    """Catches a closed form that is registered and never asked."""

    def refuse(*_):
        raise AssertionError("autograd was asked")

    monkeypatch.setattr(slopes, "autograd_slope", refuse)
    teacher, student, noise = models(5, 3.0, 1.0)
    for name in NAMES:
        apply_slope(DIVERGENCES[name].function, chunk_of(teacher, student), knowledge(name, 5, noise))
