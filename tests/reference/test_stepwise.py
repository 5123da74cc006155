"""Objectives step by step: every decomposition, and which options exist."""

from itertools import pairwise

import numpy as np
import pytest
from fdistill_reference import OBJECTIVES, TabularModel, sequence_divergence, stepwise_divergence, stepwise_terms
from fdistill_reference.objectives import objective_rows, scaled
from fdistill_reference.prefixes import Prefixes, clipped
from fdistill_reference.stepwise import make_scene, rows, source_probs
from fdistill_reference.words import times
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import (
    cases,
    generator_options,
    tabular_model_pairs,
    tabular_model_triples,
    teacher_weights,
    tempers,
)
from tests.tolerances import IDENTITY, at_most, close

from .numerics import costly

EXACT = [case for case in cases() if case.exact and case.name not in ("mle", "kd")]


@given(models=tabular_model_pairs(zeros=True))
@pytest.mark.parametrize("case", EXACT, ids=str)
def test_exact_objectives_decompose_exactly(models, case):
    """Catches a wrong prefix weight, ratio, source or middle anywhere in the table: each exact row equals Σ Q f(P/Q)."""
    p, q = models
    whole = case.sequence_value(p, q)
    assert close(stepwise_divergence(case.name, p, q, **case.options), whole, 1e-10)


@given(models=tabular_model_pairs(zeros=True))
def test_kl_and_reverse_kl_decompose_over_their_own_prefixes(models):
    """Catches prefixes from the wrong model (Wen et al., 2023, Eqns. 5-7 and 13-22)."""
    p, q = models
    assert close(stepwise_divergence("kl", p, q), sequence_divergence("kl", p, q))
    assert close(stepwise_divergence("rkl", p, q), sequence_divergence("rkl", p, q))


@given(
    models=tabular_model_pairs(zeros=True),
    options=generator_options(),
    estimator=st.sampled_from(("student", "teacher")),
)
def test_every_f_divergence_has_an_exact_stepwise_form(models, options, estimator):
    """Catches a generator that is shifted by u in place of r, and zeros that lose their charge."""
    p, q = models
    assert close(
        stepwise_divergence("f_divergence", p, q, estimator=estimator, **options),
        sequence_divergence("f_divergence", p, q, **options),
        1e-10,
    )


@given(models=tabular_model_pairs(zeros=True), weight=teacher_weights())
def test_exact_js_does_not_depend_on_the_estimator(models, weight):
    """Catches π and 1-π, or w and 1-w, exchanged in one estimator only."""
    p, q = models
    whole = sequence_divergence("js", p, q, teacher_weight=weight)
    for estimator in ("halves", "balance", "teacher", "student"):
        value = stepwise_divergence("js", p, q, teacher_weight=weight, middle="sequence", estimator=estimator)
        assert close(value, whole), estimator


@given(models=tabular_model_pairs(zeros=True), weight=teacher_weights(), bound=st.sampled_from(("overlap", "product")))
def test_each_half_of_overlap_and_product_is_the_whole_bound(models, weight, bound):
    """Catches min(1, r) where min(1, u) belongs, and a share π left in a single half."""
    p, q = models
    values = [
        stepwise_divergence("tvd", p, q, teacher_weight=weight, bound=bound, estimator=estimator)
        for estimator in ("halves", "teacher", "student")
    ]
    if bound == "overlap":
        values.append(stepwise_divergence("tvd", p, q, teacher_weight=weight, bound=bound, estimator="balance"))
    assert all(close(value, values[0]) for value in values)


@costly
@given(models=tabular_model_pairs(zeros=True))
def test_all_terms_of_a_divergence_are_at_least_zero(models):
    """Catches a step that rewards the student: true divergences are ≥ 0 prefix by prefix, in every source."""
    p, q = models
    for case in cases():
        if case.name not in ("seqkd", "engine", "mle"):
            for source, losses in stepwise_terms(case.name, p, q, **case.options).items():
                contributions = times(source_probs(make_scene(p, q), source), losses)
                scale = 1 + abs(contributions[np.isfinite(contributions)]).max(initial=0.0)
                assert (contributions >= -IDENTITY * scale).all(), str(case)


@costly
@given(models=tabular_model_pairs())
def test_equal_models_have_value_zero(models):
    """Catches noise at p = q, and the teacher's entropy left in a divergence."""
    p, _ = models
    for case in cases():
        if case.name not in ("seqkd", "engine", "mle"):
            assert stepwise_divergence(case.name, p, p, **case.options) == 0, str(case)


@given(models=tabular_model_triples(max_length=2))
def test_word_level_objectives_follow_the_data_s_prefixes(models):
    """Catches kd (Eqn. 1) on teacher prefixes, or mle with the teacher's labels."""
    p, q, data = models
    written = np.exp(data.prefix_log_probs())
    by_hand = sum(w * (np.exp(a) * (a - b)).sum() for w, a, b in zip(written, p.log_probs, q.log_probs, strict=True))
    assert close(stepwise_divergence("kd", p, q, data=data), by_hand)
    log_likelihood = np.exp(data.sequence_log_probs()) @ q.sequence_log_probs()
    assert close(stepwise_divergence("mle", p, q, data=data), -log_likelihood)
    assert close(stepwise_divergence("kd", p, q), stepwise_divergence("kl", p, q))


