"""Students too small for their teacher, and gradient descent; the models that the derivations run on."""

from itertools import pairwise

import numpy as np
import pytest
from fdistill_reference import TabularModel, gradient, sequence_divergence
from fdistill_reference.baselines import mode
from fdistill_reference.examples import echo, humps, laugh, laughter, longer_laughter, sequence_table, show
from fdistill_reference.fitting import bells, best_student, descend, forgetful
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import seeded_pairs

from .numerics import costly

STARTS = [np.array([x]) for x in (-3.0, 0.1, 3.0)]
UNITS = st.floats(0.05, 0.95)


@costly
@given(first=UNITS, again=st.tuples(UNITS, UNITS), length=st.integers(1, 4))
def test_the_best_student_without_memory_under_kl_copies_the_teacher_s_token_frequencies(first, again, length):
    """Catches a search that stops too early, and KL the wrong way round: its optimum matches expected counts."""
    p = echo(length, first, again)
    counts = [y.count(0) / length for y in p.sequences()]
    frequency = float(np.exp(p.sequence_log_probs()) @ counts)
    found = best_student("kl", p, forgetful(length), STARTS)
    assert abs(np.exp(found.model.log_probs[0, 0]) - frequency) < 1e-4


@costly
@given(first=UNITS, again=st.tuples(UNITS, UNITS), other=st.floats(-4, 4))
@pytest.mark.parametrize("name", ["kl", "rkl", "js", "tvd"])
def test_no_other_student_without_memory_is_nearer(name, first, again, other):
    """Catches a maximum, or a valley taken for the lowest one."""
    p, family = echo(3, first, again), forgetful(3)
    found = best_student(name, p, family, STARTS)
    assert found.value <= sequence_divergence(name, p, family(np.array([other]))) + 1e-7
    assert np.isclose(found.value, sequence_divergence(name, p, found.model))


@pytest.mark.parametrize("name", ["kl", "rkl", "js", "tvd"])
def test_a_family_that_holds_the_teacher_finds_it(name):
    """Catches a family that moves something else than its parameters."""
    teacher = humps(15, (6.3,), (1.0,), 2.0)
    found = best_student(name, teacher, bells(15), [np.array([9.0, 0.0])])
    assert found.value < 1e-6
    assert np.allclose(found.parameters, [6.3, np.log(2.0)], atol=1e-3)


def test_reverse_kl_sits_on_one_hump_and_kl_lies_over_both():
    """Catches mode averaging and mode collapse taken for each other (Wen et al., 2023, Figure 1)."""
    teacher = humps(41, (12.0, 28.0), (0.6, 0.4), 2.7)
    starts = [np.array([12.0, 1.0]), np.array([28.0, 1.0]), np.array([20.0, 2.0])]
    centre = {name: best_student(name, teacher, bells(41), starts).parameters[0] for name in ("kl", "rkl")}
    assert abs(centre["rkl"] - 12.0) < 0.1
    assert abs(centre["kl"] - (0.6 * 12.0 + 0.4 * 28.0)) < 0.5


@costly
@given(models=seeded_pairs())
@pytest.mark.parametrize("name", ["kl", "rkl", "js"])
def test_small_steps_downhill_never_go_up(models, name):
    """Catches a step uphill, and one that is taken from the wrong place."""
    p, q = models
    options = {"middle": "sequence"} if name == "js" else {}
    values = [sequence_divergence(name, p, m) for m in descend(name, p, q, 0.01, 5, mode="full", **options)]
    assert len(values) == 6
    assert all(after <= before + 1e-12 for before, after in pairwise(values))


@given(start=st.floats(-2, 2), rate=st.floats(0.1, 1))
def test_a_tied_student_moves_by_the_derivative_in_what_is_shared(start, rate):
    """Catches a row that moves alone: the shared logits feel every prefix."""
    family, p = forgetful(3), echo(3, 0.6, (0.9, 0.8))
    q = family(np.array([start]))
    moved = descend("rkl", p, q, rate, 1, mode="full", tied=True)[1]
    assert (moved.logits == moved.logits[0]).all()
    h = 1e-4
    low, high = (sequence_divergence("rkl", p, family(np.array([start + d]))) for d in (-h, h))
    assert abs((moved.logits[0, 0] - start) + rate * (high - low) / (2 * h)) < 1e-5
    assert np.allclose(gradient("rkl", p, q).sum(0)[0], (high - low) / (2 * h), atol=1e-5)


def test_the_worked_example_is_the_one_that_the_pages_describe():
    """Catches a change of the example behind the reader's back."""
    table = sequence_table(*laughter())
    assert [row[0] for row in table] == ["ha ha", "ha ho", "ho ha", "ho ho"]
    assert np.allclose([row[1:] for row in table], [(0.54, 0.28), (0.06, 0.12), (0.08, 0.18), (0.32, 0.42)])
    for short, long in zip(laughter(), longer_laughter(), strict=True):
        assert np.allclose(long.truncated(2).log_probs, short.log_probs)


def test_an_echo_repeats_its_last_token():
    """Catches `again` put on the other token."""
    p = echo(3, 0.6, (0.9, 0.75))
    assert np.allclose(np.exp(p.next_log_probs((1, 0))), [0.9, 0.1])
    assert np.allclose(np.exp(p.next_log_probs((0, 1))), [0.25, 0.75])
    assert laugh(mode(p)) == "ha ha ha"
    assert np.isclose(p.log_prob((0, 0, 0)), np.log(0.6 * 0.9 * 0.9))


def test_a_mixture_of_humps_is_a_distribution_with_the_given_shares():
    """Catches humps weighed by height in place of mass."""
    p = np.exp(humps(60, (15.0, 45.0), (0.7, 0.3), 2.0).log_probs[0])
    assert np.isclose(p.sum(), 1) and np.isclose(p[:30].sum(), 0.7)


def test_a_student_without_memory_has_one_row():
    """Catches a family whose rows differ, and an EOS that is lost."""
    q = forgetful(3, eos=2)(np.array([0.5, -1.0]))
    assert isinstance(q, TabularModel) and q.eos == 2 and (q.logits == [0.5, -1.0, 0.0]).all()


def test_numbers_are_shown_rounded(capsys):
    """Catches -0.0000 on a page, digits that are cut and not rounded, and numbers shown as objects of a library."""
    show("text", 0.12345, np.float64(-1e-9), np.array([[0.66666, 1.0], [np.inf, -2.0]]), 7, True)
    show(0.5, digits=1)
    assert capsys.readouterr().out == "text  0.1235  0.0000  [[0.6667 1.0000] [inf -2.0000]]  7  True\n0.5\n"
