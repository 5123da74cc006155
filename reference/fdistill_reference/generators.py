"""Generators f of f-divergences, D_f(p‖q) = Σ q f(p/q) (Wen et al., 2023, Eqn. 4), with what happens where p or q vanish."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.special import xlogy

from .tree import Array

Function = Callable[[Array], Array]


def open_unit(value: float, name: str, otherwise: str) -> float:
    """The value, if it lies strictly between 0 and 1; the error says what to do otherwise."""
    if not 0 < value < 1:
        raise ValueError(f"{name}={value:g} must lie strictly between 0 and 1: {otherwise}")
    return float(value)


@dataclass(frozen=True)
class Generator:
    """A convex f on (0, ∞) with f(1) = 0.

    Attributes:
        name, formula: for people; t is p/q.
        f, derivative: functions of an array t > 0.
        at_zero: lim f(t) as t → 0, what a token with p = 0 costs per unit of q. None: not known.
        slope_at_infinity: lim f(t)/t as t → ∞, what a token with q = 0 costs per unit of p. None: not known.
        upper_bound: D_f never exceeds it (at_zero + slope_at_infinity, at disjoint p and q).
        symmetric: D_f(p‖q) = D_f(q‖p).
        parameters: the values of what the formula leaves open.
    """

    name: str
    formula: str
    f: Function
    derivative: Function
    at_zero: float | None
    slope_at_infinity: float | None
    symmetric: bool = False
    parameters: Mapping[str, float] = field(default_factory=dict)

    @property
    def upper_bound(self) -> float:
        if self.at_zero is None or self.slope_at_infinity is None:
            return np.inf
        return self.at_zero + self.slope_at_infinity

    def __call__(self, t: Array) -> Array:
        return self.f(t)

    def perspective(self, a: Array, b: Array, ratio: Array | float = 1.0) -> Array:
        """φ(ra, b) = b f(r·(a/b)), r = `ratio` > 0, continued to a = 0 and b = 0; convex in a, b and homogeneous."""
        a, b, r = np.broadcast_arrays(np.asarray(a, float), np.asarray(b, float), np.asarray(ratio, float))
        out = np.zeros(a.shape)
        inside, left, right = (a > 0) & (b > 0), (a == 0) & (b > 0), (a > 0) & (b == 0)
        out[inside] = b[inside] * self.f(r[inside] * (a[inside] / b[inside]))
        if left.any():
            out[left] = b[left] * self._limit("at_zero")
        if right.any():
            out[right] = r[right] * a[right] * self._limit("slope_at_infinity")
        return out

    def perspective_slopes(self, a: Array, b: Array) -> tuple[Array, Array]:
        """a·∂φ/∂a and b·∂φ/∂b, which are a f'(t) and b (f(t) - t f'(t)) at t = a/b, and 0 at a zero of their own."""
        a, b = np.broadcast_arrays(np.asarray(a, float), np.asarray(b, float))
        teacher, student = np.zeros(a.shape), np.zeros(a.shape)
        inside, left, right = (a > 0) & (b > 0), (a == 0) & (b > 0), (a > 0) & (b == 0)
        t = a[inside] / b[inside]
        teacher[inside] = a[inside] * self.derivative(t)
        student[inside] = b[inside] * self.f(t) - teacher[inside]
        if left.any():
            student[left] = b[left] * self._limit("at_zero")
        if right.any():
            teacher[right] = a[right] * self._limit("slope_at_infinity")
        return teacher, student

    def _limit(self, which: str) -> float:
        value = getattr(self, which)
        if value is None:
            raise ValueError(f"a probability is zero, so the generator {self.name!r} needs {which}= (see Generator)")
        return value


def kl() -> Generator:
    return Generator("kl", "t log t", lambda t: t * np.log(t), lambda t: np.log(t) + 1, 0.0, np.inf)


def reverse_kl() -> Generator:
    return Generator("reverse_kl", "-log t", lambda t: -np.log(t), lambda t: -1 / t, np.inf, 0.0)


def js(teacher_weight: float = 0.5) -> Generator:
    """π KL(p‖m) + (1-π) KL(q‖m), m = πp + (1-π)q: half of the paper's generator at π = ½."""
    pi = open_unit(teacher_weight, "teacher_weight", "use kl (its limit at 0) or rkl (at 1), each up to scale")
    return Generator(
        "js",
        "π t log t - (πt + 1-π) log(πt + 1-π)",
        lambda t: pi * t * np.log(t) - (1 + pi * (t - 1)) * np.log1p(pi * (t - 1)),
        lambda t: pi * (np.log(t) - np.log1p(pi * (t - 1))),
        -xlogy(1 - pi, 1 - pi),
        -xlogy(pi, pi),
        symmetric=pi == 0.5,
        parameters={"teacher_weight": pi},
    )


def tvd() -> Generator:
    return Generator(
        "tvd", "½ |t - 1|", lambda t: abs(t - 1) / 2, lambda t: np.sign(t - 1) / 2, 0.5, 0.5, symmetric=True
    )


def hellinger() -> Generator:
    return Generator(
        "hellinger",
        "½ (√t - 1)²",
        lambda t: (np.sqrt(t) - 1) ** 2 / 2,
        lambda t: (1 - 1 / np.sqrt(t)) / 2,
        0.5,
        0.5,
        symmetric=True,
    )


def chi2() -> Generator:
    return Generator("chi2", "(t - 1)²", lambda t: (t - 1) ** 2, lambda t: 2 * (t - 1), 1.0, np.inf)


