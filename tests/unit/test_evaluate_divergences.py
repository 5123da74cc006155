"""Risks and sequence-level divergences estimated from samples agree with enumeration of small models."""

import itertools
import math

import numpy as np
import pytest

from fdistill.evaluate import (
    Bootstrap,
    ScoredSamples,
    coverage_risk,
    likelihood_risk,
    prefix_curves,
    sequence_divergences,
    student_entropy,
    teacher_entropy,
)
from fdistill.evaluate.divergences import bounded_terms

V, T, EOS = 3, 3, 0


class Table:
    """A random tabular model with EOS: next-token log-probabilities for every prefix."""

    def __init__(self, rng: np.random.Generator, sharpness: float = 1.5):
        self.rows = {}
        for length in range(T):
            for prefix in itertools.product(range(V), repeat=length):
                logits = sharpness * rng.normal(size=V)
                self.rows[prefix] = logits - np.log(np.exp(logits).sum())


def sequences() -> list[tuple[int, ...]]:
    """All sequences that end in EOS or at length T."""
    out = []
    for length in range(1, T + 1):
        for y in itertools.product(range(V), repeat=length):
            if EOS not in y[:-1] and (y[-1] == EOS or length == T):
                out.append(y)
    return out


def steps(model: Table, y: tuple[int, ...]) -> np.ndarray:
    return np.array([model.rows[y[:t]][y[t]] for t in range(len(y))])


def kl_rows(a: Table, b: Table, y: tuple[int, ...]) -> np.ndarray:
    return np.array([(np.exp(a.rows[y[:t]]) * (a.rows[y[:t]] - b.rows[y[:t]])).sum() for t in range(len(y))])


def exact_population(writer: Table, p: Table, q: Table, size: int = 200_000) -> ScoredSamples:
    """Every sequence repeated in proportion to the writer's probability, all answering one input."""
    first, second = (p, q) if writer is p else (q, p)
    ys = sequences()
    counts = [round(size * math.exp(steps(writer, y).sum())) for y in ys]
    pad = lambda x: np.pad(x, (0, T - len(x)))  # noqa: E731
    fields = {
        "mask": [pad(np.ones(len(y), bool)) for y in ys],
        "log_p": [pad(steps(p, y)) for y in ys],
        "log_q": [pad(steps(q, y)) for y in ys],
        "step_kl": [pad(kl_rows(first, second, y)) for y in ys],
    }
    arrays = {name: np.repeat(np.array(rows), counts, axis=0) for name, rows in fields.items()}
    return ScoredSamples(np.zeros(sum(counts), int), **arrays)


@pytest.fixture(scope="module", params=range(3))
def pair(request):
    rng = np.random.default_rng(request.param)
    p, q = Table(rng), Table(rng)
    return p, q, exact_population(p, p, q), exact_population(q, p, q)


def truth(p: Table, q: Table, length: int | None = None) -> dict[str, float]:
    """The four divergences by enumeration, of the laws of the first `length` tokens."""
    laws: list[dict[tuple[int, ...], float]] = []
    for model in (p, q):
        law: dict[tuple[int, ...], float] = {}
        for y in sequences():
            key = y[:length]
            law[key] = law.get(key, 0.0) + math.exp(steps(model, y).sum())
        laws.append(law)
    a, b = (np.array([law[key] for key in laws[0]]) for law in laws)
    m = (a + b) / 2
    return {
        "kl": (a * np.log(a / b)).sum(),
        "rkl": (b * np.log(b / a)).sum(),
        "js": 0.5 * (a * np.log(a / m)).sum() + 0.5 * (b * np.log(b / m)).sum(),
        "tvd": 0.5 * np.abs(a - b).sum(),
    }


def test_divergences_of_a_whole_population_equal_enumeration(pair):
    p, q, of_teacher, of_student = pair
    estimates = sequence_divergences(of_teacher, of_student, Bootstrap(1, 0))
    for name, value in truth(p, q).items():
        assert estimates[name]["value"] == pytest.approx(value, abs=2e-4), name


