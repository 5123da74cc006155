"""Closed-form slopes of the word-level divergences: how a value moves with the student's log-probabilities.

With s_y = ∂D/∂log q_y, every log q_y taken as free, the gradient with respect to the logits z (log q = z - logsumexp z) is
s - q Σ s, so adding a multiple of q to s changes nothing; the forms here use that to be short. Each has its eager twin in
`fdistill.divergences`, and tests hold the two together; a function without a form here is differentiated by autograd.

A form works in two scratch tensors of its chunk and may leave NaN where a probability is zero: the caller looks at the
values and, where one is not finite, asks autograd instead. What it does for every token and what it does once a row stand
apart, so that a compiler finds loops over the vocabulary and nothing between them (`compiled`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fdistill import divergences
from fdistill.loss.rows import TopKRows

#: A probability below this counts as this where a form divides by it.
TINY = 1e-37


class Normaliser(NamedTuple):
    """What makes rows of e^x probabilities: probs = e^x / scale and log probs = x - offset; [n] each."""

    scale: Tensor
    offset: Tensor


class Distribution:
    """Next-token distributions of some rows, normalised only where somebody asks.

    With x the logits less their maximum, log probs = x - offset and probs = e^x / scale; normalising happens in place, and
    then offset is 0 and scale 1.

    Attributes:
        shifted: x, or the log-probabilities, [n, V].
        exps: e^x, or the probabilities, [n, V].
        offset, scale: [n, 1].
        mass: Σ exps, [n, 1]; probabilities that were rounded need not sum to 1.
    """

    def __init__(self, logits: Tensor, shifted: Tensor, exps: Tensor) -> None:
        """Read logits [n, V] of any dtype into two tensors of the working precision."""
        if logits.dtype != shifted.dtype:
            logits = exps.copy_(logits)
        self.shifted = torch.sub(logits, logits.amax(-1, keepdim=True), out=shifted)
        self.exps = torch.exp(shifted, out=exps)
        self.scale = self.mass = exps.sum(-1, keepdim=True)
        self.offset = self.scale.log()
        self._normalised = [False, False]

    @classmethod
    def of_log_probs(cls, log_probs: Tensor, probs: Tensor) -> Distribution:
        """What is normalised already."""
        made = cls.__new__(cls)
        made.shifted, made.exps = log_probs, probs
        made.scale, made.offset = probs.new_ones(len(probs), 1), probs.new_zeros(len(probs), 1)
        made.mass = probs.sum(-1, keepdim=True)
        made._normalised = [True, True]
        return made

    @property
    def log_probs(self) -> Tensor:
        if not self._normalised[0]:
            self._normalised[0] = True
            self.shifted.sub_(self.offset)
            self.offset = torch.zeros_like(self.offset)
        return self.shifted

    @property
    def probs(self) -> Tensor:
        if not self._normalised[1]:
            self._normalised[1] = True
            self.exps.mul_(self.scale.reciprocal())
            self.scale = self.mass = torch.ones_like(self.scale)
        return self.exps

    @property
    def normaliser(self) -> Normaliser:
        return Normaliser(self.scale.squeeze(-1), self.offset.squeeze(-1))

    def at(self, tokens: Tensor) -> Tensor:
        """Log-probability of one token per row, [n]."""
        return self.shifted_at(tokens) - self.offset.squeeze(-1)

    def shifted_at(self, tokens: Tensor) -> Tensor:
        """`shifted` of one token per row, [n]."""
        return self.shifted.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)


@dataclass(frozen=True)
class Chunk:
    """Teacher's and student's distributions on some rows, and two scratch tensors of their shape.

    `p` is None where the teacher is not read, or is known by its top k alone.
    """

    p: Distribution | None
    q: Distribution
    scratch: tuple[Tensor, Tensor]

    @property
    def teacher(self) -> Distribution:
        assert self.p is not None
        return self.p


@dataclass(frozen=True)
class Slope:
    """A divergence on some rows and its slope.

    Attributes:
        value: [n].
        slope: [n, V]; ∂D/∂log q is factor · slope, up to a multiple of q.
        total: Σ slope, [n].
        factor: a number, or one a row, [n].
    """

    value: Tensor
    slope: Tensor
    total: Tensor
    factor: float | Tensor = 1.0


@dataclass(frozen=True)
class Parts:
    """What a form finds token by token: a slope as in `Slope`, and sums over the vocabulary of which its value is made.

    Attributes:
        sums: [n] each.
        slope, total, factor: as in `Slope`.
    """

    sums: tuple[Tensor, ...]
    slope: Tensor
    total: Tensor
    factor: float | Tensor = 1.0


def _as_known(like: Tensor, **known: Tensor) -> dict[str, Tensor]:
    return known


def _the_sum(p: Normaliser | None, q: Normaliser, total: Tensor, **numbers: Tensor) -> Tensor:
    return total


@dataclass(frozen=True)
class Form:
    """A divergence's closed form.

    Attributes:
        parts: (chunk, **numbers) -> `Parts`; its work is over the vocabulary.
        value: (p, q, *sums, **numbers) -> the divergence [n], p and q being the models' `Normaliser`s as `parts` left them.
        numbers: (like [n], **known) -> what both are told of each row, [n] each, made of what is known of its prefix.
    """

    parts: Callable[..., Parts]
    value: Callable[..., Tensor] = _the_sum
    numbers: Callable[..., dict[str, Tensor]] = _as_known

    def __call__(self, chunk: Chunk, **known: Tensor) -> Slope:
        numbers = self.numbers(chunk.q.scale.squeeze(-1), **known)
        found = self.parts(chunk, **numbers)
        p = None if chunk.p is None else chunk.p.normaliser
        value = self.value(p, chunk.q.normaliser, *found.sums, **numbers)
        return Slope(value, found.slope, found.total, found.factor)


SLOPES: dict[Callable[..., Tensor], Form] = {}


def slope_of(function: Callable[..., Tensor], **rest: Any) -> Callable[[Callable[..., Parts]], Callable[..., Parts]]:
    """Enter a form into `SLOPES` under the word-level function that it differentiates; `rest`: what else a `Form` has."""

    def enter(parts: Callable[..., Parts]) -> Callable[..., Parts]:
        SLOPES[function] = Form(parts, **rest)
        return parts

    return enter


def autograd_slope(function: Callable[..., Tensor], log_q: Tensor) -> Slope:
    """The slope of any function of log q [n, V] -> [n], by autograd."""
    with torch.enable_grad():
        leaf = log_q.detach().requires_grad_()
        value = function(leaf)
        if not value.requires_grad:
            return Slope(value, torch.zeros_like(log_q), torch.zeros_like(value))
        (slope,) = torch.autograd.grad(value.sum(), leaf)
    return Slope(value.detach(), slope, slope.sum(-1))


@slope_of(divergences.kl, value=lambda p, q, weighted: weighted / p.scale - p.offset + q.offset)
def _kl(chunk: Chunk) -> Parts:
    """s = -p."""
    p, q = chunk.teacher, chunk.q
    weighted = torch.sub(p.shifted, q.shifted, out=chunk.scratch[0]).mul_(p.exps).sum(-1)
    return Parts((weighted,), p.exps, p.mass.squeeze(-1), -p.scale.reciprocal().squeeze(-1))


@slope_of(divergences.reverse_kl, value=lambda p, q, total: total / q.scale - q.offset + p.offset)
def _reverse_kl(chunk: Chunk) -> Parts:
    """s = q log(q/p)."""
    p, q = chunk.teacher, chunk.q
    slope = torch.sub(q.shifted, p.shifted, out=chunk.scratch[0]).mul_(q.exps)
    total = slope.sum(-1)
    return Parts((total,), slope, total, q.scale.reciprocal().squeeze(-1))


@slope_of(divergences.tvd, value=lambda p, q, distance: 0.5 * distance)
def _tvd(chunk: Chunk) -> Parts:
    """s = ½ sign(q - p) q."""
    p, q = chunk.teacher.probs, chunk.q.probs
    difference, other = chunk.scratch
    # A compiler may contract the difference of two products: where they agree it is rounding, and its sign would be noise.
    torch.sub(q, p, out=difference).masked_fill_(q == p, 0.0)
    distance = torch.abs(difference, out=other).sum(-1)
    slope = difference.sign_().mul_(q)
    return Parts((distance,), slope, slope.sum(-1), 0.5)


@slope_of(divergences.nll, value=lambda p, q, at_token, tokens: q.offset - at_token)
def _nll(chunk: Chunk, *, tokens: Tensor) -> Parts:
    """s = -1 at the token."""
    at_token = chunk.q.shifted_at(tokens)
    slope = chunk.scratch[0].zero_().scatter_(-1, tokens.unsqueeze(-1), 1.0)
    return Parts((at_token,), slope, torch.ones_like(at_token), -1.0)


@slope_of(divergences.cross_entropy_to_teacher, value=lambda p, q, total: p.offset - total / q.scale)
def _cross_entropy_to_teacher(chunk: Chunk) -> Parts:
    """s = -q log p."""
    p, q = chunk.teacher, chunk.q
    slope = torch.mul(p.shifted, q.exps, out=chunk.scratch[0])
    total = slope.sum(-1)
    return Parts((total,), slope, total, -q.scale.reciprocal().squeeze(-1))


def _shares(like: Tensor, *, log_odds: Tensor) -> dict[str, Tensor]:
    """The two models' shares in the middle, teacher's and student's."""
    return {"teacher_share": log_odds.sigmoid(), "own_share": (-log_odds).sigmoid()}


