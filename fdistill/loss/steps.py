"""The terms of an objective on rows: what each row knows of its prefix, and the value of every term on it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fdistill.loss.contract import Batch
from fdistill.loss.rows import ALL, StudentRows, TeacherRows, TopKRows, at_tokens, scatter, select
from fdistill.loss.slopes import Chunk, Slope, all_finite, apply_slope, coarse_slope
from fdistill.objectives import Term
from fdistill.prefix import Prefix, prefix_statistics


@dataclass(frozen=True)
class TermRows:
    """One term with what its rows know: `factor` [N] (weight · prefix weight) and the keyword arguments [N] of its function."""

    term: Term
    factor: Tensor | None
    knowledge: dict[str, Tensor]

    def value(self, teacher: TeacherRows | None, log_p: Tensor | None, log_q: Tensor, part: slice = ALL) -> Tensor:
        """Weighted value of the term on some rows, [n].

        Args:
            teacher: the teacher's rows, asked only where they are top-k.
            log_p: teacher log-probabilities of the part [n, V]; None without a dense teacher.
            log_q: student log-probabilities of the part [n, V].
        """
        if isinstance(teacher, TopKRows) and self.term.function.needs_teacher:
            log_p, log_q = teacher.coarsened(log_q, part)
        known = self.known(part)
        value = self.term.function.function(log_p, log_q, **known)
        if self.factor is None:
            return value if self.term.weight == 1.0 else self.term.weight * value
        # A weight of 0 ends the matter, also where the value it multiplies is infinite.
        factor = self.factor[part]
        return factor * value.masked_fill(factor == 0, 0.0)

    def known(self, part: slice) -> dict[str, Tensor]:
        """The keyword arguments of the term's function on some rows, [n] each."""
        return {name: values[part] for name, values in self.knowledge.items()}

    def factor_of(self, part: slice, like: Tensor) -> Tensor:
        """Weight · prefix weight of some rows, [n], in the dtype of `like`."""
        if self.factor is not None:
            return self.factor[part]
        return torch.full_like(like[part], self.term.weight)

    def prefix_numbers(self) -> list[Tensor]:
        """What the rows' prefixes decide: factor and keyword arguments, [N] each."""
        known = [values for name, values in self.knowledge.items() if name != "tokens"]
        return known if self.factor is None else [self.factor, *known]

    def slope(self, teacher: TeacherRows | None, chunk: Chunk, part: slice) -> Slope:
        """Weighted value of the term on some rows, [n], and its slope in the student's log-probabilities, [n, V]."""
        known = self.known(part)
        function = self.term.function.function
        if isinstance(teacher, TopKRows) and self.term.function.needs_teacher:
            found = coarse_slope(function, teacher, part, chunk, known)
        else:
            found = apply_slope(function, chunk, known)
        if self.factor is None:
            return replace(found, value=self.term.weight * found.value, factor=self.term.weight * found.factor)
        factor = self.factor[part]
        if not all_finite(found.value):
            dead = factor == 0
            slope, total = found.slope.masked_fill(dead.unsqueeze(-1), 0.0), found.total.masked_fill(dead, 0.0)
            found = Slope(found.value.masked_fill(dead, 0.0), slope, total, found.factor)
        return replace(found, value=factor * found.value, factor=factor * found.factor)


def term_rows(batch: Batch, tokens: Tensor, index: Tensor | None, prefix: Prefix | None) -> list[TermRows]:
    """What every term of the batch's source knows of each row."""
    out = []
    for term in batch.objective.terms_of(batch.source):
        knowledge: dict[str, Tensor] = {}
        if "tokens" in term.function.row_values:
            knowledge["tokens"] = tokens
        if prefix is not None and "log_ratio" in term.function.row_values:
            knowledge["log_ratio"] = select(prefix.log_ratio, index)
        if "log_odds" in term.function.row_values:
            knowledge["log_odds"] = _log_odds(batch, term, index, prefix)
        factor = None
        if prefix is not None and term.needs_prefix:
            weight = torch.ones_like(prefix.log_ratio) if term.prefix_weight is None else term.prefix_weight(prefix)
            if prefix.reachable is not None:
                weight = weight.masked_fill(~prefix.reachable, 0.0)
            factor = term.weight * select(weight, index)
        out.append(TermRows(term, factor, knowledge))
    return out


def _log_odds(batch: Batch, term: Term, index: Tensor | None, prefix: Prefix | None) -> Tensor:
    if callable(term.log_odds):
        assert prefix is not None
        return select(term.log_odds(prefix), index)
    odds = torch.full(batch.mask.shape, float(term.log_odds or 0.0), dtype=batch.dtype, device=batch.mask.device)
    return select(odds, index)


def batch_prefix(batch: Batch, index: Tensor | None, token_log_p: Tensor | None, token_log_q: Tensor) -> Prefix | None:
    """Prefix statistics of the batch where a term reads them; constants unless the gradient is full.

    Args:
        token_log_p: teacher log-probability of every unmasked token, [N].
        token_log_q: the student's, [N].
    """
    if not batch.objective.needs_prefix(batch.source):
        return None
    assert token_log_p is not None
    prefix = prefix_statistics(
        scatter(token_log_p, index, batch.mask), scatter(token_log_q, index, batch.mask), batch.mask, batch.documents
    )
    return prefix if batch.full else prefix.detach()


def teacher_token_log_probs(teacher: TeacherRows | None, log_p: Tensor | None, tokens: Tensor) -> Tensor | None:
    """Teacher log-probability of every row's token: exact also for a top-k teacher."""
    if isinstance(teacher, TopKRows):
        return teacher.token_log_probs
    return None if log_p is None else at_tokens(log_p, tokens)


def pair_log_probs(
    student: StudentRows, teacher: TeacherRows | None, part: slice = ALL
) -> tuple[Tensor | None, Tensor]:
    """(log_p, log_q) of some rows; log_p is None where there is no dense teacher."""
    with torch.no_grad():
        log_p = None if teacher is None or isinstance(teacher, TopKRows) else teacher.log_probs(part)
    return log_p, student.log_probs(part)
