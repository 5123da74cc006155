"""Gradients with respect to the student: closed forms against differences, against sequences, against each other."""

import numpy as np
import pytest
from fdistill_reference import TabularModel, counterexamples, gradient, gradients, middles, stepwise_divergence
from fdistill_reference.prefixes import Prefixes
from fdistill_reference.sequence import sequence_gradient
from fdistill_reference.slopes import to_logits
from fdistill_reference.stepwise import make_scene, prefix_slopes, rows
from hypothesis import assume, given

from tests.strategies import cases, generator_options, seeded_pairs, tabular_model_pairs, teacher_weights
from tests.tolerances import FINITE_DIFFERENCE_STEP, close

from .numerics import costly, is_derivative, kink_margin

CASES = cases()
SMOOTH = [
    case for case in CASES if case.name != "tvd" and "tvd" not in case.options.values() and "clip" not in case.options
]
STUDENT_CASES = [
    case
    for case in CASES
    if any(row.source == "student" for row in rows(case.name, *counterexamples.gkd_below_js(), **case.options))
]
MARGIN = 30 * FINITE_DIFFERENCE_STEP


@costly
@given(models=seeded_pairs())
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_full_gradient_is_the_derivative_of_the_value(models, case):
    """Catches anything held that must be live: the sampling distribution, a prefix weight, a ratio, a token middle."""
    p, q = models
    assume(case in SMOOTH or kink_margin(p, q) > MARGIN)
    assume("clip" not in case.options or _away_from_clip(p, q, case.options["clip"]))
    claimed = gradient(case.name, p, q, **case.options)
    assert is_derivative(claimed, lambda x: stepwise_divergence(case.name, p, x, **case.options), q)


@costly
@given(models=seeded_pairs())
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_stepwise_gradient_is_the_derivative_with_prefixes_held(models, case):
    """Catches anything live that must be held: who writes the prefix, its ratio, the weights made from it."""
    p, q = models
    assume(case in SMOOTH or kink_margin(p, q) > MARGIN)
    claimed = gradient(case.name, p, q, "stepwise", **case.options)
    assert is_derivative(claimed, lambda x: stepwise_divergence(case.name, p, x, prefix_student=q, **case.options), q)


@costly
@given(models=seeded_pairs(min_length=3))
@pytest.mark.parametrize(
    "case", [case for case in CASES if case.exact and case.name in ("js", "f_divergence")], ids=str
)
def test_full_gradients_of_exact_forms_are_those_of_the_sequence(models, case):
    """Catches a derivative that is right for short models alone; here nothing is numerical."""
    p, q = models
    options = {key: value for key, value in case.options.items() if key not in ("estimator", "middle")}
    name = "f_divergence" if case.name == "f_divergence" else "js"
    whole = sequence_gradient(name, p, q, **options)
    assert np.allclose(gradient(case.name, p, q, **case.options), whole, atol=1e-10 * (1 + abs(whole).max()))


@costly
@given(models=tabular_model_pairs(zeros=True))
def test_gradients_are_finite_where_values_are(models):
    """Catches NaN from zero probabilities, and a push on a logit that is -inf."""
    p, q = models
    for case in CASES:
        if np.isfinite(stepwise_divergence(case.name, p, q, **case.options)):
            for mode in ("full", "stepwise"):
                found = gradient(case.name, p, q, mode, **case.options)
                assert np.isfinite(found).all() and (found[np.isneginf(q.logits)] == 0).all(), (str(case), mode)


@costly
@given(models=tabular_model_pairs())
def test_gradients_do_not_move_the_sum_of_logits(models):
    """Catches a derivative by log q that was never taken through the softmax."""
    p, q = models
    for case in CASES:
        found = gradient(case.name, p, q, **case.options)
        assert np.allclose(found.sum(-1), 0, atol=1e-10 * (1 + abs(found).max())), str(case)


@costly
@given(models=tabular_model_pairs())
def test_gradients_vanish_at_equality(models):
    """Catches a divergence whose minimum is elsewhere."""
    p, _ = models
    for case in CASES:
        if case.name not in ("seqkd", "engine", "mle"):
            for mode in ("full", "stepwise"):
                assert np.allclose(gradient(case.name, p, p, mode, **case.options), 0, atol=1e-12), str(case)


