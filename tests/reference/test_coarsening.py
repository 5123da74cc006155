"""Top-k teachers: what merging tokens keeps, loses, and may not be used for."""

import numpy as np
import pytest
from fdistill_reference import (
    TabularModel,
    coarsening,
    counterexamples,
    gradient,
    sequence_divergence,
    stepwise_divergence,
    stepwise_terms,
    words,
)
from fdistill_reference.sequence import sequence_generator
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import cases, next_token_pairs, seeded_pairs, tabular_model_pairs, teacher_weights
from tests.tolerances import IDENTITY, at_most, close

from .numerics import costly, is_derivative, kink_margin

CASES = [case for case in cases() if case.name not in ("seqkd", "engine", "mle")]
WORDS = ("kl", "reverse_kl", "jeffreys", "tvd", "hellinger", "chi2", "alpha", "skew_kl", "skew_rkl")
ODDS = ("kl_to_middle", "reverse_kl_to_middle", "js")


@given(pair=next_token_pairs(zeros=True), k=st.integers(1, 6), log_odds=st.floats(-3, 3))
def test_merging_tokens_never_raises_a_divergence(pair, k, log_odds):
    """Catches a sparse loss that exceeds the dense one (data processing), falls below zero, or differs at k = V and V-1."""
    log_p = pair[0]
    vocab = log_p.shape[-1]
    ids = coarsening.top_k(log_p, min(k, vocab))
    coarse = [coarsening.coarsen(x, ids) for x in pair]
    for name in (*WORDS, *ODDS):
        extra = {"log_odds": np.full(len(log_p), log_odds)} if name in ODDS else {}
        function = getattr(words, name)
        dense, sparse = function(*pair, **extra), function(*coarse, **extra)
        slack = IDENTITY * (1 + np.where(np.isfinite(dense), abs(dense), 0))
        assert (sparse <= dense + slack).all() and (sparse >= -slack).all(), name
        if k >= vocab - 1:
            assert all(close(a, b) for a, b in zip(dense, sparse, strict=True)), name


@costly
@given(models=tabular_model_pairs(max_vocab=4, max_length=2, zeros=True), k=st.integers(1, 4))
def test_coarse_objectives_with_exact_weights_stay_below_dense_ones(models, k):
    """Catches prefix weights made from buckets, and a tail that is dropped."""
    p, q = models
    k = min(k, p.vocab)
    for case in CASES:
        dense = stepwise_divergence(case.name, p, q, **case.options)
        assert at_most(coarsening.coarse_divergence(case.name, p, q, k, **case.options), dense, 1e-10), str(case)
        assert close(coarsening.coarse_divergence(case.name, p, q, p.vocab, **case.options), dense, 1e-10), str(case)


@costly
@given(models=seeded_pairs(max_vocab=4, max_length=2), k=st.integers(1, 3))
@pytest.mark.parametrize("mode", ["full", "stepwise"])
def test_the_coarse_gradient_is_a_derivative(models, k, mode):
    """Catches a tail whose gradient is not shared among its tokens in proportion to the student."""
    p, q = models
    k = min(k, p.vocab - 1)
    for name, options in (("kl", {}), ("rkl", {}), ("js", {"middle": "sequence", "estimator": "teacher"}), ("js", {})):
        claimed = coarsening.coarse_gradient(name, p, q, k, mode, **options)
        if mode == "full":
            assert is_derivative(claimed, lambda x, n=name, o=options: coarsening.coarse_divergence(n, p, x, k, **o), q)
        whole = coarsening.coarse_gradient(name, p, q, p.vocab, mode, **options)
        assert np.allclose(whole, gradient(name, p, q, mode, **options), atol=1e-12)
    if kink_margin(p, q) > 0.05:
        terms = coarsening.coarse_terms("tvd", p, q, k)
        dense = stepwise_terms("tvd", p, q)
        assert all((terms[source] <= dense[source] + IDENTITY).all() for source in terms)


@given(pair=next_token_pairs(zeros=False), k=st.integers(1, 6))
def test_cross_entropies_lose_what_happens_inside_the_tail(pair, k):
    """Catches nll or ENGINE run on buckets: the loss is p_tail·CE(p_tail‖q_tail), positive even at p = q."""
    log_p, log_q = pair
    ids = coarsening.top_k(log_p, min(k, log_p.shape[-1]))
    for a, b in ((log_p, log_q), (log_q, log_p), (log_p, log_p)):
        dense, coarse = words.cross_entropy(a, b), words.cross_entropy(*(coarsening.coarsen(x, ids) for x in (a, b)))
        lost = coarsening.cross_entropy_loss(a, b, ids)
        assert np.allclose(dense - coarse, lost, atol=1e-10 * (1 + abs(dense).max()))
        assert (lost >= 0).all() and ((lost > 0) == (coarsening.in_tail(ids, log_p.shape[-1]).sum(-1) > 1)).all()


