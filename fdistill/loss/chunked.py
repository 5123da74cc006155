"""Value and gradient a few rows at a time: the loss's gradient is formed in the forward pass and only it is kept.

A row's factor in the loss is known before the row is read (step-wise gradients hold functions of the prefix constant), so
each chunk is softmaxed, evaluated and differentiated (`slopes`) while it sits in the cache, and no [N, V] tensor exists
beside the logits' own gradient; behind a head (`LinearLogits`) not even that, and a block's logits give way to their gradient.
Where the caller asks for it, `kernels` take whole blocks on CUDA and `compiled` the chunks elsewhere; a top-k teacher's chunks
go to `sparse`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fdistill.loss import kernels
from fdistill.loss.compiled import fused_chunks, rows_of_chunk
from fdistill.loss.gradients import DenseGradient, HeadGradient, student_inputs
from fdistill.loss.rows import DenseRows, LinearRows, StudentRows, TeacherRows, TopKRows, at_tokens
from fdistill.loss.slopes import Chunk, Distribution, all_finite
from fdistill.loss.sparse import sparse_chunks
from fdistill.loss.steps import TermRows

#: Elements of one chunk of log-probabilities: small enough for a core's cache on CPU, large enough to fill a GPU.
CHUNK_ELEMENTS = {"cpu": 1 << 18, "cuda": 1 << 26}

#: Logits of one block of rows behind a head: a matrix product wants more rows at once than a softmax does.
HEAD_ELEMENTS = {"cpu": 1 << 23, "cuda": 1 << 27}

#: From the token log-probabilities known so far, teacher's and student's [N], to the terms' rows.
Terms = Callable[[Tensor | None, Tensor], list[TermRows]]


@dataclass(frozen=True)
class RowResults:
    """What a pass over the rows leaves, detached, [N] each: a value per term, both models' token log-probabilities, entropy.

    `token_log_p` is None where nobody asked.
    """

    terms: list[Tensor]
    token_log_p: Tensor | None
    token_log_q: Tensor
    entropy: Tensor


def chunks(rows: int, vocab_size: int, device: torch.device, first: int = 0) -> Iterator[slice]:
    """Slices of as many rows as a chunk holds, from row `first` on."""
    return _slices(rows, _chunk_rows(vocab_size, device), first)


def _chunk_rows(vocab_size: int, device: torch.device) -> int:
    return max(1, CHUNK_ELEMENTS.get(device.type, 1 << 22) // vocab_size)


def _slices(rows: int, size: int, first: int = 0) -> Iterator[slice]:
    return (slice(start, min(start + size, rows)) for start in range(first, rows, size))


def _within(block: slice, part: slice) -> slice:
    """A slice of a block's rows as one of all rows."""
    return slice(block.start + part.start, block.start + part.stop)


@torch.no_grad()
def token_log_probs(
    student: StudentRows, teacher: TeacherRows | None, tokens: Tensor, vocab_size: int, compiled: bool = False
) -> tuple[Tensor | None, Tensor]:
    """Log-probability of every row's token under teacher and student, [N] each; None for a teacher that is not there."""
    ours = _rows_at_tokens(student, tokens, vocab_size, compiled)
    if teacher is None or isinstance(teacher, TopKRows):
        return None if teacher is None else teacher.token_log_probs, ours
    return _rows_at_tokens(teacher, tokens, vocab_size, compiled), ours


def _at_tokens(logits: Tensor, tokens: Tensor, dtype: torch.dtype, compiled: bool) -> Tensor:
    """Log-probability of one token per row, by a kernel or chunk by chunk: [n, V] and [n] to [n]."""
    if compiled and kernels.launches_on(logits.device):
        launched = kernels.launch_token_log_probs(logits, tokens, dtype)
        if launched is not None:
            return launched
    parts = chunks(len(tokens), logits.shape[-1], tokens.device)
    found = [at_tokens(logits[part].to(dtype).log_softmax(-1), tokens[part]) for part in parts]
    return torch.cat([tokens.new_zeros(0, dtype=dtype), *found])