@costly
@given(models=seeded_pairs())
@pytest.mark.parametrize("case", [case for case in SMOOTH if case.name not in ("seqkd", "engine", "mle")], ids=str)
def test_the_only_stationary_point_is_equality(models, case):
    """Catches a gradient that dies early: with strictly convex f and P, Q > 0 nothing but p = q has gradient zero."""
    p, q = models
    assume(abs(np.exp(p.log_probs) - np.exp(q.log_probs)).max() > 0.05)
    for mode in ("full", "stepwise"):
        assert abs(gradient(case.name, p, q, mode, **case.options)).max() > 1e-7


@given(models=seeded_pairs())
@pytest.mark.parametrize("case", STUDENT_CASES, ids=str)
def test_the_full_gradient_is_a_live_part_plus_a_score_part(models, case):
    """Catches a return that includes its own step: that step is summed over v, so its score is already in the live part."""
    p, q = models
    parts = [part(case.name, p, q, **case.options) for part in (gradients.live_part, gradients.score_part)]
    whole = gradient(case.name, p, q, **case.options)
    assert np.allclose(sum(parts), whole, atol=1e-11 * (1 + abs(whole).max()))


@given(models=seeded_pairs(), weight=teacher_weights())
def test_the_full_js_gradient_needs_student_samples_only(models, weight):
    """Catches π for 1-π, and M for the token middle."""
    p, q = models
    whole = gradient("js", p, q, teacher_weight=weight, middle="sequence")
    assert np.allclose(gradients.js_full_gradient(p, q, weight), whole)


@given(models=seeded_pairs(), weight=teacher_weights())
def test_the_stepwise_js_gradient_may_hold_its_middle(models, weight):
    """Catches the envelope theorem used where it does not hold: at fixed prefixes both halves together are stationary in m,
    one half alone is not."""
    p, q = models
    whole = gradient("js", p, q, "stepwise", teacher_weight=weight, middle="sequence")
    assert np.allclose(gradients.js_stepwise_gradient(p, q, weight), whole)
    teacher, student = gradients.js_detached_gradient(p, q, weight)
    assert (teacher == 0).all() and np.allclose(student, whole)
    balance = gradient("js", p, q, "stepwise", teacher_weight=weight, middle="sequence", estimator="balance")
    assert np.allclose(balance, whole)


@given(models=seeded_pairs(min_length=2), options=generator_options())
def test_the_stepwise_gradient_is_exact_for_each_step_s_own_law(models, options):
    """Catches a step-wise gradient that sees the future, or misses its own step: at step t it is the full gradient, in the
    logits of that step, of the divergence between the laws of the first t+1 tokens."""
    p, q = models
    found = gradient("f_divergence", p, q, "stepwise", **options)
    for t in range(p.length):
        law = [m.truncated(t + 1) for m in models]
        rows_of_step = np.flatnonzero(law[0].tree.depth == t)
        whole = sequence_gradient("f_divergence", *law, **options)[rows_of_step]
        assert np.allclose(found[rows_of_step], whole, atol=1e-10 * (1 + abs(whole).max()))


@given(models=seeded_pairs(min_length=2))
def test_a_token_middle_may_not_be_held(models):
    """Catches the envelope theorem applied to the published middle: holding it there changes the gradient."""
    p, q = models
    live = gradient("js", p, q, "stepwise")
    log_m = middles.token_middle_model(p, q).log_probs
    held = to_logits(np.exp(q.log_probs) * (q.log_probs - log_m + 1) / 2 * Prefixes(p, q).student[:, None], q.log_probs)
    later = p.tree.depth > 0  # at the empty prefix both writers are equally likely, and there it is stationary
    assert np.allclose(held[~later], live[~later]) and not np.allclose(held[later], live[later], rtol=1e-3, atol=0)


@given(models=seeded_pairs(min_length=2))
@pytest.mark.parametrize(
    ("name", "options"),
    [("tvd", {"bound": "overlap"}), ("tvd", {"bound": "product"}), ("skew_kl", {}), ("js", {"middle": "sequence"})],
)
def test_detached_prefix_weights_give_another_gradient(models, name, options):
    """Catches a teacher-sided estimator trained with its weight held: overlap, product, skew, (π/w) JS_w are wrong."""
    p, q = models
    assume((p.prefix_log_probs() > q.prefix_log_probs() + 0.01)[1:].any())
    options = {**options, "estimator": "teacher"}
    scene = make_scene(p, q)
    weight_part = prefix_slopes(scene, rows(name, p, q, **options)[0], scene.prefixes.teacher)
    assert abs(weight_part).max() > 1e-9
    full, held = (gradient(name, p, q, mode, **options) for mode in ("full", "stepwise"))
    assert abs(full - held).max() > 1e-12


