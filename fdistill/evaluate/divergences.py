"""Monte-Carlo estimates of the sequence-level KL, RKL, JS and TVD between teacher and student, and their prefix curves.

All come from the same two sets of samples: y ~ p and y' ~ q. KL and RKL sum the exact next-token divergence along each
sequence (Wen et al., 2023, Theorem 1), which has the expectation of log P(y)/Q(y) and far less variance. JS and TVD use
the posterior w(y) = sigmoid(log P(y) - log Q(y)) that the teacher wrote y, over half teacher and half student samples:

    JS = log 2 - E_M h(w(Y)),    TVD = E_M |2 w(Y) - 1|,    M = ½P + ½Q,  h the binary entropy,

both bounded whatever the length, so that few samples suffice. Over prefixes of t tokens, the same formulas give the
divergence between the laws of the first t tokens, which never falls with t.
"""

import math

import numpy as np

from fdistill.evaluate.bootstrap import Bootstrap, Estimate
from fdistill.evaluate.scores import ScoredSamples

Array = np.ndarray
SEQUENCE_DIVERGENCES = ("kl", "rkl", "js", "tvd")


def sequence_divergences(
    teacher_samples: ScoredSamples, student_samples: ScoredSamples, bootstrap: Bootstrap
) -> dict[str, Estimate]:
    """Return {"kl", "rkl", "js", "tvd"}: nats per sequence for the first three, a probability for the last."""
    values = divergence_values(teacher_samples, student_samples, bootstrap.inputs)
    return {name: bootstrap.mean(value) for name, value in values.items()}


def divergence_values(teacher_samples: ScoredSamples, student_samples: ScoredSamples, inputs: int) -> dict[str, Array]:
    """Return what each of the `inputs` test inputs adds to the mean of each divergence, [N] each."""
    js_teacher, tvd_teacher = bounded_terms(_log_ratio(teacher_samples).sum(1))
    js_student, tvd_student = bounded_terms(_log_ratio(student_samples).sum(1))
    halves = [
        0.5 * (teacher_samples.per_input(a, inputs) + student_samples.per_input(b, inputs))
        for a, b in ((js_teacher, js_student), (tvd_teacher, tvd_student))
    ]
    return {
        "kl": teacher_samples.per_input(teacher_samples.step_kl.sum(1), inputs),
        "rkl": student_samples.per_input(student_samples.step_kl.sum(1), inputs),
        "js": halves[0],
        "tvd": halves[1],
    }


def prefix_curves(
    teacher_samples: ScoredSamples, student_samples: ScoredSamples, bootstrap: Bootstrap
) -> dict[str, dict[str, list[float]]]:
    """Return {"js", "tvd"}: the divergence between the laws of the first t tokens for t = 1..T, with intervals.

    A sequence that has ended stays what it was, so the last point is the whole sequences' divergence.
    """
    width = max(teacher_samples.mask.shape[1], student_samples.mask.shape[1])
    means = []
    for samples in (teacher_samples, student_samples):
        cumulative = np.cumsum(_log_ratio(samples), axis=1)
        cumulative = np.pad(cumulative, ((0, 0), (0, width - cumulative.shape[1])), mode="edge")  # [S, T]
        means.append([samples.per_input(values, bootstrap.inputs) for values in bounded_terms(cumulative)])
    return {name: bootstrap.curves(0.5 * (means[0][i] + means[1][i])) for i, name in enumerate(("js", "tvd"))}


def bounded_terms(log_ratio: Array) -> tuple[Array, Array]:
    """Return what a sequence (or prefix) of log ratio log P/Q adds to JS, log 2 - h(w), and to TVD, |2w - 1|."""
    with np.errstate(over="ignore", invalid="ignore"):
        size = np.abs(log_ratio)  # both terms are symmetric in w and 1 - w
        small = np.exp(-size)  # (1 - w) / w for w the larger of the two
        minor = small / (1 + small)
        # h(w) = log(1 + e^-|z|) + |z| (1 - w); the product is 0 at |z| = inf
        entropy = np.log1p(small) + np.where(minor > 0, size * minor, 0.0)
    return math.log(2) - entropy, (1 - small) / (1 + small)


def _log_ratio(samples: ScoredSamples) -> Array:
    """log p(y_t|y_<t) - log q(y_t|y_<t) per step, [S, T], 0 where masked."""
    return np.where(samples.mask, samples.log_p - samples.log_q, 0.0)
