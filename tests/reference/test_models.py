"""The models that everything else stands on."""

import numpy as np
import pytest
from fdistill_reference import TabularModel
from fdistill_reference.models import check_pair
from fdistill_reference.tree import path_sum, path_sum_adjoint, prefix_tree
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import tabular_model_pairs
from tests.tolerances import close


@given(models=tabular_model_pairs(zeros=True))
def test_probabilities_of_complete_sequences_sum_to_one(models):
    """Catches a sequence that is missing, counted twice, or goes on behind its EOS."""
    p, _ = models
    assert close(np.exp(p.sequence_log_probs()).sum(), 1.0)


@given(models=tabular_model_pairs())
def test_log_prob_is_the_sum_along_the_rows_of_the_sequence(models):
    """Catches rows that are shifted by one token against the prefixes they belong to."""
    p, _ = models
    for y, log_prob in zip(p.sequences(), p.sequence_log_probs(), strict=True):
        by_hand = sum(p.next_log_probs(y[:t])[y[t]] for t in range(len(y)))
        assert close(p.log_prob(y), by_hand) and close(p.log_prob(y), log_prob)


@given(models=tabular_model_pairs())
def test_a_batch_holds_every_sequence_and_the_rows_of_its_prefixes(models):
    """Catches padding that counts, and rows that do not follow the tokens."""
    p, _ = models
    tokens, mask, rows = p.batch()
    for i, y in enumerate(p.sequences()):
        assert tuple(tokens[i, mask[i]]) == y
        assert [p.prefixes()[row] for row in rows[i, mask[i]]] == [y[:t] for t in range(len(y))]


@given(models=tabular_model_pairs(zeros=True))
def test_a_model_prints_as_the_code_that_makes_it(models):
    """Catches failures that cannot be pasted: digits dropped, -inf printed as a bare name."""
    p, _ = models
    again = eval(repr(p), {"TabularModel": TabularModel})
    assert np.array_equal(again.logits, p.logits) and again.length == p.length and again.eos == p.eos


@given(models=tabular_model_pairs(min_length=2))
def test_a_truncated_model_gives_prefixes_the_same_probability(models):
    """Catches a truncation that renormalises or reorders rows."""
    p, _ = models
    short = p.truncated(p.length - 1)
    for s in short.prefixes():
        assert close(short.prefix_log_probs()[short.row(s)], p.prefix_log_probs()[p.row(s)])


@given(models=tabular_model_pairs(), decay=st.sampled_from((0.0, 0.5, 1.0)), seed=st.integers(0, 99))
def test_path_sums_and_their_adjoint_are_transposes(models, decay, seed):
    """Catches a derivative that flows to the wrong edge, or forgets at another rate than the value."""
    tree, rng = models[0].tree, np.random.default_rng(seed)
    edges, weights = rng.standard_normal((tree.size, tree.vocab)), rng.standard_normal(tree.size)
    forward, backward = weights @ path_sum(tree, edges, decay), (path_sum_adjoint(tree, weights, decay) * edges).sum()
    assert close(forward, backward)


def test_known_values():
    """Catches a change of layout: rows breadth-first, then lexicographic, EOS never inside a prefix."""
    p = TabularModel.from_probabilities(
        {(): [0.5, 0.25, 0.25], (0,): [1, 0, 0], (2,): [0.1, 0.2, 0.7]}, length=2, eos=1
    )
    assert p.prefixes() == ((), (0,), (2,))
    assert p.sequences() == ((1,), (0, 0), (0, 1), (0, 2), (2, 0), (2, 1), (2, 2))
    assert close(p.log_prob((2, 1)), np.log(0.05)) and p.log_prob((0, 2)) == -np.inf
    assert prefix_tree(3, 3, None).size == 13 and prefix_tree(3, 3, 0).size == 7


def test_models_are_immutable():
    """Catches a test that changes the model of the next one."""
    p = TabularModel([[0.0, 1.0]], length=1)
    with pytest.raises(ValueError, match="read-only"):
        p.logits[0, 0] = 1.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TabularModel([[0.0, 0.0]], 2), "make 3 prefixes; the table has 1"),
        (lambda: TabularModel([[0.0, np.nan]], 1), "never NaN"),
        (lambda: TabularModel([[-np.inf, -np.inf]], 1), "every token probability zero"),
        (lambda: TabularModel([[0.0, 0.0]], 1, eos=2), "not a token"),
        (lambda: TabularModel([0.0, 0.0], 1), "two axes"),
        (lambda: TabularModel({(): [0.0, 0.0]}, 2), "missing"),
        (lambda: TabularModel.from_probabilities([[0.5, -0.5]], 1), "non-negative"),
        (lambda: TabularModel([[0.0, 0.0]], 1).log_prob(()), "no steps"),
        (lambda: TabularModel(np.zeros((3, 2)), 2).log_prob((0,)), "not complete"),
        (lambda: TabularModel([[0.0, 0.0]], 1).row((0,)), "not an unfinished prefix"),
        (lambda: TabularModel(np.zeros((0, 0)), 0), "at least 1"),
        (lambda: check_pair(TabularModel([[0.0, 0.0]], 1), TabularModel([[0.0, 0.0]], 1, eos=0)), "do not share"),
    ],
)
def test_what_is_no_model_is_refused(make, message):
    """Catches a reference that computes something from nonsense."""
    with pytest.raises(ValueError, match=message):
        make()
