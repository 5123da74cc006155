"""Triton's side of `kernels`: a row of logits is one program, which reads it three times, the later times from the cache.

First the logarithm of its normaliser, by an online softmax; then value, entropy and total slope; then the gradient. A form
gives one word's part of a divergence and of its slope s = ∂D/∂log q (up to a multiple of q, see `slopes`); it is the twin of
the word-level function whose name it bears, and forms are the only thing that differs from one divergence to the next.
A word that a model rules out counts as 0 where its weight is 0; NaN and an infinite divergence come out as they are.
"""

import triton
import triton.language as tl

from fdistill import divergences

#: Below any logit that is finite: where the search for the largest begins, so that rows may begin with -inf.
LOWEST = tl.constexpr(-1e30)

#: A probability below this is none where a form would divide by it.
TINY = tl.constexpr(1e-37)

SKEW = tl.constexpr(divergences.SKEW)
OTHER_SKEW = tl.constexpr(1 - divergences.SKEW)
POWER = tl.constexpr(divergences.POWER)
OTHER_POWER = tl.constexpr(1 - divergences.POWER)
POWER_SCALE = tl.constexpr(1 / (divergences.POWER * (divergences.POWER - 1)))
SLOPE_SCALE = tl.constexpr(-1 / divergences.POWER)


@triton.jit
def _times(weight, value):
    """weight · value, 0 where the weight is 0."""
    return tl.where(weight == 0, 0.0, weight * value)


@triton.jit
def kl(log_p, log_q, p, q, hit, w, own):
    return _times(p, log_p - log_q), -p


@triton.jit
def reverse_kl(log_p, log_q, p, q, hit, w, own):
    value = _times(q, log_q - log_p)
    return value, value


@triton.jit
def tvd(log_p, log_q, p, q, hit, w, own):
    side = tl.where(q > p, 0.5, tl.where(q < p, -0.5, 0.0))
    return side * (q - p), side * q


@triton.jit
def nll(log_p, log_q, p, q, hit, w, own):
    return tl.where(hit, -log_q, 0.0), tl.where(hit, -1.0, 0.0)


@triton.jit
def cross_entropy_to_teacher(log_p, log_q, p, q, hit, w, own):
    value = _times(q, -log_p)
    return value, value


@triton.jit
def _middle_over(this, other, weight, other_weight):
    """m/this and its logarithm, m = weight · this + other_weight · other; 1 and 0 where the two agree or `this` is none.

    Near `this` the logarithm is log1p's, log(1 + x) = x log(y)/(y - 1) with y = 1 + x as rounded, because estimators divide
    by the weight that keeps the middle from `this`. Where the middle is less than half of `this`, 1 + x would cancel.
    """
    some = this > TINY
    divisor = tl.where(some, this, 1.0)
    x = other_weight * tl.where(some, (other - this) / divisor, 0.0)
    far = x < -0.5
    y = tl.where(far, weight + other_weight * (other / divisor), 1 + x)
    log_y = tl.log(y)
    direct = far | (y == 1)
    return y, tl.where(far, log_y, tl.where(direct, x, log_y * (x / tl.where(direct, 1.0, y - 1))))


@triton.jit
def kl_to_middle(log_p, log_q, p, q, hit, w, own):
    ratio, log_ratio = _middle_over(p, q, w, own)
    return -p * log_ratio, tl.where(p > TINY, -own * q / ratio, 0.0)


@triton.jit
def reverse_kl_to_middle(log_p, log_q, p, q, hit, w, own):
    ratio, log_ratio = _middle_over(q, p, own, w)
    return -q * log_ratio, -q * (log_ratio + own / ratio)


@triton.jit
def js(log_p, log_q, p, q, hit, w, own):
    _, teacher_half = _middle_over(p, q, w, own)
    _, student_half = _middle_over(q, p, own, w)
    slope = -own * q * student_half
    return slope - w * p * teacher_half, slope


@triton.jit
def skew_kl(log_p, log_q, p, q, hit, w, own):
    return kl_to_middle(log_p, log_q, p, q, hit, SKEW, OTHER_SKEW)


@triton.jit
def skew_rkl(log_p, log_q, p, q, hit, w, own):
    return reverse_kl_to_middle(log_p, log_q, p, q, hit, OTHER_SKEW, SKEW)


@triton.jit
def hellinger(log_p, log_q, p, q, hit, w, own):
    root_p, root_q = tl.exp(0.5 * log_p), tl.exp(0.5 * log_q)
    difference = root_p - root_q
    return 0.5 * difference * difference, -0.5 * root_p * root_q


@triton.jit
def chi2(log_p, log_q, p, q, hit, w, own):
    ratio = tl.exp(tl.where(p == 0, LOWEST, log_p - log_q))
    value = _times(q, (ratio - 1) * (ratio - 1))
    return tl.where((q == 0) & (p != 0), float("inf"), value), _times(q, 1 - ratio * ratio)


@triton.jit
def alpha(log_p, log_q, p, q, hit, w, own):
    both = (p != 0) & (q != 0)
    power = tl.where(both, tl.exp(log_p * POWER + log_q * OTHER_POWER), 0.0)
    return (power - p * POWER - q * OTHER_POWER) * POWER_SCALE, power * SLOPE_SCALE


@triton.jit
def jeffreys(log_p, log_q, p, q, hit, w, own):
    backward = _times(q, log_q - log_p)
    return backward + _times(p, log_p - log_q), backward - p