def test_held_weights_make_the_gradient_too_long():
    """Catches the belief that holding a weight hardly matters: overlap, product, skew and (π/w) JS_w are 1.2 to 3 times too long
    at length 4, and more where models are sure of themselves."""
    ratios = {}
    for bound, options in (
        ("overlap", {"bound": "overlap"}),
        ("product", {"bound": "product"}),
        ("skew_kl", {}),
        ("js", {}),
    ):
        name = bound if bound in ("skew_kl", "js") else "tvd"
        options = {**options, "estimator": "teacher", **({"middle": "sequence"} if name == "js" else {})}
        for peakedness in (1.0, 2.0):
            pairs = [_random_pair(seed, peakedness) for seed in range(20)]
            norms = [
                [np.linalg.norm(gradient(name, *pair, mode, **options)) for mode in ("stepwise", "full")]
                for pair in pairs
            ]
            ratios[bound, peakedness] = np.median([held / full for held, full in norms])
        assert 1.2 < ratios[bound, 1.0] < ratios[bound, 2.0] < 10
    assert ratios["product", 1.0] > ratios["overlap", 1.0] > ratios["js", 1.0]


@given(models=seeded_pairs(), weight=teacher_weights())
def test_nothing_changes_where_neither_prefixes_nor_weights_depend_on_the_student(models, weight):
    """Catches a score function on teacher prefixes."""
    p, q = models
    for name in ("kl", "seqkd", "kd", "mle"):
        assert np.array_equal(gradient(name, p, q, "full"), gradient(name, p, q, "stepwise"))
    token = {"teacher_weight": weight, "middle": "token"}
    teacher_half = rows("js", p, q, **token)[0]
    assert (np.asarray(teacher_half.ratio_slopes) == 0).all()


def test_the_stepwise_gradient_can_oppose_the_full_one():
    """Catches the belief that myopia only shortens the gradient."""
    p, q = counterexamples.opposed_gradients()
    for name, options in (("rkl", {}), ("js", {"middle": "sequence"})):
        found = gradients.cosine(gradient(name, p, q, "stepwise", **options), gradient(name, p, q, **options))
        assert found < -0.999


def test_the_stepwise_gradient_is_usually_close_to_the_full_one():
    """Catches a step-wise gradient that is systematically off: negative cosines are rare on random models."""
    for name, options in (("rkl", {}), ("js", {"middle": "sequence"})):
        found = []
        for seed in range(200):
            rng = np.random.default_rng(seed)
            p, q = (TabularModel.random(3, 3, rng) for _ in range(2))
            found.append(gradients.cosine(gradient(name, p, q, "stepwise", **options), gradient(name, p, q, **options)))
        assert np.mean(np.array(found) < 0) < 0.1 and np.median(found) > 0.8


@costly
@given(models=seeded_pairs(max_length=3, eos=True, min_length=2))
@pytest.mark.parametrize("name", ["rkl", "engine", "js", "tvd"])
def test_a_mean_over_tokens_needs_the_whole_return(models, name):
    """Catches a return-to-go under reduction "token": each sequence is divided by its own length, which every token decides."""
    p, q = models
    assume(name != "tvd" or kink_margin(p, q) > MARGIN)
    assert is_derivative(gradients.token_mean_gradient(name, p, q), lambda x: gradients.token_mean(name, p, x), q)


@given(models=seeded_pairs(eos=False))
def test_without_eos_a_mean_over_tokens_is_the_sum_over_the_length(models):
    """Catches a divisor other than the sequence's own length."""
    p, q = models
    assert close(gradients.token_mean("rkl", p, q) * p.length, stepwise_divergence("rkl", p, q))
    assert np.allclose(gradients.token_mean_gradient("rkl", p, q) * p.length, gradient("rkl", p, q))


def test_modes_have_names():
    """Catches a misspelt mode that falls back to the other."""
    p = TabularModel([[0.0, 1.0]], 1)
    with pytest.raises(ValueError, match="neither"):
        gradient("kl", p, p, "step-wise")


def _random_pair(seed, peakedness):
    rng = np.random.default_rng(seed)
    return tuple(TabularModel.random(3, 4, rng, None, peakedness) for _ in range(2))


def _away_from_clip(p, q, clip):
    gaps = abs(p.prefix_log_probs() - q.prefix_log_probs())
    return abs(gaps - clip).min() > MARGIN