def _rows_at_tokens(rows: StudentRows, tokens: Tensor, vocab_size: int, compiled: bool) -> Tensor:
    blocks = _blocks(len(tokens), rows, None, vocab_size, tokens.device, False)
    found = [_at_tokens(rows.logits_of(block), tokens[block], rows.dtype, compiled) for block in blocks]
    return torch.cat([tokens.new_zeros(0, dtype=rows.dtype), *found])


def _blocks(
    rows: int, student: StudentRows, teacher: TeacherRows | None, vocab_size: int, device: torch.device, compiled: bool
) -> Iterator[slice]:
    """Slices whose logits exist at one time: a chunk of dense rows, or as many as a head takes."""
    if isinstance(student, LinearRows) or isinstance(teacher, LinearRows):
        return _slices(rows, max(1, HEAD_ELEMENTS.get(device.type, 1 << 24) // vocab_size))
    if not compiled:
        return chunks(rows, vocab_size, device)
    in_room = isinstance(teacher, TopKRows) and not student.direct
    return _slices(rows, rows_of_chunk(vocab_size, device, in_room))


class _Workspace:
    """The tensors of one chunk, used again by the next: two a model and two scratch ones, [n, V] each."""

    def __init__(self, rows: int, vocab_size: int, like: Tensor, dtype: torch.dtype, teacher: bool) -> None:
        def pair() -> tuple[Tensor, Tensor]:
            first = torch.empty(rows, vocab_size, dtype=dtype, device=like.device)
            return first, torch.empty_like(first)

        self.student, self.scratch = pair(), pair()
        self.teacher = pair() if teacher else None

    def fill(self, teacher_logits: Tensor | None, student_logits: Tensor) -> Chunk:
        n = len(student_logits)
        teacher = None
        if teacher_logits is not None and self.teacher is not None:
            teacher = Distribution(teacher_logits, self.teacher[0][:n], self.teacher[1][:n])
        student = Distribution(student_logits, self.student[0][:n], self.student[1][:n])
        return Chunk(teacher, student, (self.scratch[0][:n], self.scratch[1][:n]))


@dataclass
class _Pass:
    """One pass over the rows: what it reads, and what it finds of every row."""

    student: StudentRows
    teacher: TeacherRows | None
    tokens: Tensor
    terms: Terms
    streams: bool
    coefficients: Tensor
    vocab_size: int
    compiled: bool

    def __post_init__(self) -> None:
        #: By chunk: the terms' values, and the student's entropy and token log-probability.
        self.found: list[list[Tensor]] = []
        #: By block, what the terms' rows were told of their prefixes.
        self.asked: list[list[list[Tensor]]] = []
        self.token_log_q = torch.zeros_like(self.coefficients)
        self.token_log_p: Tensor | None = None
        #: Of both models, room for the logits of a block behind a head.
        self.rooms: list[Tensor | None] = []
        self.workspace: _Workspace | None = None
        #: Where a chunk's gradient is written before it takes the place of the logits, which are read till the end.
        self.room: Tensor | None = None
        #: Whether a kernel wrote a gradient that nobody wants over the block's logits.
        self.overwritten = False
        if isinstance(self.teacher, TopKRows):
            self.token_log_p = self.teacher.token_log_probs
        elif self.teacher is not None:
            self.token_log_p = torch.zeros_like(self.coefficients)

    def run(self, gradient: DenseGradient | HeadGradient | None) -> Tensor:
        """Read every row, and form the gradient if one is wanted; return Σ coefficients · Σ_terms values."""
        device = self.tokens.device
        terms = [] if self.streams else self.terms(None, self.token_log_q)
        dense = gradient if isinstance(gradient, DenseGradient) and self._takes_rows_as_they_lie(terms) else None
        for block in _blocks(len(self.tokens), self.student, self.teacher, self.vocab_size, device, self.compiled):
            if dense is None:
                self._one_block(block, terms, gradient)
            elif not self._fused_as_they_lie(block, terms, dense):
                for part in chunks(block.stop - block.start, self.vocab_size, device):
                    self._one_block(_within(block, part), terms, gradient, fuses=False)
        if not self.found:
            terms = self.terms(self.token_log_p, self.token_log_q)
            self.found.append([self.coefficients.new_zeros(0)] * (len(terms) + 2))
        *self.values, self.entropy, self.token_log_q = [torch.cat(column) for column in zip(*self.found, strict=True)]
        return (self.coefficients * sum(self.values)).sum() if self.values else self.coefficients.new_zeros(())

    def _one_block(
        self, block: slice, terms: list[TermRows], gradient: DenseGradient | HeadGradient | None, fuses: bool = True
    ) -> None:
        """Put a block's logits together and read them: in a kernel, in fused chunks, or operation by operation."""
        dense_teacher = None if isinstance(self.teacher, TopKRows) else self.teacher
        if not self.rooms:
            readers = self.student, dense_teacher
            self.rooms = [x.buffer(block.stop) if isinstance(x, LinearRows) else None for x in readers]
        logits = self.student.logits_of(block, self.rooms[0])
        theirs = None if dense_teacher is None else dense_teacher.logits_of(block, self.rooms[1])
        if self.streams:
            self._read_tokens(block, logits, theirs)
            terms = self.terms(self.token_log_p, self.token_log_q)
            self.asked.append([[x[block] for x in term.prefix_numbers()] for term in terms])
        if gradient is not None and self._in_a_kernel(block, logits, theirs, terms, gradient):
            return
        if self.overwritten:
            self.overwritten, logits = False, self.student.logits_of(block, self.rooms[0])
        out = None if gradient is None else gradient.target(block, logits)
        done = 0 if out is None or not fuses else self._fused_chunks(block, logits, theirs, terms, out)
        for part in chunks(len(logits), self.vocab_size, logits.device, done):
            if self.workspace is None:
                size = min(_chunk_rows(self.vocab_size, logits.device), len(self.tokens))
                dtype, has_teacher = self.student.dtype, dense_teacher is not None
                self.workspace = _Workspace(size, self.vocab_size, logits, dtype, has_teacher)
            chunk = self.workspace.fill(None if theirs is None else theirs[part], logits[part])
            self._one_chunk(chunk, _within(block, part), terms, None if out is None else out[part])
        if gradient is not None and out is not None:
            gradient.take(block, logits, out)

    def _in_a_kernel(
        self,
        block: slice,
        logits: Tensor,
        theirs: Tensor | None,
        terms: list[TermRows],
        gradient: DenseGradient | HeadGradient,
    ) -> bool:
        """Let `kernels` do the block; False where they cannot, or where they find a value that is not finite."""
        form = self._kernel_form(terms)
        if form is None:
            return False
        out = gradient.target(block, logits, any_dtype=True)
        factor = terms[0].factor_of(block, self.coefficients)
        pull = factor * self.coefficients[block]
        known = terms[0].known(block)
        found = kernels.launch_loss(form, theirs, logits, self.tokens[block], known, pull, out, self.student.dtype)
        if found is None or not all_finite(torch.stack(found)):
            self.overwritten = out.data_ptr() == logits.data_ptr()
            return False
        value, entropies, token_log_q = found
        self.found.append([factor * value, entropies, token_log_q])
        gradient.take(block, logits, out)
        return True

    def _kernel_form(self, terms: list[TermRows]) -> Any | None:
        """What the kernels know the objective by; None where it is not theirs."""
        theirs = self.compiled and len(terms) == 1 and not isinstance(self.teacher, TopKRows)
        if not theirs or not kernels.launches_on(self.tokens.device):
            return None
        return kernels.form_of(terms[0].term.function.function)

    def _takes_rows_as_they_lie(self, terms: list[TermRows]) -> bool:
        """Whether compiled loops read both models' dense rows, and write the gradient, where they lie among others.

        On a CPU alone: on CUDA, where tensors of over 2³¹ elements take other code, it is untried.
        """
        both = isinstance(self.student, DenseRows) and (self.teacher is None or isinstance(self.teacher, DenseRows))
        return both and self.compiled and self.tokens.device.type == "cpu" and self._kernel_form(terms) is None

    def _fused_as_they_lie(self, block: slice, terms: list[TermRows], gradient: DenseGradient) -> bool:
        """Let `compiled` do the block; False where it cannot, finds a value that is not finite, or the row stands alone."""
        assert isinstance(self.student, DenseRows) and not isinstance(self.teacher, (LinearRows, TopKRows))
        fused = self._fused(terms)
        if fused is None or block.stop - block.start < 2:
            return False
        student, index = self.student.among(block)
        teacher = None if self.teacher is None else self.teacher.among(block)[0].detach()
        return self._take_fused(fused, block, teacher, student.detach(), terms, gradient.among(block), index=index)

    def _take_fused(
        self,
        fused: Callable[..., list[Tensor] | None],
        rows: slice,
        theirs: Tensor | TopKRows | None,
        ours: Tensor,
        terms: list[TermRows],
        out: Tensor,
        **more: Any,
    ) -> bool:
        """Note what `compiled` or `sparse` finds of some rows; False where it finds nothing, or a value that is not finite."""
        factors = [term.factor_of(rows, self.coefficients) for term in terms]
        known = [term.known(rows) for term in terms]
        pulls = [factor * self.coefficients[rows] for factor in factors]
        found = fused(theirs, ours, self.tokens[rows], known, pulls, out, self.student.dtype, **more)
        if found is None or not all_finite(torch.stack(found)):
            return False
        *values, entropies, token_log_q = found
        weighted = [factor * value for factor, value in zip(factors, values, strict=True)]
        self.found.append([*weighted, entropies, token_log_q])
        return True

    def _fused(self, terms: list[TermRows]) -> Callable[..., list[Tensor] | None] | None:
        """What takes chunks of the terms whole: a top-k teacher's rows, or compiled loops where compiling is asked for.

        None where there is no such thing, which is the case where a term has no closed form.
        """
        functions = tuple(term.term.function.function for term in terms)
        if isinstance(self.teacher, TopKRows):
            return sparse_chunks(functions, self.compiled)
        return fused_chunks(functions) if self.compiled else None

    def _fused_chunks(
        self, block: slice, logits: Tensor, theirs: Tensor | None, terms: list[TermRows], out: Tensor
    ) -> int:
        """Let `compiled` or `sparse` take the block's rows from its start on; return how many they have done.

        They stop before a chunk of which they have no finite values, which gives up the rest of the block; and compiled loops
        before a row that stands alone, because one row would be another compilation.
        """
        fused = self._fused(terms)
        if fused is None:
            return 0
        least = 1 if isinstance(self.teacher, TopKRows) else 2
        in_place = out.data_ptr() == logits.data_ptr()
        where = self.vocab_size, logits.device
        size = rows_of_chunk(*where, in_room=in_place) if self.compiled else _chunk_rows(*where)
        for start in range(0, len(logits) - least + 1, size):
            part = slice(start, min(start + size, len(logits)))
            whole = _within(block, part)
            target = self._room(size, logits)[: part.stop - start] if in_place else out[part]
            teacher = self._teacher_of(whole, None if theirs is None else theirs[part])
            if not self._take_fused(fused, whole, teacher, logits[part], terms, target):
                return start
            if in_place:
                out[part] = target
        left = len(logits) % size
        return len(logits) - (left if left < least else 0)

    def _room(self, rows: int, logits: Tensor) -> Tensor:
        """[rows, V], made once."""
        if self.room is None:
            self.room = torch.empty(rows, self.vocab_size, dtype=self.student.dtype, device=logits.device)
        return self.room

    def _teacher_of(self, whole: slice, theirs: Tensor | None) -> Tensor | TopKRows | None:
        return self.teacher.rows(whole) if isinstance(self.teacher, TopKRows) else theirs

    def told_the_truth(self, final: list[TermRows]) -> bool:
        """Whether rows were told of their prefixes what is known at the end: a weight that looks ahead changes till then."""
        if not self.asked:
            return True
        return all(
            torch.allclose(torch.cat([block[term][number] for block in self.asked]), numbers, equal_nan=True)
            for term, rows in enumerate(final)
            for number, numbers in enumerate(rows.prefix_numbers())
        )

    def _read_tokens(self, block: slice, logits: Tensor, theirs: Tensor | None) -> None:
        """Both models' log-probabilities of the block's tokens, before its weights are asked for."""
        for rows, into in ((logits, self.token_log_q), (theirs, self.token_log_p)):
            if rows is not None and into is not None:
                into[block] = _at_tokens(rows, self.tokens[block], self.student.dtype, self.compiled)

    def _one_chunk(self, chunk: Chunk, whole: slice, terms: list[TermRows], out: Tensor | None) -> None:
        values = []
        pull: Tensor | float = 0.0
        token_log_q, entropies = chunk.q.at(self.tokens[whole]), _entropy(chunk)
        for number, term in enumerate(terms):
            if out is None:
                log_p = None if chunk.p is None else chunk.p.log_probs
                values.append(term.value(self.teacher, log_p, chunk.q.log_probs, whole))
                continue
            found = term.slope(self.teacher, chunk, whole)
            values.append(found.value)
            factor = self.coefficients[whole] * found.factor
            if number == 0:
                torch.mul(found.slope, factor.unsqueeze(-1), out=out)
            else:
                out.addcmul_(found.slope, factor.unsqueeze(-1))
            pull = pull - factor * found.total
        if isinstance(pull, Tensor) and out is not None:
            out.addcmul_(chunk.q.exps, pull.unsqueeze(-1) / chunk.q.scale)
        elif out is not None:
            out.zero_()
        self.found.append([*values, entropies, token_log_q])


def _entropy(chunk: Chunk) -> Tensor:
    q = chunk.q
    energy = torch.mul(q.exps, q.shifted, out=chunk.scratch[0]).sum(-1, keepdim=True)
    found = (q.offset - energy / q.scale).squeeze(-1)
    return found if all_finite(found) else entropy(q.log_probs)


def entropy(log_q: Tensor) -> Tensor:
    """Entropy of every row, in nats: [n, V] to [n]."""
    return -(log_q.exp() * log_q.clamp(min=torch.finfo(log_q.dtype).min)).sum(-1)


class _ChunkedLoss(torch.autograd.Function):
    """Σ_rows coefficient · Σ_terms value, with the gradient of the student's inputs formed on the way."""

    @staticmethod
    def forward(ctx: Any, work: _Pass, *inputs: Tensor) -> Tensor:
        needs = list(ctx.needs_input_grad[1:])
        if not any(needs):
            return work.run(None)
        student = work.student
        gradient = DenseGradient(student) if isinstance(student, DenseRows) else HeadGradient(student, needs)
        loss = work.run(gradient)
        found = gradient.found()
        ctx.present = [x is not None for x in found]
        ctx.dtypes = [x.dtype for x in inputs]
        ctx.save_for_backward(*(x for x in found if x is not None))
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        saved = iter(ctx.saved_tensors)
        grads = [next(saved) if there else None for there in ctx.present]
        if float(grad_loss) != 1.0:  # a copy, because a second backward pass may ask again
            grads = [None if g is None else g * grad_loss.to(g.dtype) for g in grads]
        return (None, *(None if g is None else g.to(dtype) for g, dtype in zip(grads, ctx.dtypes, strict=True)))


@torch.compiler.disable
def chunked_loss(
    student: StudentRows,
    teacher: TeacherRows | None,
    tokens: Tensor,
    terms: Terms,
    coefficients: Tensor,
    vocab_size: int,
    streams: bool = False,
    compiled: bool = False,
) -> tuple[Tensor, RowResults]:
    """Σ_n coefficients[n] · Σ_terms value_n with its gradient, and every row's numbers.

    Args:
        terms: the terms' rows, asked once, or before every block if `streams`.
        coefficients: what each row counts in the loss, [N], constants.
        vocab_size: V, from which the size of a chunk follows.
        streams: the rows are in order of their steps, and a row's weights follow from the tokens before it: both
            models' token log-probabilities are then read block by block, from the logits that the loss needs anyway. If
            a weight turns out to have looked ahead, everything is done again with the weights known.
        compiled: let kernels, or torch.compile, fuse the work where every term has a closed form.
    """
    work = _Pass(student, teacher, tokens, terms, streams, coefficients, vocab_size, compiled)
    loss = _ChunkedLoss.apply(work, *student_inputs(student))
    results = RowResults(work.values, work.token_log_p if streams else None, work.token_log_q, work.entropy)
    if not streams:
        return loss, results
    final = terms(work.token_log_p, work.token_log_q)
    if work.told_the_truth(final):
        return loss, results
    loss, found = chunked_loss(student, teacher, tokens, lambda *_: final, coefficients, vocab_size, False, compiled)
    return loss, replace(found, token_log_p=work.token_log_p)
