"""Bounded estimates of sequence-level JS and TVD at any length, from teacher and student samples, with honest intervals.

Written as expectations under M = πP + (1-π)Q, both average a function of log P(y)/Q(y) that lies in a fixed interval, so
Hoeffding's inequality gives intervals whose width does not depend on the length.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .generators import Generator, open_unit
from .middles import binary_entropy
from .tree import Array
from .words import log_odds_of, log_sigmoid


class Estimate(NamedTuple):
    """A mean and the ends of its confidence interval."""

    value: float
    low: float
    high: float


def js_scores(log_ratio: Array, teacher_weight: float = 0.5) -> Array:
    """H(π) - h(w(y)): JS is their mean under M. They lie in [H(π) - log 2, H(π)]."""
    w = np.exp(log_sigmoid(log_odds_of(teacher_weight) + np.asarray(log_ratio)))
    return binary_entropy(teacher_weight) - binary_entropy(w)


def tvd_scores(log_ratio: Array, teacher_weight: float = 0.5) -> Array:
    """|P - Q|/(2M) = ½ |w/π - (1-w)/(1-π)|, which is |2w - 1| at π = ½: TVD is their mean under M."""
    odds = log_odds_of(teacher_weight) + np.asarray(log_ratio)
    teacher, student = np.exp(log_sigmoid(odds)), np.exp(log_sigmoid(-odds))
    return abs(teacher / teacher_weight - student / (1 - teacher_weight)) / 2


def f_scores(log_ratio: Array, generator: Generator) -> Array:
    """f(P/Q): D_f is their mean under Q wherever P ≪ Q. Not bounded in general."""
    return generator.perspective(np.exp(log_ratio), np.ones_like(log_ratio))


def hoeffding_half_width(
    span: float, teacher_count: int, student_count: int, teacher_weight: float = 0.5, level: float = 0.95
) -> float:
    """Half the width of an interval for π·mean + (1-π)·mean of independent scores that span at most `span`."""
    spread = teacher_weight**2 / teacher_count + (1 - teacher_weight) ** 2 / student_count
    return float(span * np.sqrt(spread * np.log(2 / (1 - level)) / 2))


def estimate_js(
    teacher_log_ratios: Array, student_log_ratios: Array, teacher_weight: float = 0.5, level: float = 0.95
) -> Estimate:
    """JS from log P(y)/Q(y) at teacher samples and at student samples."""
    pi = open_unit(teacher_weight, "teacher_weight", "there JS is 0")
    value = _mixed_mean(js_scores, teacher_log_ratios, student_log_ratios, pi)
    half = hoeffding_half_width(np.log(2), len(teacher_log_ratios), len(student_log_ratios), pi, level)
    return Estimate(value, max(0.0, value - half), min(float(binary_entropy(pi)), value + half))


def estimate_tvd(
    teacher_log_ratios: Array, student_log_ratios: Array, teacher_weight: float = 0.5, level: float = 0.95
) -> Estimate:
    """TVD likewise; π is the share of teacher samples, and ½ gives the narrowest interval."""
    pi = open_unit(teacher_weight, "teacher_weight", "samples of both models are needed")
    value = _mixed_mean(tvd_scores, teacher_log_ratios, student_log_ratios, pi)
    span = max(1 / pi, 1 / (1 - pi)) / 2
    half = hoeffding_half_width(span, len(teacher_log_ratios), len(student_log_ratios), pi, level)
    return Estimate(value, max(0.0, value - half), min(1.0, value + half))


def _mixed_mean(scores, teacher_log_ratios: Array, student_log_ratios: Array, pi: float) -> float:
    teacher, student = (scores(x, pi).mean() for x in (teacher_log_ratios, student_log_ratios))
    return float(pi * teacher + (1 - pi) * student)
