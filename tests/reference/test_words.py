"""Word-level divergences, their inequalities, and their slopes."""

import inspect

import numpy as np
import pytest
from fdistill_reference import GENERATORS, slopes, words
from fdistill_reference.generators import resolve_generator
from fdistill_reference.middles import binary_entropy
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import generator_options, next_token_pairs, teacher_weights
from tests.tolerances import FINITE_DIFFERENCE, FINITE_DIFFERENCE_STEP, IDENTITY, close

PLAIN = ("kl", "reverse_kl", "jeffreys", "tvd", "hellinger", "chi2", "alpha", "skew_kl", "skew_rkl")
WITH_ODDS = ("kl_to_middle", "reverse_kl_to_middle", "js")
odds = st.floats(-3, 3)


@given(pair=next_token_pairs(zeros=True))
@pytest.mark.parametrize("name", PLAIN)
def test_a_word_level_function_is_the_divergence_of_its_generator(pair, name):
    """Catches a formula that drifts from its f: direction, factor, or what a zero costs."""
    log_p, log_q = pair
    direct, by_f = getattr(words, name)(log_p, log_q), words.f_divergence(log_p, log_q, generator=GENERATORS[name])
    assert all(close(a, b, 1e-11) for a, b in zip(direct, by_f, strict=True))


@given(pair=next_token_pairs(zeros=True), weight=teacher_weights())
def test_word_level_js_is_the_divergence_of_its_generator(pair, weight):
    """Catches the weight on the wrong side."""
    log_p, log_q = pair
    direct = words.js(log_p, log_q, log_odds=np.full(len(log_p), words.log_odds_of(weight)))
    by_f = words.f_divergence(log_p, log_q, generator=resolve_generator("js", teacher_weight=weight))
    assert np.allclose(direct, by_f, atol=IDENTITY)


@given(pair=next_token_pairs(zeros=True), log_odds=odds)
def test_divergences_are_never_negative_and_exactly_zero_at_equality(pair, log_odds):
    """Catches rounding noise at p = q (a model would train on it), and cancellation below zero."""
    log_p, log_q = pair
    for name in (*PLAIN, *WITH_ODDS):
        given_odds = {"log_odds": np.full(len(log_p), log_odds)} if name in WITH_ODDS else {}
        function = getattr(words, name)
        assert (function(log_p, log_q, **given_odds) >= -IDENTITY).all(), name
        assert (function(log_p, log_p, **given_odds) == 0).all(), name


@given(pair=next_token_pairs(zeros=True))
def test_symmetric_word_level_functions_are_symmetric(pair):
    """Catches p and q exchanged where it would not show in the value."""
    log_p, log_q = pair
    for name in ("jeffreys", "tvd", "hellinger"):
        function = getattr(words, name)
        assert np.allclose(function(log_p, log_q), function(log_q, log_p), atol=IDENTITY), name
    middle = np.zeros(len(log_p))
    assert np.allclose(words.js(log_p, log_q, log_odds=middle), words.js(log_q, log_p, log_odds=-middle))
    assert np.allclose(words.reverse_kl(log_p, log_q), words.kl(log_q, log_p))
    assert np.allclose(words.skew_rkl(log_p, log_q, alpha=0.3), words.skew_kl(log_q, log_p, alpha=0.3))


@given(pair=next_token_pairs(zeros=True), log_odds=odds)
def test_the_middle_lies_between_and_exactly_on_equal_models(pair, log_odds):
    """Catches a middle that is not normalised, or misses p = q by an ulp."""
    log_p, log_q = pair
    weights = np.full(len(log_p), log_odds)
    log_m, w = words.log_middle(log_p, log_q, log_odds=weights), np.exp(words.log_sigmoid(log_odds))
    assert np.allclose(np.exp(log_m), w * np.exp(log_p) + (1 - w) * np.exp(log_q), atol=IDENTITY)
    assert np.array_equal(words.log_middle(log_p, log_p, log_odds=weights), log_p)