def alpha(alpha: float = 0.5) -> Generator:
    """(t^α - αt + α - 1)/(α(α-1)); α = ½ is 4 times the Hellinger distance, α = 2 half of chi-square."""
    a = float(alpha)
    if a in (0.0, 1.0):
        raise ValueError(f"alpha={a:g} has no generator of its own: its limit is {'kl' if a else 'reverse_kl'}")
    scale = a * (a - 1)
    return Generator(
        "alpha",
        "(t^α - αt + α - 1)/(α(α - 1))",
        lambda t: (t**a - a * t + a - 1) / scale,
        lambda t: (t ** (a - 1) - 1) / (a - 1),
        1 / a if a > 0 else np.inf,
        1 / (1 - a) if a < 1 else np.inf,
        symmetric=a == 0.5,
        parameters={"alpha": a},
    )


def skew_kl(alpha: float = 0.1) -> Generator:
    """KL(p‖αp + (1-α)q)."""
    a = open_unit(alpha, "alpha", "at 0 it is kl, at 1 nothing is left")
    return Generator(
        "skew_kl",
        "t log t - t log(αt + 1-α)",
        lambda t: t * (np.log(t) - np.log1p(a * (t - 1))),
        lambda t: np.log(t) - np.log1p(a * (t - 1)) + (1 - a) / (1 + a * (t - 1)),
        0.0,
        -np.log(a),
        parameters={"alpha": a},
    )


def skew_rkl(alpha: float = 0.1) -> Generator:
    """KL(q‖αq + (1-α)p)."""
    a = open_unit(alpha, "alpha", "at 0 it is reverse_kl, at 1 nothing is left")
    return Generator(
        "skew_rkl",
        "-log(α + (1-α)t)",
        lambda t: -np.log1p((1 - a) * (t - 1)),
        lambda t: -(1 - a) / (1 + (1 - a) * (t - 1)),
        -np.log(a),
        0.0,
        parameters={"alpha": a},
    )


def jeffreys() -> Generator:
    """KL(p‖q) + KL(q‖p), not halved."""
    return Generator(
        "jeffreys",
        "(t - 1) log t",
        lambda t: (t - 1) * np.log(t),
        lambda t: np.log(t) + 1 - 1 / t,
        np.inf,
        np.inf,
        symmetric=True,
    )


FAMILIES: Mapping[str, Callable[..., Generator]] = {
    make.__name__: make for make in (kl, reverse_kl, js, tvd, hellinger, chi2, alpha, skew_kl, skew_rkl, jeffreys)
}
GENERATORS: Mapping[str, Generator] = {name: make() for name, make in FAMILIES.items()}


def resolve_generator(generator: str | Generator | Function, **options: Any) -> Generator:
    """A generator by name with its parameters, one already made, or a function of the user's, which is checked.

    Options of a name are the parameters of its formula; those of a function are `at_zero`, `slope_at_infinity` and
    `derivative` (numerical where it is not given).
    """
    if isinstance(generator, Generator):
        made = replace(generator, **options)
    elif callable(generator):
        made = _from_function(generator, **options)
    else:
        name = "reverse_kl" if generator == "rkl" else generator
        if name not in FAMILIES:
            raise ValueError(
                f"unknown generator {generator!r}; known are {', '.join(FAMILIES)}, or give a function of t > 0"
            )
        unknown = set(options) - set(GENERATORS[name].parameters)
        if unknown:
            raise ValueError(f"generator {name!r} has no parameter {', '.join(sorted(unknown))}")
        return FAMILIES[name](**options)
    check_generator(made)
    return made


def check_generator(generator: Generator, decades: float = 6.0, points: int = 601) -> None:
    """Refuse an f that is visibly no generator: f(1) ≠ 0, not finite, or above a chord of its own graph."""
    at_one = float(generator.f(np.ones(1))[0])
    if not abs(at_one) <= 1e-9:
        raise ValueError(f"generator {generator.name!r} has f(1) = {at_one:g}; D_f(p‖p) = f(1) must be 0")
    t = np.logspace(-decades, decades, points)
    values = np.asarray(generator.f(t), dtype=float)
    if values.shape != t.shape or not np.isfinite(values).all():
        raise ValueError(f"generator {generator.name!r} must give one finite number for each t in (0, ∞)")
    for step in (1, 7, 50):
        left, right = slice(None, -2 * step), slice(2 * step, None)
        share = (t[right] - t[step:-step]) / (t[right] - t[left])
        chord = share * values[left] + (1 - share) * values[right]
        above = values[step:-step] - chord
        slack = 1e-12 * (abs(values[left]) + abs(values[right]) + 1e-3)
        worst = int(np.argmax(above - slack))
        if above[worst] > slack[worst]:
            raise ValueError(
                f"generator {generator.name!r} is not convex: f({t[worst + step]:.4g}) = {values[worst + step]:.6g} lies above "
                f"the chord from t = {t[worst]:.4g} to t = {t[worst + 2 * step]:.4g}, which is {chord[worst]:.6g} there"
            )


def numerical_derivative(f: Function) -> Function:
    """f' by the fourth-order central difference, accurate to about 1e-11 for smooth f."""

    def derivative(t: Array) -> Array:
        h = 1e-3 * t
        return (8 * (f(t + h) - f(t - h)) - (f(t + 2 * h) - f(t - 2 * h))) / (12 * h)

    return derivative


def _from_function(
    f: Function,
    at_zero: float | None = None,
    slope_at_infinity: float | None = None,
    derivative: Function | None = None,
) -> Generator:
    name = getattr(f, "__name__", "f")
    at_zero = getattr(f, "at_zero", None) if at_zero is None else at_zero
    slope = getattr(f, "slope_at_infinity", None) if slope_at_infinity is None else slope_at_infinity
    return Generator(name, "the user's", f, derivative or numerical_derivative(f), at_zero, slope)
