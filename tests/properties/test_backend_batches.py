"""What must not matter: padding, junk, order, packing, splitting, chunking, compilation."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fdistill import LinearLogits, Objective, Term, TopKLogits, objective, sequence_loss, step_losses
from fdistill.checks.cases import CASES
from fdistill.loss import chunked
from fdistill.loss.rows import ALL, LinearRows
from tests.tolerances import FLOAT64_BACKEND

BY_LABEL = {case.label: case for case in CASES}
SOURCED = [(case.label, source) for case in CASES for source in objective(case.name, **case.options).sources]


def random_batch(seed=0, rows=4, steps=6, vocab=9, dtype=torch.float64, masked=True):
    """Logits of both models, tokens and mask; some rows end early and one starts with a masked token."""
    noise = torch.Generator().manual_seed(seed)
    teacher, student = (2 * torch.randn(rows, steps, vocab, generator=noise, dtype=torch.float64) for _ in range(2))
    tokens = torch.randint(vocab, (rows, steps), generator=noise)
    mask = torch.ones(rows, steps, dtype=torch.bool)
    if masked:
        mask[0, 0] = False
        mask[1, 3:] = False
    return {"teacher_logits": teacher.to(dtype), "student_logits": student.to(dtype), "tokens": tokens, "mask": mask}


def rounding(label):
    """Absolute error that float64 leaves: the summands of a shifted generator are as large as the prefix ratio, here e^15."""
    return 1e-8 if label.startswith("f_divergence") else 1e-12


def loss_and_gradient(made, source, batch, **more):
    student = batch["student_logits"].detach().clone().requires_grad_()
    loss = sequence_loss(made, source, **{**batch, "student_logits": student}, **more).loss
    return loss.detach(), torch.autograd.grad(loss, student)[0]


@pytest.mark.parametrize("gradient_mode", ["stepwise", "full"])
@pytest.mark.parametrize(("label", "source"), SOURCED)
def test_what_stands_behind_the_mask_changes_nothing(label, source, gradient_mode):
    """Catches a mask that is applied after a reduction: NaN, infinities and token -100 stand behind it."""
    case = BY_LABEL[label]
    made = objective(case.name, gradient=gradient_mode, **case.options)
    clean = random_batch()
    hidden = ~clean["mask"]
    dirty = dict(
        clean,
        student_logits=clean["student_logits"].masked_fill(hidden.unsqueeze(-1), math.nan),
        teacher_logits=clean["teacher_logits"].masked_fill(hidden.unsqueeze(-1), math.inf),
        tokens=clean["tokens"].masked_fill(hidden, -100),
    )
    (loss, grad), (junk_loss, junk_grad) = (loss_and_gradient(made, source, batch) for batch in (clean, dirty))
    assert torch.equal(loss, junk_loss)
    assert torch.equal(grad, junk_grad)
    assert (junk_grad[hidden] == 0).all()


@pytest.mark.parametrize(("label", "source"), SOURCED)
def test_order_of_rows_and_tokens_changes_nothing(label, source):
    """Catches a loss that reads another row's prefix, or a token's number."""
    case = BY_LABEL[label]
    made = objective(case.name, **case.options)
    batch = random_batch(masked=False)
    rows, words = torch.tensor([2, 0, 3, 1]), torch.randperm(9, generator=torch.Generator().manual_seed(1))
    names = torch.argsort(words)
    moved = {
        "teacher_logits": batch["teacher_logits"][rows][..., words],
        "student_logits": batch["student_logits"][rows][..., words],
        "tokens": names[batch["tokens"][rows]],
        "mask": batch["mask"][rows],
    }
    steps = step_losses(made, source, **batch)
    assert torch.allclose(step_losses(made, source, **moved), steps[rows], rtol=1e-10, atol=rounding(label))


@pytest.mark.parametrize("gradient_mode", ["stepwise", "full"])
@pytest.mark.parametrize(("label", "source"), SOURCED)
def test_a_batch_is_the_sum_of_its_parts(label, source, gradient_mode):
    """Catches a mean of means and a normalizer that the parts do not share."""
    case = BY_LABEL[label]
    made = objective(case.name, gradient=gradient_mode, **case.options)
    batch = random_batch()
    for reduction in ("sequence", "token") if gradient_mode == "stepwise" else ("sequence",):
        count = batch["mask"].sum() if reduction == "token" else batch["mask"].any(1).sum()
        whole, grad = loss_and_gradient(made, source, batch, reduction=reduction)
        parts = [{k: v[part] for k, v in batch.items()} for part in (slice(0, 1), slice(1, None))]
        found = [loss_and_gradient(made, source, part, reduction=reduction, normalizer=count) for part in parts]
        assert torch.allclose(found[0][0] + found[1][0], whole, rtol=1e-12)
        assert torch.allclose(torch.cat([g for _, g in found]), grad, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("gradient_mode", ["stepwise", "full"])
@pytest.mark.parametrize(("label", "source"), SOURCED)
def test_packed_documents_are_rows(label, source, gradient_mode):
    """Catches a ratio, a product or a return that runs on into the next document."""
    case = BY_LABEL[label]
    made = objective(case.name, gradient=gradient_mode, **case.options)
    batch = random_batch()
    rows, steps = batch["tokens"].shape
    packed = {name: value.reshape(2, rows * steps // 2, *value.shape[2:]) for name, value in batch.items()}
    documents = torch.arange(rows).repeat_interleave(steps).reshape(2, -1)
    (loss, grad), (packed_loss, packed_grad) = (
        loss_and_gradient(made, source, batch),
        loss_and_gradient(made, source, packed, documents=documents),
    )
    assert torch.allclose(packed_loss, loss, rtol=1e-12)
    assert torch.allclose(packed_grad.reshape(grad.shape), grad, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(("label", "source"), SOURCED)
def test_chunks_and_autograd_agree(label, source, monkeypatch):
    """Catches a chunk that is lost, counted twice or weighed wrongly: three rows at a time against all at once."""
    case = BY_LABEL[label]
    made = objective(case.name, **case.options)
    monkeypatch.setitem(chunked.CHUNK_ELEMENTS, "cpu", 27)
    batch = random_batch()
    weights = torch.rand(4, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    loss, grad = loss_and_gradient(made, source, batch, weights=weights, normalizer=2.0)
    student = batch["student_logits"].clone().requires_grad_()
    plain = (weights * step_losses(made, source, **{**batch, "student_logits": student})).sum() / 2
    (truth,) = torch.autograd.grad(plain, student)
    assert torch.allclose(loss, plain.detach(), rtol=1e-12)
    # A shifted generator subtracts numbers of the size of r f'(r), up to 1e6 in this batch, and they round.
    noise = FLOAT64_BACKEND * max(1.0, float(truth.abs().max())) if case.name == "f_divergence" else 1e-14
    assert torch.allclose(grad, truth, rtol=1e-10, atol=noise)


@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize(("label", "source"), SOURCED)
def test_a_head_is_the_logits_it_stands_for(label, source, softcap, monkeypatch):
    """Catches a lost bias, scale or cap, and a head whose gradient misses a chunk; for both models."""
    case = BY_LABEL[label]
    made = objective(case.name, **case.options)
    noise = torch.Generator().manual_seed(3)
    batch = random_batch()

    def draw(*shape):
        return torch.randn(*shape, generator=noise, dtype=torch.float64)

    leaves = [draw(4, 6, 5).requires_grad_(), draw(9, 5).requires_grad_(), draw(9).requires_grad_()]
    teacher = LinearLogits(draw(4, 6, 3), draw(9, 3), draw(9), 2.0, softcap)
    student = LinearLogits(*leaves, 0.5, softcap)
    monkeypatch.setitem(chunked.HEAD_ELEMENTS, "cpu", 45)
    monkeypatch.setitem(chunked.CHUNK_ELEMENTS, "cpu", 18)
    lazy = sequence_loss(made, source, **{**batch, "student_logits": student, "teacher_logits": teacher}).loss
    dense = {**batch, "student_logits": student.dense(), "teacher_logits": teacher.dense()}
    whole = sequence_loss(made, source, **dense).loss
    assert torch.allclose(lazy, whole, rtol=1e-12)
    for found, truth in zip(torch.autograd.grad(lazy, leaves), torch.autograd.grad(whole, leaves), strict=True):
        assert torch.allclose(found, truth, rtol=1e-10, atol=1e-13)


def top_k(batch, k):
    log_probs = batch["teacher_logits"].log_softmax(-1)
    kept, ids = log_probs.topk(k)
    tail = log_probs.scatter(-1, ids, -math.inf).logsumexp(-1)
    own = log_probs.gather(-1, batch["tokens"].unsqueeze(-1)).squeeze(-1)
    return TopKLogits(ids, kept, tail, own)


@pytest.mark.parametrize("gradient_mode", ["stepwise", "full"])
@pytest.mark.parametrize(
    ("label", "source"), [x for x in SOURCED if x[0].split("(")[0] not in ("engine", "mle", "seqkd")]
)
def test_a_top_k_teacher_is_below_the_dense_one_and_equal_at_full_k(label, source, gradient_mode):
    """Catches a tail that is lost, renormalised away or computed by a difference, and ratios from buckets."""
    case = BY_LABEL[label]
    made = objective(case.name, gradient=gradient_mode, **case.options)
    batch = random_batch()
    dense, grad = loss_and_gradient(made, source, batch)
    for k in range(1, 10):
        loss, coarse_grad = loss_and_gradient(made, source, {**batch, "teacher_logits": top_k(batch, k)})
        assert -1e-12 <= loss <= dense + 1e-12 * max(1.0, float(dense))
        if k == 9:
            assert torch.allclose(loss, dense, rtol=1e-9)
            assert torch.allclose(coarse_grad, grad, rtol=1e-9, atol=rounding(label))


@pytest.mark.parametrize("label", ["kl", "rkl", "js(middle=sequence)", "tvd(bound=overlap)", "js(middle=token)"])
def test_torch_compile_changes_nothing(label):
    """Catches a graph that Dynamo captures wrongly."""
    case = BY_LABEL[label]
    made = objective(case.name, **case.options)
    batch = random_batch()

    def loss_of(student, source):
        return sequence_loss(made, source, **{**batch, "student_logits": 1.0 * student}).loss

    compiled = torch.compile(loss_of, backend="eager")
    for source in made.sources:
        student = batch["student_logits"].clone().requires_grad_()
        eager, fast = loss_of(student, source), compiled(student, source)
        assert torch.allclose(eager, fast, rtol=1e-12)
        assert torch.allclose(torch.autograd.grad(eager, student)[0], torch.autograd.grad(fast, student)[0], rtol=1e-12)


@pytest.mark.parametrize("label", ["kl", "rkl", "js(middle=sequence)", "js(middle=token)", "tvd(bound=overlap)"])
def test_a_vocabulary_of_200k_agrees_with_float64(label):
    """Catches sums in low precision and probabilities that underflow one token at a time."""
    case = BY_LABEL[label]
    made = objective(case.name, **case.options)
    for dtype, tolerance in ((torch.float32, 2e-5), (torch.bfloat16, 2e-5)):
        batch = random_batch(rows=1, steps=3, vocab=200_000, dtype=dtype, masked=False)
        exact = {k: v.double() if v.is_floating_point() else v for k, v in batch.items()}
        for source in made.sources:
            # In chunks with their gradient, and in one piece as autograd sees it.
            whole = (sequence_loss(made, source, **given).loss for given in (batch, exact))
            plain = (step_losses(made, source, **given).sum() for given in (batch, exact))
            for loss, truth in (whole, plain):
                assert abs(float(loss) - float(truth)) <= tolerance * max(1.0, abs(float(truth)))


@given(scale=st.sampled_from([1e4, 3e4]), seed=st.integers(0, 20))
def test_extreme_logits_stay_finite_where_the_divergence_is_bounded(scale, seed):
    """Catches probabilities that are formed first and logged after."""
    batch = random_batch(seed, dtype=torch.float32)
    batch = dict(batch, student_logits=scale * batch["student_logits"], teacher_logits=scale * batch["teacher_logits"])
    for label in (
        "js(middle=token)",
        "js(middle=sequence)",
        "js(middle=sequence, estimator=balance)",
        "tvd(bound=overlap)",
    ):
        made = objective(BY_LABEL[label].name, **BY_LABEL[label].options)
        for source in made.sources:
            loss, grad = loss_and_gradient(made, source, batch)
            assert math.isfinite(loss) and torch.isfinite(grad).all()


def test_weights_never_enter_a_count():
    """Catches a weighted mean: a weight of 2 must double the loss."""
    made, batch = objective("kl"), random_batch()
    for reduction in ("sequence", "token"):
        one = sequence_loss(made, "teacher", **batch, reduction=reduction).loss
        two = sequence_loss(made, "teacher", **batch, reduction=reduction, weights=torch.full((4,), 2.0)).loss
        assert torch.allclose(two, 2 * one)


def test_a_batch_without_an_unmasked_step_is_zero():
    """Catches a division by a count of zero."""
    batch = random_batch()
    batch["mask"] = torch.zeros_like(batch["mask"])
    for label in ("kl", "js(middle=sequence)", "tvd(bound=product)", "f_divergence(generator=kl, estimator=student)"):
        case = BY_LABEL[label]
        made = objective(case.name, **case.options)
        for source in made.sources:
            loss, grad = loss_and_gradient(made, source, batch)
            assert loss == 0 and (grad == 0).all()


def heads(seed, vocab=9, rows=(4, 6)):
    noise = torch.Generator().manual_seed(seed)
    return [
        LinearLogits(
            torch.randn(*rows, 5, generator=noise, dtype=torch.float64),
            torch.randn(vocab, 5, generator=noise, dtype=torch.float64),
        )
        for _ in range(2)
    ]


def test_the_prefix_ratio_takes_no_third_pass_over_a_head(monkeypatch):
    """Catches a pass over the vocabulary for the tokens' log-probabilities alone: every row's logits are formed once."""
    student, teacher = heads(5)
    batch = {**random_batch(), "student_logits": student, "teacher_logits": teacher}
    formed = []
    plain = LinearRows.logits_of

    def watched(self, part=ALL, buffer=None):
        formed.append(part)
        return plain(self, part, buffer)

    monkeypatch.setattr(LinearRows, "logits_of", watched)
    monkeypatch.setitem(chunked.HEAD_ELEMENTS, "cpu", 45)
    sequence_loss(objective("js", middle="sequence"), "student", **batch)
    rows = int(batch["mask"].sum())
    assert sum(part.stop - part.start for part in formed) == 2 * rows


def test_a_weight_that_looks_ahead_is_still_right_behind_a_head(monkeypatch):
    """Catches weights taken from token log-probabilities that are not known yet; the weight here reads the last step's ratio."""
    student, teacher = heads(6)
    made = Objective(
        (Term("student", "tvd", prefix_weight=lambda s: s.log_ratio[:, -1:].sigmoid().expand_as(s.log_ratio)),)
    )
    batch = random_batch()
    monkeypatch.setitem(chunked.HEAD_ELEMENTS, "cpu", 45)
    lazy = sequence_loss(made, "student", **{**batch, "student_logits": student, "teacher_logits": teacher})
    dense = {**batch, "student_logits": student.dense(), "teacher_logits": teacher.dense()}
    assert torch.allclose(lazy.loss, sequence_loss(made, "student", **dense).loss, rtol=1e-12)


def test_a_second_backward_pass_gives_the_same_gradient():
    """Catches a gradient that the first backward pass consumed or scaled in place."""
    batch = random_batch()
    student = batch["student_logits"].clone().requires_grad_()
    loss = sequence_loss(objective("kl"), "teacher", **{**batch, "student_logits": student}).loss
    (once,) = torch.autograd.grad(3 * loss, student, retain_graph=True)
    (again,) = torch.autograd.grad(loss, student)
    assert torch.allclose(once, 3 * again, rtol=1e-14)


def test_two_terms_of_one_source_add_up():
    """Catches a second term whose gradient takes the place of the first's."""
    made = Objective(
        (Term("student", "reverse_kl", 0.3), Term("student", "tvd", 2.0, lambda s: (s.log_ratio / 9).exp()))
    )
    batch = random_batch()
    loss, grad = loss_and_gradient(made, "student", batch, normalizer=2.0)
    student = batch["student_logits"].clone().requires_grad_()
    plain = step_losses(made, "student", **{**batch, "student_logits": student}).sum() / 2
    (truth,) = torch.autograd.grad(plain, student)
    assert torch.allclose(loss, plain.detach(), rtol=1e-12)
    assert torch.allclose(grad, truth, rtol=1e-10, atol=1e-14)