def _fixed_shares(teacher: float, own: float) -> Callable[[Tensor], dict[str, Tensor]]:
    return lambda like: {"teacher_share": torch.full_like(like, teacher), "own_share": torch.full_like(like, own)}


def _over_middle(this: Tensor, other: Tensor, share: Tensor, chunk: Chunk) -> tuple[Tensor, Tensor]:
    """this/m and its logarithm, m = share · this + (1 - share) · other; exactly 1 and 0 where the two agree."""
    ratio, log_ratio = chunk.scratch
    floored = torch.clamp(this, min=TINY, out=ratio)
    middle = torch.lerp(other, floored, share.unsqueeze(-1), out=log_ratio)
    torch.div(floored, middle, out=ratio)
    return ratio, torch.log(ratio, out=log_ratio)


@slope_of(divergences.skew_kl, numbers=_fixed_shares(divergences.SKEW, 1 - divergences.SKEW))
@slope_of(divergences.kl_to_middle, numbers=_shares)
def _kl_to_middle(chunk: Chunk, *, teacher_share: Tensor, own_share: Tensor) -> Parts:
    """s = -(1-w) q p/m."""
    p, q = chunk.teacher.probs, chunk.q.probs
    ratio, log_ratio = _over_middle(p, q, teacher_share, chunk)
    divergence = log_ratio.mul_(p).sum(-1)
    slope = ratio.mul_(q)
    return Parts((divergence,), slope, slope.sum(-1), -own_share)