@given(pair=next_token_pairs(), log_odds=odds)
def test_cross_entropies_are_divergences_plus_entropies(pair, log_odds):
    """Catches a teacher's entropy left in or out, and a likelihood of the wrong model."""
    log_p, log_q = pair
    assert np.allclose(words.cross_entropy(log_p, log_q), words.kl(log_p, log_q) + words.entropy(log_p))
    assert np.allclose(
        words.cross_entropy_to_teacher(log_p, log_q), words.reverse_kl(log_p, log_q) + words.entropy(log_q)
    )
    by_token = [words.nll(log_p, log_q, tokens=np.full(len(log_p), v)) for v in range(log_p.shape[-1])]
    assert np.allclose((np.exp(log_p) * np.stack(by_token, -1)).sum(-1), words.cross_entropy(log_p, log_q))


@given(pair=next_token_pairs(zeros=True), weight=teacher_weights())
def test_bounds_between_divergences(pair, weight):
    """Catches a factor of two or an exchanged argument that values alone do not show: Pinsker, Bretagnolle-Huber,
    Hellinger on both sides, JS ≤ TVD·log 2 and ≤ H(π), TVD ≤ 1."""
    tv, kl, hellinger = (getattr(words, name)(*pair) for name in ("tvd", "kl", "hellinger"))
    js, even = (words.js(*pair, log_odds=np.full(len(tv), words.log_odds_of(w))) for w in (weight, 0.5))
    slack = 1 + IDENTITY
    assert (tv <= slack).all() and (js <= slack * binary_entropy(weight) + IDENTITY).all()
    assert (2 * tv**2 <= kl + IDENTITY).all()
    assert (tv <= np.sqrt(-np.expm1(-np.maximum(kl, 0))) + 1e-7).all()
    assert (hellinger <= tv + IDENTITY).all() and (tv <= np.sqrt(hellinger * (2 - hellinger)) + 1e-7).all()
    assert (even <= tv * np.log(2) + IDENTITY).all()


@given(pair=next_token_pairs(), log_ratio=st.floats(-3, 3), options=generator_options())
def test_the_shifted_divergence_is_never_negative_and_zero_at_equality(pair, log_ratio, options):
    """Catches a step of the chain rule that could pay a student for a prefix: each step is a divergence (Jensen)."""
    log_p, log_q = pair
    given_ratio = {"log_ratio": np.full(len(log_p), log_ratio), "generator": resolve_generator(**options)}
    values = words.shifted_f_divergence(log_p, log_q, **given_ratio)
    scale = 1 + abs(words.f_divergence(log_p, log_q, generator=given_ratio["generator"])) * np.exp(2 * abs(log_ratio))
    assert (values >= -IDENTITY * scale).all()
    assert (words.shifted_f_divergence(log_p, log_p, **given_ratio) == 0).all()


def test_shifted_generators_of_the_known_divergences():
    """Catches a ratio the wrong way round: KL gives r·KL, reverse KL itself, JS (M/Q)·JS_w, Hellinger √r·h²."""
    rng = np.random.default_rng(0)
    log_p, log_q = (np.log(rng.dirichlet(np.ones(4), size=5)) for _ in range(2))
    log_r = rng.standard_normal(5)
    r, pi = np.exp(log_r), 0.3
    expected = {
        "kl": r * words.kl(log_p, log_q),
        "reverse_kl": words.reverse_kl(log_p, log_q),
        "hellinger": np.sqrt(r) * words.hellinger(log_p, log_q),
        "js": (pi * r + 1 - pi) * words.js(log_p, log_q, log_odds=words.log_odds_of(pi) + log_r),
    }
    for name, value in expected.items():
        f = resolve_generator(name, **({"teacher_weight": pi} if name == "js" else {}))
        assert np.allclose(words.shifted_f_divergence(log_p, log_q, log_ratio=log_r, generator=f), value), name


@given(pair=next_token_pairs(max_vocab=4), log_odds=odds)
def test_slopes_are_the_derivatives_of_the_words(pair, log_odds):
    """Catches a gradient of another function than the value, or a middle held where it must move."""
    log_p, log_q = pair
    for name in sorted(set(dir(slopes)) & {*PLAIN, *WITH_ODDS, "cross_entropy", "cross_entropy_to_teacher"} - {"tvd"}):
        value, slope = getattr(words, name), getattr(slopes, name)
        extra = {"log_odds": np.full(len(log_p), log_odds)} if "log_odds" in inspect.signature(value).parameters else {}
        _check_slope(lambda x, value=value, extra=extra: value(log_p, x, **extra), slope(log_p, log_q, **extra), log_q)
        if extra:
            numeric = _difference(lambda h, value=value, at=extra["log_odds"]: value(log_p, log_q, log_odds=at + h))
            assert np.allclose(
                getattr(slopes, name + "_by_odds")(log_p, log_q, **extra), numeric, atol=FINITE_DIFFERENCE
            )


