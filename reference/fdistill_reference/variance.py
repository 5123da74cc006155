"""How much the full gradient varies, by the baseline of its score part: exact means and variances, by enumeration.

Of a group of N independent student samples each has the return-to-go Σ_{j>t} ℓ_j weigh ∇log q(y_t|y_<t), less a baseline. With
the others' mean return as baseline (leave-one-out) the samples no longer vary independently, but their average is a
U-statistic of pairs (Hoeffding, 1948), whose variance follows from that of one pair whatever N is.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .estimators import (
    Moments,
    js_balance_score_moments,
    js_reinforce_moments,
    moments,
    prefix_baseline,
    returns_after,
    sample_gradients,
    sequence_probs,
)
from .models import TabularModel
from .objectives import Row, Scene, objective_rows
from .stepwise import make_scene
from .tree import Array

BASELINES = (None, "value", "leave_one_out")


def full_gradient_moments(
    name: str, p: TabularModel, q: TabularModel, group: int = 2, baseline: str | None = None, **options: Any
) -> Moments:
    """Of the full gradient, averaged over `group` independent sequences from each source of the objective.

    Args:
        baseline: of student rows: None; "value", the expected return of the prefix, which a perfect critic would know;
            "leave_one_out", the mean return at the same step of the group's other samples.
    """
    if baseline not in BASELINES:
        raise ValueError(f"baseline={baseline!r} is none of {', '.join(map(repr, BASELINES))}")
    scene = make_scene(p, q)
    mean, variance = np.zeros(q.logits.shape), 0.0
    for row in objective_rows(name, scene, **options):
        if row.source == "student" and baseline == "leave_one_out":
            part = leave_one_out_moments(scene, row, q, group)
        else:
            value = prefix_baseline(q, expected_returns(row, q)) if baseline and row.source == "student" else None
            one = moments(sequence_probs(scene, p, q, row.source), sample_gradients(scene, row, q, "full", value))
            part = averaged(one, group)
        mean, variance = mean + part.mean, variance + part.variance
    return Moments(mean, variance)


def averaged(one: Moments, group: int) -> Moments:
    """Of the mean of `group` independent draws."""
    return Moments(one.mean, one.variance / group)


def leave_one_out_moments(scene: Scene, row: Row, q: TabularModel, group: int) -> Moments:
    """Of a student row's full gradient over `group` samples with the leave-one-out baseline.

    With a_i a sample's gradient without baseline and b_ij = Σ_t ∇log q(y_i,t|y_i,<t)·(return of y_j after t), the average is the
    mean over pairs of h_ij = (a_i + a_j - b_ij - b_ji)/2, so its variance is (4 (N-2) Var E[h|y_i] + 2 Var h)/(N (N-1)).
    """
    if group < 2:
        raise ValueError(f"leave-one-out needs a group of at least 2, not {group}")
    probs = np.exp(q.sequence_log_probs())
    alone = sample_gradients(scene, row, q, "full").reshape(len(probs), -1)
    crossed = np.einsum("itd,jt->ijd", step_scores(q), _returns(row, q))
    pairs = (alone[:, None] + alone[None] - crossed - crossed.swapaxes(0, 1)) / 2
    by_one = moments(probs, np.einsum("j,ijd->id", probs, pairs))
    by_two = moments(np.outer(probs, probs).reshape(-1), pairs.reshape(len(probs) ** 2, -1))
    variance = (4 * (group - 2) * by_one.variance + 2 * by_two.variance) / (group * (group - 1))
    return Moments(by_one.mean.reshape(q.logits.shape), variance)


def step_scores(q: TabularModel) -> Array:
    """[S, T, N·V], ∇log q(y_t|y_<t) with respect to the logits, by step of every complete sequence."""
    batch = q.batch()
    out = np.zeros((*batch.tokens.shape, *q.logits.shape))
    which, step = np.nonzero(batch.mask)
    rows = batch.rows[which, step]
    out[which, step, rows] = -np.exp(q.log_probs[rows])
    out[which, step, rows, batch.tokens[which, step]] += 1
    return out.reshape(*batch.tokens.shape, -1)


def expected_returns(row: Row, q: TabularModel) -> Array:
    """[N], E[Σ_{j>t} ℓ_j | y_<t] of every prefix y_<t when the student goes on writing, by backward recursion."""
    tree, returns = q.tree, np.zeros(q.tree.size)
    ahead = np.where(np.isfinite(row.losses), row.losses, 0.0)
    for level in reversed(tree.levels()[:-1]):
        child = tree.child[level]
        going_on = np.where(child >= 0, np.exp(q.log_probs[level]), 0.0)
        returns[level] = (going_on * (ahead + returns)[child]).sum(-1)
    return returns


def js_estimators(p: TabularModel, q: TabularModel, teacher_weight: float = 0.5, budget: int = 2) -> dict[str, Moments]:
    """Unbiased estimators of ∇JS by name, each from `budget` sequences (an even number): half by either model, or all by one."""
    exact: dict[str, Any] = {"teacher_weight": teacher_weight, "middle": "sequence"}

    def one_sided(source: str, baseline: str | None = None) -> Moments:
        return full_gradient_moments("js", p, q, budget, baseline, estimator=source, **exact)

    return {
        "step-wise balance + score": averaged(js_balance_score_moments(p, q, teacher_weight), budget // 2),
        "teacher only": one_sided("teacher"),
        "student only": one_sided("student"),
        "student only, leave-one-out": one_sided("student", "leave_one_out"),
        "balance": full_gradient_moments("js", p, q, budget // 2, estimator="balance", **exact),
        "halves": full_gradient_moments("js", p, q, budget // 2, **exact),
        "REINFORCE": averaged(js_reinforce_moments(p, q, teacher_weight), budget),
    }


def _returns(row: Row, q: TabularModel) -> Array:
    batch = q.batch()
    return returns_after(row.losses[batch.rows] * batch.mask)