@slope_of(divergences.skew_rkl, numbers=_fixed_shares(1 - divergences.SKEW, divergences.SKEW))
@slope_of(divergences.reverse_kl_to_middle, numbers=_shares)
def _reverse_kl_to_middle(chunk: Chunk, *, teacher_share: Tensor, own_share: Tensor) -> Parts:
    """s = q (log(q/m) - (1-w) q/m)."""
    q = chunk.q.probs
    ratio, log_ratio = _over_middle(q, chunk.teacher.probs, own_share, chunk)
    divergence = log_ratio.mul_(q).sum(-1)
    slope = log_ratio.addcmul_(ratio.mul_(q), -own_share.unsqueeze(-1))
    return Parts((divergence,), slope, slope.sum(-1))


def _js_value(
    p: Normaliser, q: Normaliser, teacher_half: Tensor, own_half: Tensor, teacher_share: Tensor, own_share: Tensor
) -> Tensor:
    return -(teacher_share * teacher_half + own_share * own_half)


@slope_of(divergences.js, value=_js_value, numbers=_shares)
def _js(chunk: Chunk, *, teacher_share: Tensor, own_share: Tensor) -> Parts:
    """s = (1-w) q log(q/m)."""
    p, q = chunk.teacher.probs, chunk.q.probs
    teacher_half = _log_middle_over(p, q, teacher_share, own_share, chunk).mul_(p).sum(-1)
    slope = _log_middle_over(q, p, own_share, teacher_share, chunk).mul_(q)
    own_half = slope.sum(-1)
    return Parts((teacher_half, own_half), slope, own_half, -own_share)


