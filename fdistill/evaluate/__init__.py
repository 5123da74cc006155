"""Scores of a trained model: text metrics, risks, sequence-level divergences from the teacher, distance to a known truth."""

from fdistill.evaluate.bootstrap import Bootstrap, Estimate, differ
from fdistill.evaluate.divergences import SEQUENCE_DIVERGENCES, prefix_curves, sequence_divergences
from fdistill.evaluate.metrics import LOWER_IS_BETTER, TEXT_METRICS, TextScorer, distinct, sample_distinctness
from fdistill.evaluate.risks import coverage_risk, likelihood_risk, student_entropy, teacher_entropy
from fdistill.evaluate.scores import ScoredSamples
from fdistill.evaluate.truth import TRUTH_METRICS, RestaurantsTruth

__all__ = [
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
    "likelihood_risk",
    "prefix_curves",
    "sample_distinctness",
    "sequence_divergences",
    "student_entropy",
    "teacher_entropy",
]
