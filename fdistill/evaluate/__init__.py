"""Scores of a trained model: text metrics, risks, sequence-level divergences from the teacher, distance to a known truth."""

from fdistill.evaluate.bootstrap import Bootstrap, Estimate, differ
from fdistill.evaluate.divergences import SEQUENCE_DIVERGENCES, divergence_values, prefix_curves, sequence_divergences
from fdistill.evaluate.learned import has_meteor
from fdistill.evaluate.metrics import (
    EXTRA_METRICS,
    LOWER_IS_BETTER,
    TEXT_METRICS,
    TextScorer,
    distinct,
    from_sums,
    sample_distinctness,
    statistics_of,
)
from fdistill.evaluate.risks import coverage_risk, likelihood_risk, risk_values, student_entropy, teacher_entropy
from fdistill.evaluate.scores import ScoredSamples
from fdistill.evaluate.truth import TRUTH_METRICS, RestaurantsTruth

__all__ = [
    "EXTRA_METRICS",
    "LOWER_IS_BETTER",
    "SEQUENCE_DIVERGENCES",
    "TEXT_METRICS",
    "TRUTH_METRICS",
    "Bootstrap",
    "Estimate",
    "RestaurantsTruth",
    "ScoredSamples",
    "TextScorer",
    "coverage_risk",
    "differ",
    "distinct",
    "divergence_values",
    "from_sums",
    "has_meteor",
    "likelihood_risk",
    "prefix_curves",
    "risk_values",
    "sample_distinctness",
    "sequence_divergences",
    "statistics_of",
    "student_entropy",
    "teacher_entropy",
]
