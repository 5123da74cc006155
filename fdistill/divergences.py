"""Word-level divergences: pure functions of two next-token distributions, teacher first, rows in, rows out.

Every function takes log-probabilities of shape [..., V] and returns values in nats (or no unit where bounded by 1) of
shape [...]. What a row knows beside its two distributions is a keyword argument that the function names:

* ``tokens``: the token that was sampled, int64 [...];
* ``log_odds``: the log odds w : (1 - w) of the middle m = w p + (1 - w) q, [...];
* ``log_ratio``: log P(prefix) / Q(prefix), [...].

Zero probabilities (log-probability -inf) are allowed: 0 log 0 is 0, and a divergence that is infinite says inf. Nothing
here knows about masks, chunks, devices or reductions. Adding a divergence is one decorated function.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fdistill.errors import ObjectiveError, closest

if TYPE_CHECKING:
    from torch import Tensor

ROW_VALUES = ("tokens", "log_odds", "log_ratio")

#: α of the skewed divergences and of the alpha divergence, where a term names no other.
SKEW, POWER = 0.1, 0.5


@dataclass(frozen=True)
class Divergence:
    """A registered word-level function and the facts about it that others read.

    Attributes:
        name: what `Term` and `fdistill objectives` call it.
        function: ``(log_p, log_q, **row_values) -> values``.
        formula: how people write it.
        generator: its convex generator f(t) with D = Σ q f(p/q), or None where it is none.
        upper_bound: the largest value it can take, or None.
        symmetric: whether swapping p and q changes nothing.
        needs_teacher: whether it reads log_p at all.
        coarsens: whether merging tokens into buckets never raises it (data processing), so that a top-k teacher will do.
        row_values: which of `ROW_VALUES` it takes.
    """

    name: str
    function: Callable[..., Tensor]
    formula: str
    generator: str | None = None
    upper_bound: float | None = None
    symmetric: bool = False
    needs_teacher: bool = True
    coarsens: bool = True
    row_values: tuple[str, ...] = ()


DIVERGENCES: dict[str, Divergence] = {}


def row_values_of(function: Callable[..., Tensor]) -> tuple[str, ...]:
    """Return which of `ROW_VALUES` a function takes, from its signature."""
    parameters = inspect.signature(function).parameters
    return tuple(name for name in ROW_VALUES if name in parameters)


def register(**facts) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Enter a word-level function into `DIVERGENCES` under its own name, with the facts of `Divergence`."""

    def enter(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        name = function.__name__
        DIVERGENCES[name] = Divergence(name, function, row_values=row_values_of(function), **facts)
        return function

    return enter


def divergence(what: str | Callable[..., Tensor] | Divergence) -> Divergence:
    """Return the registered divergence of that name, or wrap a function of the user's.

    A bare function is taken to need the teacher and is refused for top-k teachers, because merging tokens does not
    lower every function of (p, q); wrap it in `Divergence(..., coarsens=True)` if it does lower yours.

    Raises:
        ObjectiveError: no divergence has that name.
    """
    if isinstance(what, Divergence):
        return what
    if callable(what):
        name = getattr(what, "__name__", type(what).__name__)
        return Divergence(name, what, formula=name, coarsens=False, row_values=row_values_of(what))
    if what not in DIVERGENCES:
        raise ObjectiveError(
            f"unknown divergence {what!r}.{closest(what, DIVERGENCES)} Known: {', '.join(DIVERGENCES)}."
        )
    return DIVERGENCES[what]


def _expectation(probs: Tensor, values: Tensor) -> Tensor:
    """Σ probs · values over the vocabulary with 0 · (anything, inf and NaN too) = 0, in gradients as well."""
    return (probs * values.masked_fill(probs == 0, 0.0)).sum(-1)


@register(formula="Σ p log(p/q)", generator="t log t")
def kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the student from the teacher, in nats.

    Args:
        log_p: teacher log-probabilities, shape [..., V].
        log_q: student log-probabilities, shape [..., V].

    Returns:
        Shape [...], in [0, inf].

    Source: Wen et al. (2023), Eqn. 6, one step; the teacher's entropy is included, so identical models give 0.
    """
    return _expectation(log_p.exp(), log_p - log_q)


@register(formula="Σ q log(q/p)", generator="-log t")
def reverse_kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Reverse Kullback-Leibler divergence, in nats, shape [...], in [0, inf].

    Source: Wen et al. (2023), Eqn. 7, one step.
    """
    return _expectation(log_q.exp(), log_q - log_p)


@register(formula="½ Σ |p - q|", generator="½|t - 1|", upper_bound=1.0, symmetric=True)
def tvd(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Total variation distance between next-token distributions, shape [...], in [0, 1], no unit.

    Source: Wen et al. (2023), Eqn. 9, applied to one step.
    """
    return 0.5 * (log_p.exp() - log_q.exp()).abs().sum(-1)


@register(formula="-log q(y)", needs_teacher=False, coarsens=False)
def nll(log_p: Tensor | None, log_q: Tensor, *, tokens: Tensor) -> Tensor:
    """Negative log-likelihood of the sampled token under the student, in nats, shape [...].

    Source: Wen et al. (2023), Eqn. 3 (SeqKD) and ordinary maximum likelihood.
    """
    return -log_q.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)


@register(formula="-Σ q log p", coarsens=False)
def cross_entropy_to_teacher(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Expected negative teacher log-probability of the student's next token, in nats, shape [...].

    It is reverse KL without the student's entropy: not zero at p = q, and biased by merging tokens.

    Source: ENGINE (Tu et al., 2020), as in Wen et al. (2023), section 2.
    """
    return _expectation(log_q.exp(), -log_p)


def _log_middle_over(log_this: Tensor, log_other: Tensor, log_odds_this: Tensor) -> Tensor:
    """log(m / this) with m = w·this + (1-w)·other; exactly 0 where the two agree, whatever w.

    With d = log(other/this) and o = log(w/(1-w)) it is softplus(d - o) - softplus(-o).
    """
    from torch.nn.functional import softplus

    both_zero = (log_this == -math.inf) & (log_other == -math.inf)
    difference = (log_other - log_this).masked_fill(both_zero, 0.0)
    # inf - inf where w is 0; the weight of such a prefix is 0 too.
    odds = log_odds_this.clamp(min=-1e4).unsqueeze(-1)
    return softplus(difference - odds, threshold=40.0) - softplus(-odds, threshold=40.0)


@register(formula="Σ p log(p/m), m = w p + (1-w) q")
def kl_to_middle(log_p: Tensor, log_q: Tensor, *, log_odds: Tensor) -> Tensor:
    """The teacher's half of a Jensen-Shannon step, KL(p‖m), in nats, shape [...], in [0, -log w].

    Args:
        log_p: teacher log-probabilities, shape [..., V].
        log_q: student log-probabilities, shape [..., V].
        log_odds: log w - log(1-w) of the middle's teacher weight w, shape [...].

    Source: Wen et al. (2023), Eqn. 8; the middle's weight is Eqn. 11's or Eqn. 12's, as the caller says.
    """
    return -_expectation(log_p.exp(), _log_middle_over(log_p, log_q, log_odds))


@register(formula="Σ q log(q/m), m = w p + (1-w) q")
def reverse_kl_to_middle(log_p: Tensor, log_q: Tensor, *, log_odds: Tensor) -> Tensor:
    """The student's half of a Jensen-Shannon step, KL(q‖m), in nats, shape [...], in [0, -log(1-w)].

    Source: Wen et al. (2023), Eqn. 8, with `log_odds` as in `kl_to_middle`.
    """
    return -_expectation(log_q.exp(), _log_middle_over(log_q, log_p, -log_odds))


@register(formula="w KL(p‖m) + (1-w) KL(q‖m)", upper_bound=math.log(2.0))
def js(log_p: Tensor, log_q: Tensor, *, log_odds: Tensor) -> Tensor:
    """Jensen-Shannon divergence with teacher weight w on one prefix, in nats, shape [...], in [0, log 2].

    Source: the chain rule of the exact sequence-level JS (Wen et al., 2023, Eqns. 12 and 14), one step.
    """
    teacher_half = kl_to_middle(log_p, log_q, log_odds=log_odds)
    student_half = reverse_kl_to_middle(log_p, log_q, log_odds=log_odds)
    return log_odds.sigmoid() * teacher_half + (-log_odds).sigmoid() * student_half


@register(formula="½ Σ (√p - √q)²", generator="½(√t - 1)²", upper_bound=1.0, symmetric=True)
def hellinger(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Squared Hellinger distance, shape [...], in [0, 1], no unit."""
    return 0.5 * ((0.5 * log_p).exp() - (0.5 * log_q).exp()).square().sum(-1)


@register(formula="Σ (p - q)²/q", generator="(t - 1)²")
def chi2(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Pearson chi-square divergence of p from q, shape [...], in [0, inf], no unit."""
    absent = log_q == -math.inf
    ratio = (log_p - log_q).masked_fill(absent, 0.0)
    value = (log_q.exp() * ratio.expm1().square()).masked_fill(absent & (log_p > -math.inf), math.inf)
    return value.sum(-1)


@register(formula="(Σ p^α q^(1-α) - 1)/(α(α-1))", generator="(t^α - αt + α - 1)/(α(α-1))")
def alpha(log_p: Tensor, log_q: Tensor, *, alpha: float = POWER) -> Tensor:
    """Alpha divergence (Cressie-Read power divergence), shape [...], ≥ 0, no unit; α other than 0 and 1."""
    absent = (log_p == -math.inf) & (log_q == -math.inf)
    power = (alpha * log_p + (1 - alpha) * log_q).masked_fill(absent, -math.inf).exp()
    return (power - alpha * log_p.exp() - (1 - alpha) * log_q.exp()).sum(-1) / (alpha * (alpha - 1))


@register(formula="Σ p log(p/(αp + (1-α)q))", generator="t log(t/(αt + 1 - α))")
def skew_kl(log_p: Tensor, log_q: Tensor, *, alpha: float = SKEW) -> Tensor:
    """Skewed KL, KL(p ‖ αp + (1-α)q), in nats, shape [...], in [0, -log α] (DistiLLM, Ko et al., 2024)."""
    return kl_to_middle(log_p, log_q, log_odds=constant_log_odds(log_q, alpha))


@register(formula="Σ q log(q/(αq + (1-α)p))", generator="-log(α + (1-α)t)")
def skew_rkl(log_p: Tensor, log_q: Tensor, *, alpha: float = SKEW) -> Tensor:
    """Skewed reverse KL, KL(q ‖ αq + (1-α)p), in nats, shape [...], in [0, -log α] (DistiLLM, Ko et al., 2024)."""
    return reverse_kl_to_middle(log_p, log_q, log_odds=-constant_log_odds(log_q, alpha))


@register(formula="Σ (p - q) log(p/q)", generator="(t - 1) log t", symmetric=True)
def jeffreys(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Jeffreys divergence, KL + reverse KL, in nats, shape [...], in [0, inf]."""
    return kl(log_p, log_q) + reverse_kl(log_p, log_q)


def constant_log_odds(like: Tensor, weight: float) -> Tensor:
    """log odds of one weight for every row of `like` [..., V], shape [...]."""
    return like.new_full(like.shape[:-1], math.log(weight) - math.log1p(-weight))
