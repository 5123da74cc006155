"""Drawing completions from a model.

Chapters: random (numbers that depend on a draw's key alone), choice (one token from a distribution), ancestral (sample),
beams (beam_search), samples (what they return, and score).
"""

from fdistill.sampling.ancestral import sample
from fdistill.sampling.beams import beam_search
from fdistill.sampling.choice import choose, truncated
from fdistill.sampling.random import OFFLINE_STEP, DrawKeys, row_bits, uniforms
from fdistill.sampling.samples import Samples, score

__all__ = [
    "OFFLINE_STEP",
    "DrawKeys",
    "Samples",
    "beam_search",
    "choose",
    "row_bits",
    "sample",
    "score",
    "truncated",
    "uniforms",
]