@given(models=tabular_model_pairs(zeros=True), weight=teacher_weights(), temper=tempers())
def test_named_options_are_the_ends_of_their_scale(models, weight, temper):
    """Catches τ counted from the wrong end."""
    p, q = models
    for name, option, ends in (("js", "middle", ("token", "sequence")), ("tvd", "bound", ("paper", "overlap"))):
        for end, number in zip(ends, (0.0, 1.0), strict=True):
            values = [stepwise_divergence(name, p, q, teacher_weight=weight, **{option: x}) for x in (end, number)]
            assert close(*values)
    assert close(
        stepwise_divergence("js", p, q, middle="sequence", memory=1.0),
        stepwise_divergence("js", p, q, middle=1.0, clip=1e9),
    )


@given(models=tabular_model_pairs(zeros=True), memory=tempers(), weight=teacher_weights())
def test_prefixes_know_their_probabilities(models, memory, weight):
    """Catches a ratio that contains the current token, NaN at an unreachable prefix, and a memory that forgets the last token."""
    p, q = models
    prefixes = Prefixes(p, q)
    assert not np.isnan(prefixes.log_ratio(memory)).any()
    assert np.allclose(prefixes.overlap, np.minimum(prefixes.teacher, prefixes.student))
    for i, s in enumerate(p.prefixes()):
        below = [(p.log_probs[p.row(s[:t]), s[t]], q.log_probs[q.row(s[:t]), s[t]]) for t in range(len(s))]
        if all(np.isfinite(a) and np.isfinite(b) for a, b in below):
            decayed = 0.0
            for a, b in below:
                decayed = memory * decayed + a - b
            assert close(prefixes.log_ratio(memory)[i], decayed)
            assert close(prefixes.log_overlap_teacher()[i], sum(min(0, b - a) for a, b in below))
            assert close(prefixes.log_overlap_student()[i], sum(min(0, a - b) for a, b in below))
        assert close(prefixes.product_overlap[i], np.exp(sum(min(a, b) for a, b in below)))
        assert close(prefixes.middle(weight)[i] * prefixes.weight(weight)[i], weight * prefixes.teacher[i])
    assert list(clipped(np.array([-3.0, 0.5, np.inf]), 1.0)) == [-1.0, 0.5, 1.0]


@costly
@given(models=tabular_model_pairs(zeros=True, eos=True, min_length=2))
def test_nothing_is_counted_behind_the_end(models):
    """Catches a loss at T or behind EOS: a model that surely ends at its limit is as far from another when it may be longer."""
    ended = [_surely_ended(m) for m in models]
    shorter = [m.truncated(m.length - 1) for m in ended]
    for case in cases():
        values = [stepwise_divergence(case.name, *pair, **case.options) for pair in (ended, shorter)]
        assert close(*values, 1e-10), str(case)


def _surely_ended(m: TabularModel) -> TabularModel:
    """The last but one step always writes EOS."""
    logits = m.logits.copy()
    forced = m.tree.depth == m.length - 2
    logits[forced] = -np.inf
    logits[forced, m.eos] = 0.0
    return m.with_logits(logits)


@given(models=tabular_model_pairs(zeros=True, min_length=2), options=generator_options())
def test_divergences_of_prefixes_never_fall_as_sequences_grow(models, options):
    """Catches a later step with a negative contribution."""
    p, q = models
    values = [
        stepwise_divergence("f_divergence", p.truncated(t), q.truncated(t), **options) for t in range(1, p.length + 1)
    ]
    assert all(at_most(a, b, 1e-10) for a, b in pairwise(values))


def test_a_row_times_a_weight_follows_the_product_rule():
    """Catches a weight whose own derivative is lost."""
    p, q = (TabularModel.random(2, 2, np.random.default_rng(i)) for i in (0, 1))
    row = rows("kl", p, q)[0]
    twice = scaled(np.full(3, 2.0), row, by_ratio=np.full(3, 5.0))
    assert np.allclose(twice.losses, 2 * row.losses) and np.allclose(twice.ratio_slopes, 5 * row.losses)
    scene = make_scene(p, q)
    assert np.allclose(source_probs(scene, "teacher"), source_probs(scene, "data"))
    assert len(objective_rows("tvd", scene)) == 2 and set(OBJECTIVES) >= {"kl", "js"}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("jsd", {}, "unknown objective 'jsd'"),
        ("kl", {"teacher_weight": 0.5}, "teacher_weight"),
        ("js", {"teacher_weight": 1.0}, r"rkl \(at 1\)"),
        ("js", {"middle": "paper"}, "'token', 'sequence' or a number"),
        ("js", {"middle": 1.5}, "number in"),
        ("js", {"memory": -0.1}, "memory"),
        ("js", {"estimator": "balance"}, "goes with halves"),
        ("js", {"middle": 0.5, "estimator": "teacher"}, "goes with halves"),
        ("js", {"middle": "sequence", "memory": 0.5, "estimator": "student"}, "goes with halves"),
        ("js", {"middle": "sequence", "estimator": "both"}, "no estimator 'both'"),
        ("tvd", {"bound": "sequence"}, "'paper', 'overlap'"),
        ("tvd", {"estimator": "balance"}, 'needs bound="overlap"'),
        ("tvd", {"bound": "product", "estimator": "balance"}, "halves, teacher and student"),
        ("tvd", {"estimator": "both"}, "no estimator 'both'"),
        ("f_divergence", {}, "generator"),
        ("f_divergence", {"generator": "kl", "estimator": "halves"}, "no estimator 'halves'"),
    ],
)
def test_other_combinations_are_refused_with_the_reason(name, options, message):
    """Catches an option that is silently ignored."""
    p = TabularModel([[0.0, 1.0]], 1)
    with pytest.raises(ValueError, match=message):
        stepwise_divergence(name, p, p, **options)
