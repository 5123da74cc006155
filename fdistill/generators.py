"""Convex generators f, and the word-level function by which any f-divergence trains step by step.

D_f(P‖Q) = Σ_y Q(y) f(P(y)/Q(y)) (Wen et al., 2023, Eqn. 4) is a sum over prefixes s of Q(s) · D_{f_r}(p(·|s)‖q(·|s)),
where r = P(s)/Q(s) and f_r(t) = f(rt) - f(r) - r f'(r)(t - 1): the sum telescopes, and the last part adds zero in sum
while making every summand non-negative, so that nothing cancels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fdistill.errors import ObjectiveError, closest

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Generator:
    """A convex f on t > 0 with f(1) = 0, and its two limits.

    Attributes:
        name: the divergence it generates.
        formula: how people write f(t).
        function: t (any shape, > 0) to f(t).
        at_zero: the limit of f(t) at 0, what a token costs that only the student can say.
        slope_at_infinity: the limit of f(t)/t, what a token costs that only the teacher can say.
    """

    name: str
    formula: str
    function: Callable[[Tensor], Tensor]
    at_zero: float
    slope_at_infinity: float


def _kl() -> Generator:
    return Generator("kl", "t log t", lambda t: t * t.log(), 0.0, math.inf)


def _reverse_kl() -> Generator:
    return Generator("reverse_kl", "-log t", lambda t: -t.log(), math.inf, 0.0)


def _js(teacher_weight: float = 0.5) -> Generator:
    a, b = teacher_weight, 1 - teacher_weight
    return Generator(
        "js",
        "π t log t - (πt + 1-π) log(πt + 1-π)",
        lambda t: a * t * t.log() - (a * t + b) * (a * t + b).log(),
        -b * math.log(b),
        -a * math.log(a),
    )


def _tvd() -> Generator:
    return Generator("tvd", "½|t - 1|", lambda t: 0.5 * (t - 1).abs(), 0.5, 0.5)


def _hellinger() -> Generator:
    return Generator("hellinger", "½(√t - 1)²", lambda t: 0.5 * (t.sqrt() - 1).square(), 0.5, 0.5)


def _chi2() -> Generator:
    return Generator("chi2", "(t - 1)²", lambda t: (t - 1).square(), 1.0, math.inf)


def _alpha(alpha: float = 0.5) -> Generator:
    if alpha in (0.0, 1.0):
        raise ObjectiveError(f"alpha {alpha:g} is a limit: use generator {'kl' if alpha else 'reverse_kl'} instead.")
    return Generator(
        "alpha",
        "(t^α - αt + α - 1)/(α(α-1))",
        lambda t: (t**alpha - alpha * t + alpha - 1) / (alpha * (alpha - 1)),
        1 / alpha if alpha > 0 else math.inf,
        1 / (1 - alpha) if alpha < 1 else math.inf,
    )


def _check_share(alpha: float) -> None:
    if not 0 < alpha < 1:
        raise ObjectiveError(f"a skewed divergence needs alpha strictly between 0 and 1, not {alpha:g}.")


def _skew_kl(alpha: float = 0.1) -> Generator:
    _check_share(alpha)
    return Generator(
        "skew_kl",
        "t log(t/(αt + 1-α))",
        lambda t: t * (t.log() - (alpha * t + 1 - alpha).log()),
        0.0,
        -math.log(alpha),
    )


def _skew_rkl(alpha: float = 0.1) -> Generator:
    _check_share(alpha)
    return Generator("skew_rkl", "-log(α + (1-α)t)", lambda t: -(alpha + (1 - alpha) * t).log(), -math.log(alpha), 0.0)


def _jeffreys() -> Generator:
    return Generator("jeffreys", "(t - 1) log t", lambda t: (t - 1) * t.log(), math.inf, math.inf)


GENERATORS: dict[str, Callable[..., Generator]] = {
    "kl": _kl,
    "reverse_kl": _reverse_kl,
    "js": _js,
    "tvd": _tvd,
    "hellinger": _hellinger,
    "chi2": _chi2,
    "alpha": _alpha,
    "skew_kl": _skew_kl,
    "skew_rkl": _skew_rkl,
    "jeffreys": _jeffreys,
}


def generator(
    what: str | Callable[[Tensor], Tensor] | Generator,
    at_zero: float | None = None,
    slope_at_infinity: float | None = None,
    **parameters: float,
) -> Generator:
    """Return the generator of that name, or check and wrap a function of the user's.

    Args:
        what: a name of `GENERATORS`, or a function of a tensor t > 0 that is convex with f(1) = 0.
        at_zero: limit of f at 0, where the function does not say it itself; taken numerically otherwise.
        slope_at_infinity: limit of f(t)/t; taken numerically otherwise.
        parameters: what the named generator takes (alpha, teacher_weight).

    Raises:
        ObjectiveError: an unknown name or parameter, or a function that is not convex or has f(1) ≠ 0.
    """
    if isinstance(what, Generator):
        return what
    if isinstance(what, str):
        if what not in GENERATORS:
            raise ObjectiveError(
                f"unknown generator {what!r}.{closest(what, GENERATORS)} Known: {', '.join(GENERATORS)}."
            )
        try:
            return GENERATORS[what](**parameters)
        except TypeError:
            raise ObjectiveError(f"generator {what!r} does not take {', '.join(parameters)}.") from None
    return _checked(what, at_zero, slope_at_infinity)


def _checked(function: Callable[[Tensor], Tensor], at_zero: float | None, slope: float | None) -> Generator:
    import torch

    name = getattr(function, "__name__", "f")
    grid = torch.logspace(-6, 6, 481, dtype=torch.float64)
    grid[240] = 1.0
    with torch.no_grad():
        values = function(grid)
    if values.shape != grid.shape or not torch.isfinite(values).all():
        raise ObjectiveError(f"generator {name} must map a tensor t > 0 to finite values of the same shape.")
    if abs(float(values[240])) > 1e-9:
        raise ObjectiveError(f"generator {name} has f(1) = {float(values[240]):.4g}; an f-divergence needs f(1) = 0.")
    slopes = values.diff() / grid.diff()
    # Each slope carries the rounding error of two values; a real fall of the slope is larger than that.
    noise = 1e-12 * (values[:-1].abs() + values[1:].abs() + 1e-3) / grid.diff()
    falls = slopes.diff() < -(noise[:-1] + noise[1:])
    if falls.any():
        where = float(grid[1:-1][falls][0])
        raise ObjectiveError(f"generator {name} is not convex near t = {where:.3g}: its slope falls there.")
    with torch.no_grad():
        if at_zero is None:
            at_zero = _limit(function(torch.tensor([1e-100, 1e-200, 1e-300], dtype=torch.float64)))
        if slope is None:
            far = torch.tensor([1e50, 1e100, 1e150], dtype=torch.float64)
            slope = _limit(function(far) / far)
    return Generator(name, name, function, at_zero, slope)


def _limit(values: Tensor) -> float:
    """The limit that three values on the way to it suggest: theirs if they agree, else infinity."""
    first, second, third = (float(value) for value in values)
    return third if abs(third - second) <= 1e-6 * max(1.0, abs(third)) and math.isfinite(first) else math.inf


def shifted_divergence(f: Generator, *, over: str) -> Callable[..., Tensor]:
    """Return the word-level function of an f-divergence's step: D_{f_r} on student prefixes, u·D_{f_r} on teacher ones.

    Args:
        f: the generator.
        over: "student" for Σ_v q f_r(p/q), "teacher" for the same divided by r, written so that a small u = 1/r cannot
            overflow: Σ_v φ(p, uq) - uq f(r) - f'(r)(p - q), with φ(a, b) = b f(a/b).

    The function takes (log_p, log_q, *, log_ratio). A ratio spans far more than float32 can hold, so it computes in
    float64, and clamps log r to ±300, whose square still fits.
    """

    def step(log_p: Tensor, log_q: Tensor, *, log_ratio: Tensor) -> Tensor:
        import torch

        dtype = log_q.dtype
        log_p, log_q, log_r = log_p.double(), log_q.double(), log_ratio.double().clamp(-300.0, 300.0)
        r = log_r.exp()
        with torch.enable_grad():
            point = r.detach().requires_grad_()
            (slope,) = torch.autograd.grad(f.function(point).sum(), point)
        # f'(r) multiplies Σ(p - q) = 0: its own derivative never counts, so it may be a constant.
        at_r, slope, log_r = f.function(r).unsqueeze(-1), slope.unsqueeze(-1), log_r.unsqueeze(-1)
        a, b = log_p.exp(), log_q.exp()
        first: Tensor | float
        if over == "teacher":
            log_b = log_q - log_r
            b_scaled, first, linear = log_b.exp(), 1.0, slope
        else:
            log_b, b_scaled, first, linear = log_q, b, log_r.exp(), log_r.exp() * slope
        perspective = _perspective(f, log_p + (0.0 if over == "teacher" else log_r), log_b, first * a, b_scaled)
        return (perspective - b_scaled * at_r - linear * (a - b)).sum(-1).to(dtype)

    step.__name__ = f"{f.name}_step"
    return step


def _perspective(f: Generator, log_a: Tensor, log_b: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """φ(a, b) = b f(a/b) with its limits: b·f(0) where a is 0, a·slope where b is 0, and 0 where both are."""
    only_a, only_b, neither = (b == 0) & (a > 0), (a == 0) & (b > 0), (a == 0) & (b == 0)
    t = (log_a - log_b).masked_fill(only_a | only_b | neither, 0.0).exp()
    value = b * f.function(t)
    value = value.where(~only_b, b * f.at_zero if math.isfinite(f.at_zero) else value.new_tensor(f.at_zero))
    slope = a * f.slope_at_infinity if math.isfinite(f.slope_at_infinity) else value.new_tensor(f.slope_at_infinity)
    return value.where(~only_a, slope).masked_fill(neither, 0.0)