@given(models=tabular_model_pairs(max_vocab=4, max_length=3, zeros=True), k=st.integers(1, 3), weight=teacher_weights())
def test_bucket_weights_keep_js_halves_below_dense_in_sum(models, k, weight):
    """Catches a decoder of who wrote the sequence that knows more than the sequence: H(π) + E log ŵ ≤ JS."""
    p, q = models
    teacher, student = coarsening.bucket_weight_js(p, q, min(k, p.vocab - 1), weight)
    assert at_most(teacher.sum() + student.sum(), sequence_divergence("js", p, q, teacher_weight=weight))


def test_bucket_weights_break_single_steps_and_other_estimators():
    """Catches bucket weights used where they do harm: a step of JS, and the overlap bound in sum, exceed the dense value."""
    steps = overlap = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        p, q = (TabularModel.random(3, 3, rng, peakedness=2) for _ in range(2))
        scale = stepwise_terms("js", p, q, middle="sequence")
        dense = [np.exp(m.prefix_log_probs()) * scale[source] for m, source in ((p, "teacher"), (q, "student"))]
        coarse = coarsening.bucket_weight_js(p, q, 1)
        steps += (sum(coarse) > sum(dense) + 1e-9).any()
        u = np.exp(-coarsening.bucket_log_ratio(p, q, 1))
        ids = coarsening.top_k(p.log_probs, 1)
        tv = words.tvd(*(coarsening.coarsen(m.log_probs, ids) for m in (p, q)))
        value = np.exp(p.prefix_log_probs()) @ (np.minimum(1, u) * tv)
        overlap += value > stepwise_divergence("tvd", p, q, bound="overlap") + 1e-9
    assert steps > 0 and overlap > 0


def test_merging_can_raise_what_is_no_f_divergence():
    """Catches the belief that any distance survives a top-k store."""
    log_p, log_q = (np.log([x]) for x in counterexamples.merging_raises_squares())
    ids = coarsening.top_k(log_p, 1)
    merged = coarsening.squared_distance(coarsening.coarsen(log_p, ids), coarsening.coarsen(log_q, ids))
    assert merged[0] > coarsening.squared_distance(log_p, log_q)[0]


def test_a_coarse_loss_of_zero_does_not_mean_equality():
    """Catches a store with too small a k sold as exact."""
    log_p, log_q = (np.log([x]) for x in counterexamples.tail_shuffle())
    ids = coarsening.top_k(log_p, 1)
    assert np.allclose(words.kl(coarsening.coarsen(log_p, ids), coarsening.coarsen(log_q, ids)), 0)
    assert words.kl(log_p, log_q)[0] > 0.1


def test_the_tail_is_a_logsumexp():
    """Catches 1 - Σ top-k, which cancels: a tail of 1e-30 must come out as such."""
    log_p = np.log([[1.0, 1e-30, 2e-30]])
    tail = coarsening.coarsen(log_p, coarsening.top_k(log_p, 1))[0, -1]
    assert close(np.exp(tail) / 3e-30, 1.0)
    with pytest.raises(ValueError, match="cross-entropy"):
        coarsening.coarse_divergence("engine", *counterexamples.gkd_below_js(), 1)


@given(
    models=tabular_model_pairs(zeros=True),
    seed=st.integers(0, 99),
    name=st.sampled_from(("kl", "rkl", "js", "tvd", "hellinger")),
)
def test_merging_tokens_of_whole_sequences_never_raises_a_divergence(models, seed, name):
    """Catches data processing that only holds word by word: sequences that read alike after merging count as one."""
    p, q = models
    bucket = np.random.default_rng(seed).integers(2, size=p.vocab)
    laws = []
    for model in models:
        law: dict[tuple[int, ...], float] = {}
        for y, log_prob in zip(model.sequences(), model.sequence_log_probs(), strict=True):
            merged = tuple(int(bucket[token]) for token in y)
            law[merged] = law.get(merged, 0.0) + float(np.exp(log_prob))
        laws.append(law)
    a, b = (np.array([law[y] for y in laws[0]]) for law in laws)
    coarse = float(sequence_generator(name).perspective(a, b).sum())
    assert at_most(coarse, sequence_divergence(name, p, q))
