"""Total variation, its bounds and chi-square in exact rational arithmetic: inequalities to be tested without a tolerance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from .models import TabularModel
from .tree import Tokens, prefix_tree

Row = tuple[Fraction, ...]


@dataclass(frozen=True)
class RationalModel:
    """Next-token probabilities as fractions, for every unfinished prefix."""

    rows: Mapping[Tokens, Row]
    length: int
    eos: int | None = None

    def __post_init__(self) -> None:
        for s, row in self.rows.items():
            if sum(row) != 1 or min(row) < 0:
                raise ValueError(f"the row of {s} is no distribution: {row}")
        if set(self.rows) != set(prefix_tree(len(self.rows[()]), self.length, self.eos).prefixes):
            raise ValueError("the table needs exactly the unfinished prefixes")

    @classmethod
    def from_counts(
        cls, counts: Mapping[Tokens, tuple[int, ...]], length: int, eos: int | None = None
    ) -> RationalModel:
        """Rows in proportion to non-negative integers."""
        return cls({s: tuple(Fraction(n, sum(row)) for n in row) for s, row in counts.items()}, length, eos)

    def prob(self, s: Tokens) -> Fraction:
        """P(s) of a prefix or a complete sequence."""
        out = Fraction(1)
        for t, token in enumerate(s):
            out *= self.rows[s[:t]][token]
        return out

    def sequences(self) -> list[Tokens]:
        """All complete sequences."""
        extended = [(*s, v) for s, row in self.rows.items() for v in range(len(row))]
        return [y for y in extended if y not in self.rows]

    def tabular(self) -> TabularModel:
        """The same model in floating point."""
        table = {s: [float(x) for x in row] for s, row in self.rows.items()}
        return TabularModel.from_probabilities(table, self.length, self.eos)


def tvd(p: RationalModel, q: RationalModel) -> Fraction:
    """½ Σ_y |P(y) - Q(y)|."""
    return sum((abs(p.prob(y) - q.prob(y)) for y in p.sequences()), Fraction(0)) / 2


def chi2(p: RationalModel, q: RationalModel) -> Fraction:
    """Σ_y (P - Q)²/Q; every Q(y) must be positive."""
    return sum(((p.prob(y) - q.prob(y)) ** 2 / q.prob(y) for y in p.sequences()), Fraction(0))


def chi2_by_recursion(p: RationalModel, q: RationalModel, s: Tokens = ()) -> Fraction:
    """Z(s) - 1, where Z(s) = Σ_v p²/q·Z(sv)."""
    total = Fraction(0)
    for v, (a, b) in enumerate(zip(p.rows[s], q.rows[s], strict=True)):
        onward = chi2_by_recursion(p, q, (*s, v)) + 1 if (*s, v) in p.rows else Fraction(1)
        total += a * a / b * onward
    return total - 1


def word_tvd(p: RationalModel, q: RationalModel, s: Tokens) -> Fraction:
    """tv(s)."""
    return sum((abs(a - b) for a, b in zip(p.rows[s], q.rows[s], strict=True)), Fraction(0)) / 2


def weighted(p: RationalModel, q: RationalModel, weight: Callable[[Tokens], Fraction]) -> Fraction:
    """Σ_s weight(s)·tv(s)."""
    return sum((weight(s) * word_tvd(p, q, s) for s in p.rows), Fraction(0))


def teacher_bound(p: RationalModel, q: RationalModel) -> Fraction:
    """Σ P(s) tv(s) (Wen et al., 2023, Eqn. 36)."""
    return weighted(p, q, p.prob)


def student_bound(p: RationalModel, q: RationalModel) -> Fraction:
    """Σ Q(s) tv(s) (Eqn. 37)."""
    return weighted(p, q, q.prob)


def paper_bound(p: RationalModel, q: RationalModel) -> Fraction:
    """½ Σ (P(s) + Q(s)) tv(s) (Eqn. 25)."""
    return (teacher_bound(p, q) + student_bound(p, q)) / 2


def overlap_bound(p: RationalModel, q: RationalModel) -> Fraction:
    """Σ min(P(s), Q(s)) tv(s)."""
    return weighted(p, q, lambda s: min(p.prob(s), q.prob(s)))


def product_overlap(p: RationalModel, q: RationalModel, s: Tokens) -> Fraction:
    """κ(s) = Π min(p, q) over the tokens of s, a prefix or a complete sequence."""
    out = Fraction(1)
    for t, token in enumerate(s):
        out *= min(p.rows[s[:t]][token], q.rows[s[:t]][token])
    return out


def product_bound(p: RationalModel, q: RationalModel) -> Fraction:
    """Σ κ(s) tv(s)."""
    return weighted(p, q, lambda s: product_overlap(p, q, s))


def product_complement(p: RationalModel, q: RationalModel) -> Fraction:
    """1 - Σ_y κ(y)."""
    return 1 - sum((product_overlap(p, q, y) for y in p.sequences()), Fraction(0))


def tvd_by_steps(p: RationalModel, q: RationalModel) -> list[Fraction]:
    """min(P(s), Q(s)) - Σ_v min(P(sv), Q(sv)) for every prefix; their sum is TVD."""

    def step(s: Tokens) -> Fraction:
        below = (min(p.prob((*s, v)), q.prob((*s, v))) for v in range(len(p.rows[s])))
        return min(p.prob(s), q.prob(s)) - sum(below, Fraction(0))

    return [step(s) for s in p.rows]
