"""The paper's analysis of mode averaging and mode collapse: likelihood risk, coverage risk and the teacher's entropy.

R_llh = E_{y'~q}[-log p(y')] is high where a student writes what the teacher would not (mode averaging); R_cvg =
E_{y~p}[-log q(y)] is high where the student cannot write what the teacher does (mode collapse). R_llh = RKL + H(Q) is
least at collapse and R_cvg = KL + H(P) is least, at H(P), when student and teacher agree, so H(P) belongs beside both.
"""

import numpy as np

from fdistill.evaluate.bootstrap import Bootstrap, Estimate
from fdistill.evaluate.scores import ScoredSamples

Array = np.ndarray


def likelihood_risk(student_samples: ScoredSamples, bootstrap: Bootstrap) -> dict[str, Estimate]:
    """Return R_llh in nats per sequence (`r_llh`) and per token (`r_llh_token`)."""
    return _negative_log_likelihood("r_llh", student_samples, student_samples.log_p, bootstrap)


def coverage_risk(teacher_samples: ScoredSamples, bootstrap: Bootstrap) -> dict[str, Estimate]:
    """Return R_cvg in nats per sequence (`r_cvg`) and per token (`r_cvg_token`)."""
    return _negative_log_likelihood("r_cvg", teacher_samples, teacher_samples.log_q, bootstrap)


def teacher_entropy(teacher_samples: ScoredSamples, bootstrap: Bootstrap) -> dict[str, Estimate]:
    """Return H(P), the teacher's own -log p on its samples, in nats per sequence (`h_p`) and per token (`h_p_token`)."""
    return _negative_log_likelihood("h_p", teacher_samples, teacher_samples.log_p, bootstrap)


def student_entropy(student_samples: ScoredSamples, bootstrap: Bootstrap) -> dict[str, Estimate]:
    """Return H(Q), the student's own -log q on its samples: the part of R_llh that is not reverse KL."""
    return _negative_log_likelihood("h_q", student_samples, student_samples.log_q, bootstrap)


def _negative_log_likelihood(
    name: str, samples: ScoredSamples, log_probs: Array, bootstrap: Bootstrap
) -> dict[str, Estimate]:
    values = surprise_values(name, samples, log_probs, bootstrap.inputs)
    return {metric: bootstrap.mean(value) for metric, value in values.items()}


def surprise_values(name: str, samples: ScoredSamples, log_probs: Array, inputs: int) -> dict[str, Array]:
    """Return -log of what a model gives to samples, for each of the test inputs: {name, name_token}, [N] each.

    Per sequence it is the sum over tokens; per token, as in the paper's code, each sequence's mean over its own length.
    """
    per_sequence = -log_probs.sum(1)  # [S]
    both = np.stack([per_sequence, per_sequence / samples.lengths], axis=1)
    per_input = samples.per_input(both, inputs)
    return {name: per_input[:, 0], f"{name}_token": per_input[:, 1]}


def risk_values(teacher_samples: ScoredSamples, student_samples: ScoredSamples, inputs: int) -> dict[str, Array]:
    """Return what each test input adds to R_llh, R_cvg and H(Q), per sequence and per token, [N] each."""
    return {
        **surprise_values("r_llh", student_samples, student_samples.log_p, inputs),
        **surprise_values("r_cvg", teacher_samples, teacher_samples.log_q, inputs),
        **surprise_values("h_q", student_samples, student_samples.log_q, inputs),
    }
