"""How close is close enough, in one place, each with its reason.

u is the unit roundoff of a dtype: 1.1e-16 in float64, 6e-8 in float32, 3.9e-3 in bfloat16.
"""

from __future__ import annotations

import math

#: Two exact float64 evaluations of one sum: at most ~2,000 terms, each carrying a log-probability that was formed with a few u
#: of relative error, so their difference stays below 2,000·10·u ≈ 2e-12 of the sum of absolute values.
IDENTITY = 2e-12

#: An inequality that is an equality in the extreme case may be missed by rounding alone, by as much as an identity.
INEQUALITY = IDENTITY

#: Closed-form gradients against fourth-order central differences with step h: the truncation error is h⁴|f⁗..|/30 and the
#: rounding error u|f|/h; with h = 1e-3 and logits whose derivatives are bounded by the value's own scale both are below 1e-8.
FINITE_DIFFERENCE = 1e-7
FINITE_DIFFERENCE_STEP = 1e-3

#: The torch backend against the reference, float64: other orders of summation over whole batches, log_softmax and exp of another
#: library. The project promises 1e-9.
FLOAT64_BACKEND = 1e-9

#: The same in float32, relative to the larger of value and 1: u32 times the number of terms on a path (V·T ≤ 1e3).
FLOAT32_BACKEND = 1e-4


def close(left: float, right: float, tolerance: float = IDENTITY, scale: float = 1.0) -> bool:
    """Equal to within tolerance·max(scale, |left|, |right|); infinities are equal to themselves."""
    if math.isinf(left) or math.isinf(right):
        return left == right
    return abs(left - right) <= tolerance * max(scale, abs(left), abs(right))


def at_most(left: float, right: float, tolerance: float = INEQUALITY) -> bool:
    """left ≤ right, forgiving rounding."""
    return math.isinf(right) or left <= right + tolerance * max(1.0, abs(left), abs(right))
