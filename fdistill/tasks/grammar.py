"""Stochastic expressions over words, with exact probabilities: finite trees of words, sequences and weighted choices.

A sentence may have several derivations; `probability` sums over all of them by the forward algorithm.
"""

from __future__ import annotations

import math
import random
import re
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache

TOKEN = re.compile(r"[^\s.,]+|[.,]")


@dataclass(frozen=True)
class Words:
    """These tokens, one after the other."""

    tokens: tuple[str, ...]


@dataclass(frozen=True)
class Sequence:
    """The parts one after the other, chosen independently."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True)
class Choice:
    """One of the options, by probability."""

    options: tuple[tuple[float, Expression], ...]


Expression = Words | Sequence | Choice
Part = Expression | str  # a text stands for its words


@lru_cache
def words(text: str) -> Words:
    return Words(tuple(tokens(text)))


def sequence(*parts: Part) -> Sequence:
    return Sequence(tuple(words(part) if isinstance(part, str) else part for part in parts))


def choice(*options: tuple[float, Part]) -> Choice:
    """A choice by weights, which need not sum to one."""
    total = math.fsum(weight for weight, _ in options)
    return Choice(tuple((weight / total, words(o) if isinstance(o, str) else o) for weight, o in options))


def tokens(text: str) -> list[str]:
    """Words and punctuation marks."""
    return TOKEN.findall(text)


def text_of(parts: list[str] | tuple[str, ...]) -> str:
    """The inverse of `tokens`: one space between words, none before punctuation."""
    return re.sub(r" ([.,])", r"\1", " ".join(parts))


def draw(expression: Expression, rng: random.Random) -> list[str]:
    """The tokens of one random derivation."""
    match expression:
        case Words(own):
            return list(own)
        case Sequence(parts):
            return [token for part in parts for token in draw(part, rng)]
        case Choice(options):
            point = rng.random()
            for probability_, option in options:
                point -= probability_
                if point < 0:
                    return draw(option, rng)
            return draw(options[-1][1], rng)


def probability(expression: Expression, sentence: list[str]) -> float:
    """The total probability of all derivations of exactly these tokens."""
    return _forward(expression, sentence, {0: 1.0}).get(len(sentence), 0.0)


def _forward(expression: Expression, sentence: list[str], reached: dict[int, float]) -> dict[int, float]:
    """From {position: probability of having written the tokens before it} to the same after `expression`."""
    match expression:
        case Words(own):
            ends = {start: start + len(own) for start in reached}
            return {end: reached[start] for start, end in ends.items() if tuple(sentence[start:end]) == own}
        case Sequence(parts):
            for part in parts:
                if not reached:
                    break
                reached = _forward(part, sentence, reached)
            return reached
        case Choice(options):
            total: dict[int, float] = defaultdict(float)
            for weight, option in options:
                for end, mass in _forward(option, sentence, reached).items():
                    total[end] += weight * mass
            return dict(total)


def enumerate_all(expression: Expression) -> dict[tuple[str, ...], float]:
    """Every sentence with its total probability."""
    match expression:
        case Words(own):
            return {own: 1.0}
        case Sequence(parts):
            result: dict[tuple[str, ...], float] = {(): 1.0}
            for part in parts:
                endings = enumerate_all(part)
                longer: dict[tuple[str, ...], float] = defaultdict(float)
                for start, mass in result.items():
                    for end, weight in endings.items():
                        longer[start + end] += mass * weight
                result = longer
            return dict(result)
        case Choice(options):
            total: dict[tuple[str, ...], float] = defaultdict(float)
            for weight, option in options:
                for sentence, mass in enumerate_all(option).items():
                    total[sentence] += weight * mass
            return dict(total)