@given(pair=next_token_pairs(max_vocab=4), log_ratio=st.floats(-1, 1), options=generator_options())
def test_slopes_of_the_shifted_divergence(pair, log_ratio, options):
    """Catches a prefix ratio whose own derivative is wrong: the full gradient needs it."""
    log_p, log_q = pair
    if options["generator"] == "tvd":
        return  # its kinks have a test of their own
    extra = {"log_ratio": np.full(len(log_p), log_ratio), "generator": resolve_generator(**options)}
    slope = slopes.shifted_f_divergence(log_p, log_q, **extra)
    _check_slope(lambda x: words.shifted_f_divergence(log_p, x, **extra), slope, log_q)
    numeric = _difference(
        lambda h: words.shifted_f_divergence(
            log_p, log_q, log_ratio=extra["log_ratio"] + h, generator=extra["generator"]
        )
    )
    by_ratio = slopes.shifted_f_divergence_by_ratio(log_p, log_q, **extra)
    assert np.allclose(
        by_ratio, numeric, rtol=1e-6, atol=FINITE_DIFFERENCE * (1 + abs(by_ratio).max() + abs(slope).max())
    )


def test_slopes_of_total_variation_have_the_sign_of_the_surplus():
    """Catches a student that is pushed up where it already gives more than the teacher."""
    log_p, log_q = np.log([[0.5, 0.2, 0.3]]), np.log([[0.1, 0.6, 0.3]])
    assert np.allclose(slopes.tvd(log_p, log_q), [[-0.05, 0.3, 0.0]])
    assert np.allclose(slopes.to_logits(slopes.tvd(log_p, log_q), log_q).sum(-1), 0)


@given(pair=next_token_pairs(zeros=True), log_odds=odds)
def test_the_student_share_is_a_posterior(pair, log_odds):
    """Catches a share that leaves [0, 1], or is NaN at a token that nobody writes."""
    share = slopes.student_share(*pair, log_odds=np.full(len(pair[0]), log_odds))
    assert ((share >= 0) & (share <= 1 + IDENTITY)).all()


def test_a_ratio_of_zero_or_infinity_is_not_live():
    """Catches NaN from a prefix that one of the two models cannot write."""
    live, r = slopes.live_ratio(np.array([-np.inf, 0.0, np.inf]))
    assert list(live) == [False, True, False] and list(r) == [1, 1, 1]


def test_hand_computed_values():
    """Catches a change of unit or base: nats, halved JS, unhalved Jeffreys."""
    log_p, log_q = np.log([0.5, 0.5]), np.log([0.25, 0.75])
    assert close(words.kl(log_p, log_q), np.log(2) / 2 + np.log(2 / 3) / 2)
    assert close(words.reverse_kl(log_p, log_q), np.log(0.5) / 4 + 3 * np.log(1.5) / 4)
    assert close(words.tvd(log_p, log_q), 0.25) and close(words.chi2(log_p, log_q), 1 / 3)
    assert close(words.hellinger(log_p, log_q), 1 - np.sqrt(1 / 8) - np.sqrt(3 / 8))
    m = np.log([0.375, 0.625])
    expected = words.kl(log_p, m) / 2 + words.kl(log_q, m) / 2
    assert close(words.js(log_p, log_q, log_odds=np.array(0.0)), expected)
    assert words.log_fraction(-np.inf, -np.inf) == 0 and words.times(np.zeros(1), np.array([np.inf])) == 0
    assert words.expect(np.array([-np.inf, 0.0]), np.array([np.inf, 2.0])) == 2


def _difference(f, h=FINITE_DIFFERENCE_STEP):
    return (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)


def _check_slope(f, slope, log_q):
    for v in range(log_q.shape[-1]):
        unit = np.eye(log_q.shape[-1])[v]
        numeric = _difference(lambda h, unit=unit: f(log_q + h * unit))
        scale = 1 + abs(slope).max()
        assert np.allclose(slope[:, v], numeric, rtol=1e-6, atol=FINITE_DIFFERENCE * scale)
