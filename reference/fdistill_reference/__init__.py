"""The exact reference of f-DISTILL: small autoregressive models, enumerated; NumPy, float64, no sampling, no framework."""

from .generators import GENERATORS, Generator
from .models import TabularModel
from .objectives import OBJECTIVES
from .sequence import sequence_divergence
from .stepwise import gradient, stepwise_divergence, stepwise_terms

__all__ = [
    "GENERATORS",
    "OBJECTIVES",
    "Generator",
    "TabularModel",
    "gradient",
    "sequence_divergence",
    "stepwise_divergence",
    "stepwise_terms",
]
