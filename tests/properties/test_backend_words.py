"""Word-level divergences of the backend against those of the reference, and against what must hold of any of them."""

import inspect
import math

import numpy as np
import pytest
import torch
from fdistill_reference import GENERATORS as REFERENCE_GENERATORS
from fdistill_reference import words
from hypothesis import given
from hypothesis import strategies as st

from fdistill import DIVERGENCES, GENERATORS
from fdistill.generators import generator

SHARED = [name for name in DIVERGENCES if hasattr(words, name)]
PROPER = [name for name, entry in DIVERGENCES.items() if name not in ("nll", "cross_entropy_to_teacher")]


@st.composite
def rows(draw, zeros=True):
    """Two rows of logits of one vocabulary, from nearly uniform to one-hot, with tokens of probability zero among them."""
    vocab = draw(st.integers(2, 6))
    entries = st.floats(-12, 12)
    if zeros:
        entries = st.one_of(entries, st.just(-math.inf))
    pair = []
    for _ in range(2):
        row = draw(st.lists(entries, min_size=vocab, max_size=vocab))
        if all(value == -math.inf for value in row):
            row[0] = 0.0
        pair.append(torch.tensor(row, dtype=torch.float64).log_softmax(-1))
    return pair


def knowledge(name, draw_from):
    wanted = DIVERGENCES[name].row_values
    known = {}
    if "tokens" in wanted:
        known["tokens"] = torch.tensor(0)
    if "log_odds" in wanted:
        known["log_odds"] = torch.tensor(draw_from, dtype=torch.float64)
    return known


@pytest.mark.parametrize("name", SHARED)
@given(pair=rows(), odds=st.floats(-6, 6))
def test_words_are_the_references(name, pair, odds):
    """Catches a wrong formula, direction or handling of zero probabilities."""
    known = knowledge(name, odds)
    found = float(DIVERGENCES[name].function(*pair, **known))
    with np.errstate(all="ignore"):
        truth = float(getattr(words, name)(*(x.numpy() for x in pair), **{k: v.numpy() for k, v in known.items()}))
    assert found == pytest.approx(truth, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", PROPER)
@given(pair=rows(), odds=st.floats(-6, 6))
def test_words_are_never_negative_and_within_their_bound(name, pair, odds):
    """Catches a sign and a missing ½."""
    value = float(DIVERGENCES[name].function(*pair, **knowledge(name, odds)))
    assert value >= -1e-12
    bound = DIVERGENCES[name].upper_bound
    assert bound is None or value <= bound + 1e-12


@pytest.mark.parametrize("name", [name for name, entry in DIVERGENCES.items() if entry.symmetric])
@given(pair=rows())
def test_words_are_symmetric_where_they_say_so(name, pair):
    """Catches a claim in the table that the formula does not keep."""
    p, q = pair
    function = DIVERGENCES[name].function
    assert float(function(p, q)) == pytest.approx(float(function(q, p)), rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("name", [name for name, entry in DIVERGENCES.items() if entry.coarsens])
@given(pair=rows(), odds=st.floats(-6, 6))
def test_merging_two_tokens_never_raises_what_coarsens(name, pair, odds):
    """Catches a divergence registered for top-k teachers that data processing does not hold for."""
    merged = [torch.cat([x[2:], x[:2].logsumexp(-1, keepdim=True)]) for x in pair]
    known = knowledge(name, odds)
    function = DIVERGENCES[name].function
    whole, part = float(function(*pair, **known)), float(function(*merged, **known))
    assert part <= whole + 1e-9 * max(1.0, abs(whole)) or math.isinf(whole)


@pytest.mark.parametrize("name", list(DIVERGENCES))
@given(pair=rows(), odds=st.floats(-6, 6))
def test_gradients_are_finite_where_the_value_is(name, pair, odds):
    """Catches 0 · inf in a backward pass: the forward's guard is not the gradient's."""
    p, q = pair[0], pair[1].clone().requires_grad_()
    value = DIVERGENCES[name].function(p, q.log_softmax(-1), **knowledge(name, odds))
    if torch.isfinite(value):
        (grad,) = torch.autograd.grad(value, q)
        assert torch.isfinite(grad).all()


@pytest.mark.parametrize("name", list(DIVERGENCES))
def test_gradcheck(name):
    """Catches a value whose gradient is another function's."""
    noise = torch.Generator().manual_seed(0)
    p, q = (torch.randn(3, 5, generator=noise, dtype=torch.float64) for _ in range(2))
    known = {k: v.expand(3) if v.dim() == 0 else v for k, v in knowledge(name, 0.7).items()}
    function = DIVERGENCES[name].function
    assert torch.autograd.gradcheck(
        lambda z: function(p.log_softmax(-1), z.log_softmax(-1), **known), q.requires_grad_()
    )


def test_generators_have_the_same_names_and_values():
    """Catches a generator that one side scales or shifts."""
    assert set(GENERATORS) == set(REFERENCE_GENERATORS)
    t = torch.logspace(-4, 4, 33, dtype=torch.float64)
    for name in GENERATORS:
        ours, theirs = generator(name), REFERENCE_GENERATORS[name]
        function = getattr(theirs, "f", None) or theirs.function
        assert torch.allclose(
            ours.function(t), torch.from_numpy(np.asarray(function(t.numpy()))), rtol=1e-10, atol=1e-12
        )
        assert (ours.at_zero, ours.slope_at_infinity) == pytest.approx((theirs.at_zero, theirs.slope_at_infinity))


@pytest.mark.parametrize("name", [n for n, e in DIVERGENCES.items() if e.generator and n in GENERATORS])
@given(pair=rows(zeros=False))
def test_a_generator_makes_its_divergence(name, pair):
    """Catches a generator of another divergence: Σ q f(p/q) against the formula."""
    p, q = pair
    parameters = inspect.signature(DIVERGENCES[name].function).parameters
    options = {"alpha": 0.3} if "alpha" in parameters else {}
    f = generator(name, **options)
    from_f = (q.exp() * f.function((p - q).exp())).sum()
    assert float(from_f) == pytest.approx(float(DIVERGENCES[name].function(p, q, **options)), rel=1e-7, abs=1e-9)