@triton.jit
def _logits(row, start, vocab, DTYPE: tl.constexpr, BLOCK: tl.constexpr):
    """A block of a row's logits, -inf past its end."""
    words = start + tl.arange(0, BLOCK)
    return tl.load(row + words, mask=words < vocab, other=float("-inf")).to(DTYPE)


@triton.jit
def _normaliser(row, vocab, DTYPE: tl.constexpr, BLOCK: tl.constexpr):
    """The largest logit, and the logarithm of Σ e^(logit - largest); the sum shrinks when a larger one turns up."""
    largest = tl.full((), LOWEST, DTYPE)
    total = tl.zeros((), DTYPE)
    for start in range(0, vocab, BLOCK):
        logits = _logits(row, start, vocab, DTYPE, BLOCK)
        before, largest = largest, tl.maximum(largest, tl.max(logits))
        total = total * tl.exp(before - largest) + tl.sum(tl.exp(logits - largest))
    return largest, tl.log(total)


@triton.jit
def _at_token(row, token, largest, log_total, vocab, DTYPE: tl.constexpr):
    """Log-probability of one word of a row; NaN for one that the vocabulary does not have."""
    known = (token >= 0) & (token < vocab)
    return tl.load(row + token, mask=known, other=float("nan")).to(DTYPE) - largest - log_total


@triton.jit
def token_rows(logits, stride, tokens, found, vocab, DTYPE: tl.constexpr, BLOCK: tl.constexpr):
    """Log-probability of every row's token: logits [N, V] and tokens [N] to found [N]."""
    number = tl.program_id(0).to(tl.int64)
    row = logits + number * stride
    largest, log_total = _normaliser(row, vocab, DTYPE, BLOCK)
    tl.store(found + number, _at_token(row, tl.load(tokens + number), largest, log_total, vocab, DTYPE))


@triton.jit
def loss_rows(
    student,
    student_stride,
    teacher,
    teacher_stride,
    tokens,
    log_odds,
    pulls,
    out,
    out_stride,
    values,
    entropies,
    token_log_probs,
    vocab,
    FORM: tl.constexpr,
    HAS_TEACHER: tl.constexpr,
    HAS_ODDS: tl.constexpr,
    DTYPE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Value, entropy and token log-probability of every row, [N] each, and pull · ∂value/∂logits, [N, V].

    `out` may be `student`: a block is read before it is written, and then never again. Without HAS_TEACHER or HAS_ODDS
    nothing is read from `teacher` or `log_odds`.
    """
    number = tl.program_id(0).to(tl.int64)
    student += number * student_stride
    out += number * out_stride
    token = tl.load(tokens + number)
    q_largest, q_log_total = _normaliser(student, vocab, DTYPE, BLOCK)
    p_largest, p_log_total = q_largest, q_log_total
    if HAS_TEACHER:
        teacher += number * teacher_stride
        p_largest, p_log_total = _normaliser(teacher, vocab, DTYPE, BLOCK)
    w, own = tl.full((), 0.5, DTYPE), tl.full((), 0.5, DTYPE)
    if HAS_ODDS:
        odds = tl.load(log_odds + number).to(DTYPE)
        w, own = 1 / (1 + tl.exp(-odds)), 1 / (1 + tl.exp(odds))
    value = tl.zeros((BLOCK,), DTYPE)
    total = tl.zeros((BLOCK,), DTYPE)
    energy = tl.zeros((BLOCK,), DTYPE)
    for start in range(0, vocab, BLOCK):
        hit = start + tl.arange(0, BLOCK) == token
        log_q = _logits(student, start, vocab, DTYPE, BLOCK) - q_largest - q_log_total
        log_p = log_q
        if HAS_TEACHER:
            log_p = _logits(teacher, start, vocab, DTYPE, BLOCK) - p_largest - p_log_total
        q = tl.exp(log_q)
        part, slope = FORM(log_p, log_q, tl.exp(log_p), q, hit, w, own)
        value += part
        total += slope
        energy += _times(q, log_q)
    tl.store(values + number, tl.sum(value))
    tl.store(entropies + number, -tl.sum(energy))
    tl.store(token_log_probs + number, _at_token(student, token, q_largest, q_log_total, vocab, DTYPE))
    whole = tl.sum(total)
    pull = tl.load(pulls + number).to(DTYPE)
    for start in range(0, vocab, BLOCK):
        words = start + tl.arange(0, BLOCK)
        log_q = _logits(student, start, vocab, DTYPE, BLOCK) - q_largest - q_log_total
        log_p = log_q
        if HAS_TEACHER:
            log_p = _logits(teacher, start, vocab, DTYPE, BLOCK) - p_largest - p_log_total
        q = tl.exp(log_q)
        _, slope = FORM(log_p, log_q, tl.exp(log_p), q, words == token, w, own)
        gradient = pull * (slope - q * whole)
        tl.store(out + words, gradient.to(out.dtype.element_ty), mask=words < vocab)


#: By the name of the word-level function.
FORMS = {
    form.__name__: form
    for form in (
        kl,
        reverse_kl,
        tvd,
        nll,
        cross_entropy_to_teacher,
        kl_to_middle,
        reverse_kl_to_middle,
        js,
        skew_kl,
        skew_rkl,
        hellinger,
        chi2,
        alpha,
        jeffreys,
    )
}