def test_prefix_curves_equal_enumeration_of_prefixes_and_never_fall(pair):
    p, q, of_teacher, of_student = pair
    curves = prefix_curves(of_teacher, of_student, Bootstrap(1, 0))
    for name in ("js", "tvd"):
        values = curves[name]["value"]
        assert values == pytest.approx([truth(p, q, t)[name] for t in range(1, T + 1)], abs=2e-4)
        assert all(b >= a - 1e-4 for a, b in itertools.pairwise(values))


def test_risks_are_divergence_plus_entropy(pair):
    p, q, of_teacher, of_student = pair
    bootstrap = Bootstrap(1, 0)
    exact = truth(p, q)
    h_p = teacher_entropy(of_teacher, bootstrap)["h_p"]["value"]
    h_q = student_entropy(of_student, bootstrap)["h_q"]["value"]
    assert coverage_risk(of_teacher, bootstrap)["r_cvg"]["value"] == pytest.approx(exact["kl"] + h_p, abs=5e-4)
    assert likelihood_risk(of_student, bootstrap)["r_llh"]["value"] == pytest.approx(exact["rkl"] + h_q, abs=5e-4)


def test_per_token_risk_is_the_mean_over_sequences_of_each_ones_mean():
    samples = ScoredSamples(
        inputs=np.array([0, 1]),
        mask=np.array([[True, True, True], [True, False, False]]),
        log_p=np.array([[-1.0, -2.0, -3.0], [-6.0, 0.0, 0.0]]),
        log_q=np.zeros((2, 3)),
        step_kl=np.zeros((2, 3)),
    )
    risk = likelihood_risk(samples, Bootstrap(2, 0))
    assert risk["r_llh"]["value"] == 6.0 and risk["r_llh_token"]["value"] == 4.0


def test_identical_models_are_at_distance_zero_and_disjoint_ones_at_the_maximum():
    assert [float(x) for x in bounded_terms(np.array(0.0))] == pytest.approx([0, 0])
    for far in (800.0, np.inf, -np.inf):
        assert [float(x) for x in bounded_terms(np.array(far))] == pytest.approx([math.log(2), 1])


def test_intervals_hold_the_true_divergence_when_sequences_are_sampled(pair):
    p, q, of_teacher, of_student = pair
    rng = np.random.default_rng(0)
    inputs = np.arange(400)

    def draw(population: ScoredSamples) -> ScoredSamples:
        rows = rng.integers(len(population.inputs), size=400)
        arrays = (getattr(population, name)[rows] for name in ("mask", "log_p", "log_q", "step_kl"))
        return ScoredSamples(inputs, *arrays)

    estimates = sequence_divergences(draw(of_teacher), draw(of_student), Bootstrap(400, 300))
    for name, value in truth(p, q).items():
        slack = estimates[name]["high"] - estimates[name]["low"]
        assert estimates[name]["low"] - slack <= value <= estimates[name]["high"] + slack


def test_several_draws_of_one_input_count_as_one_input():
    mask = np.ones((3, 1), bool)
    samples = ScoredSamples(
        np.array([0, 0, 1]), mask, np.array([[-1.0], [-3.0], [-5.0]]), np.zeros((3, 1)), np.zeros((3, 1))
    )
    assert teacher_entropy(samples, Bootstrap(2, 0))["h_p"]["value"] == pytest.approx((2 + 5) / 2)


def test_batches_of_different_width_join():
    parts = [ScoredSamples(np.array([i]), *(np.ones((1, w)) for _ in range(4))) for i, w in enumerate((2, 5))]
    joined = ScoredSamples.concatenate(parts)
    assert joined.log_p.shape == (2, 5) and joined.log_p[0].tolist() == [1, 1, 0, 0, 0]


def test_an_input_without_samples_is_an_error():
    samples = ScoredSamples(np.array([0]), *(np.ones((1, 1)) for _ in range(4)))
    with pytest.raises(ValueError, match="test input 1 has no sample"):
        teacher_entropy(samples, Bootstrap(2, 0))