def _log_middle_over(this: Tensor, other: Tensor, weight: Tensor, other_weight: Tensor, chunk: Chunk) -> Tensor:
    """log(m/this), m = weight · this + other_weight · other, whose digits are kept however the middle leans.

    Near `this` it is log1p, because estimators divide by the weight that keeps them apart; where the middle is less than half
    of `this`, it is the logarithm of a sum, in which nothing cancels.
    """
    near, far = chunk.scratch
    torch.clamp(this, min=TINY, out=far)
    torch.sub(other, this, out=near).div_(far).mul_(other_weight.unsqueeze(-1))
    torch.div(other, far, out=far).mul_(other_weight.unsqueeze(-1)).add_(weight.unsqueeze(-1))
    return torch.where(near < -0.5, far.log_(), near.log1p_())


@slope_of(divergences.hellinger, value=lambda p, q, distance: 0.5 * distance)
def _hellinger(chunk: Chunk) -> Parts:
    """s = -½ √(pq)."""
    root_p, root_q = chunk.scratch
    torch.mul(chunk.teacher.log_probs, 0.5, out=root_p).exp_()
    torch.mul(chunk.q.log_probs, 0.5, out=root_q).exp_()
    distance = (root_p - root_q).square_().sum(-1)
    slope = root_p.mul_(root_q)
    return Parts((distance,), slope, slope.sum(-1), -0.5)


@slope_of(divergences.chi2)
def _chi2(chunk: Chunk) -> Parts:
    """s = q (1 - t²) with t = p/q."""
    less_one, weighted = chunk.scratch
    torch.sub(chunk.teacher.log_probs, chunk.q.log_probs, out=less_one).expm1_()
    torch.mul(less_one, chunk.q.probs, out=weighted)
    divergence = (weighted * less_one).sum(-1)
    slope = less_one.add_(2.0).mul_(weighted)
    return Parts((divergence,), slope, slope.sum(-1), -1.0)


@slope_of(divergences.alpha, value=lambda p, q, fall: fall / (divergences.POWER * (divergences.POWER - 1)))
def _alpha(chunk: Chunk) -> Parts:
    """s = -(1/α) p^α q^(1-α)."""
    a = divergences.POWER
    power, other = chunk.scratch
    torch.lerp(chunk.q.log_probs, chunk.teacher.log_probs, a, out=power).exp_()
    torch.lerp(chunk.q.probs, chunk.teacher.probs, a, out=other)
    fall = torch.sub(power, other, out=other).sum(-1)
    return Parts((fall,), power, power.sum(-1), -1.0 / a)


@slope_of(divergences.jeffreys, value=lambda p, q, forward, backward: backward - forward)
def _jeffreys(chunk: Chunk) -> Parts:
    """s = q log(q/p) - p."""
    p = chunk.teacher.probs
    difference, other = chunk.scratch
    torch.sub(chunk.q.log_probs, chunk.teacher.log_probs, out=difference)
    forward = torch.mul(difference, p, out=other).sum(-1)
    slope = difference.mul_(chunk.q.probs)
    backward = slope.sum(-1)
    return Parts((forward, backward), slope.sub_(p), backward - (chunk.teacher.mass / chunk.teacher.scale).squeeze(-1))


def all_finite(values: Tensor) -> bool:
    """Whether no value is infinite or NaN; one small sum, because it is asked of every chunk."""
    return math.isfinite(float(values.sum()))


def apply_slope(function: Callable[..., Tensor], chunk: Chunk, known: dict[str, Any]) -> Slope:
    """The closed form where there is one and its values are finite, autograd's answer otherwise."""
    form = SLOPES.get(function)
    if form is not None:
        found = form(chunk, **known)
        if all_finite(found.value):
            return found
    log_p = None if chunk.p is None else chunk.p.log_probs
    return autograd_slope(lambda log_q: function(log_p, log_q, **known), chunk.q.log_probs)


def coarse_slope(
    function: Callable[..., Tensor], teacher: TopKRows, part: slice, chunk: Chunk, known: dict[str, Any]
) -> Slope:
    """The slope of a divergence between both models merged to the teacher's k likeliest tokens and one bucket, by autograd.

    For functions without a form, and for chunks of which `sparse` finds no numbers.
    """
    return autograd_slope(lambda log_q: function(*teacher.coarsened(log_q, part), **known), chunk.q.log_probs)
