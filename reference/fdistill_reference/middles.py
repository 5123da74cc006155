"""Jensen-Shannon and its middle distribution: the exact one (Wen et al., 2023, Eqn. 12), the token one (Eqn. 11), and between.

M = πP + (1-π)Q is a mixture of whole sequences. Its next-token conditional is w(s)·p + (1-w(s))·q with w(s) the posterior
probability that the teacher wrote the prefix s, so it needs nothing beyond the log ratio of the prefix.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import xlogy

from . import words
from .models import TabularModel
from .prefixes import Prefixes, clipped
from .tree import Array
from .words import log_middle, log_odds_of, log_sigmoid, times


def binary_entropy(weight: ArrayLike) -> Array:
    """h(w) = -w log w - (1-w) log(1-w); h(π) is the largest JS there is, log 2 at π = ½."""
    w = np.asarray(weight, float)
    return -xlogy(w, w) - xlogy(1 - w, 1 - w)


def log_odds(
    p: TabularModel,
    q: TabularModel,
    teacher_weight: float = 0.5,
    tau: float = 1.0,
    memory: float = 1.0,
    clip: float = np.inf,
) -> Array:
    """[N], logit π + τ·log r(s): tempered (τ), forgetful (memory) and clipped posteriors of who wrote the prefix."""
    ratio = clipped(Prefixes(p, q).log_ratio(memory), clip)
    return log_odds_of(teacher_weight) + (tau * ratio if tau else np.zeros_like(ratio))


def middle_model(p: TabularModel, q: TabularModel, teacher_weight: float = 0.5) -> TabularModel:
    """M as a model of its own, each conditional M(sv)/M(s) (Eqn. 12); where M cannot write a prefix, the token middle."""
    prefixes = Prefixes(p, q)
    whole = log_middle(
        prefixes.log_teacher[:, None] + p.log_probs,
        prefixes.log_student[:, None] + q.log_probs,
        log_odds=np.full(p.logits.shape, log_odds_of(teacher_weight))[:, 0],
    )
    reachable = prefixes.middle(teacher_weight) > 0
    return p.with_logits(np.where(reachable[:, None], whole, token_middle_model(p, q, teacher_weight).log_probs))


def posterior_middle_model(p: TabularModel, q: TabularModel, teacher_weight: float = 0.5) -> TabularModel:
    """M again, its conditionals formed from the posterior weight of the prefix."""
    return p.with_logits(log_middle(p.log_probs, q.log_probs, log_odds=log_odds(p, q, teacher_weight)))


def token_middle_model(p: TabularModel, q: TabularModel, teacher_weight: float = 0.5) -> TabularModel:
    """M̃, which flips the coin anew at every token (Eqn. 11), where M flips it once."""
    odds = np.full(len(p.logits), log_odds_of(teacher_weight))
    return p.with_logits(log_middle(p.log_probs, q.log_probs, log_odds=odds))


def js_as_information(p: TabularModel, q: TabularModel, teacher_weight: float = 0.5) -> float:
    """H(π) - E_M h(w(Y)): the mutual information between who writes and what is written."""
    log_p, log_q = p.sequence_log_probs(), q.sequence_log_probs()
    together = teacher_weight * np.exp(log_p) + (1 - teacher_weight) * np.exp(log_q)
    odds = log_odds_of(teacher_weight) + words.log_fraction(log_p, log_q)
    left = times(together, binary_entropy(np.exp(log_sigmoid(odds)))).sum()
    return float(binary_entropy(teacher_weight) - left)


def js_chain(p: TabularModel, q: TabularModel, teacher_weight: float = 0.5) -> Array:
    """[N], M(s)·JS_{w(s)}(p, q): the chain rule of that information, prefix by prefix."""
    local = words.js(p.log_probs, q.log_probs, log_odds=log_odds(p, q, teacher_weight))
    return times(Prefixes(p, q).middle(teacher_weight), local)


def middle_gap(p: TabularModel, q: TabularModel, log_odds_used: Array, teacher_weight: float = 0.5) -> float:
    """Σ_s M(s) KL(m(·|s)‖m'(·|s)): what another middle weight in both halves adds to the exact JS."""
    exact = log_middle(p.log_probs, q.log_probs, log_odds=log_odds(p, q, teacher_weight))
    used = log_middle(p.log_probs, q.log_probs, log_odds=log_odds_used)
    return float(times(Prefixes(p, q).middle(teacher_weight), words.kl(exact, used)).sum())


def authors_js(p: TabularModel, q: TabularModel, beta: float = 0.5) -> float:
    """The published code's β: β KL(q‖m) + (1-β) KL(p‖m) with m = βq + (1-β)p at every token, so β = 1 - π."""
    middle = np.log(beta * np.exp(q.log_probs) + (1 - beta) * np.exp(p.log_probs))
    prefixes = Prefixes(p, q)
    from_student = times(prefixes.student, words.kl(q.log_probs, middle)).sum()
    from_teacher = times(prefixes.teacher, words.kl(p.log_probs, middle)).sum()
    return float(beta * from_student + (1 - beta) * from_teacher)


def gkd_divergence(p: TabularModel, q: TabularModel, teacher_weight: float = 0.5, source: str = "teacher") -> float:
    """Generalised knowledge distillation: both KLs to the token middle on the *same* prefix. No bound of JS on either side."""
    odds = np.full(len(p.logits), log_odds_of(teacher_weight))
    prefixes = Prefixes(p, q)
    probs = prefixes.student if source == "student" else prefixes.teacher
    return float(times(probs, words.js(p.log_probs, q.log_probs, log_odds=odds)).sum())


def skew_chain(p: TabularModel, q: TabularModel, alpha: float = 0.1) -> float:
    """KL(P‖αP + (1-α)Q) step by step: Σ P(s) KL(p‖m), m with the posterior weight of prior α."""
    local = words.kl_to_middle(p.log_probs, q.log_probs, log_odds=log_odds(p, q, alpha))
    return float(times(Prefixes(p, q).teacher, local).sum())
