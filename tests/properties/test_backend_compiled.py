"""The compiled execution says what the other one says: chunks, leftover rows, infinite values, a lost compiler; in one loop.

Most tests run the traced function as it stands, uncompiled: its arithmetic and its bookkeeping take no compiler. The last ones
compile for real, and are skipped where there is no C++ compiler.
"""

import logging
import math

import pytest
import torch
from torch._dynamo.utils import counters
from torch._inductor.utils import run_and_get_code

from fdistill import LinearLogits, Objective, Term, TopKLogits, objective
from fdistill.checks.cases import CASES
from fdistill.divergences import DIVERGENCES
from fdistill.loss import chunked, compiled, sparse, worth_compiling
from fdistill.loss.compiled import Compiled, FusedChunks
from fdistill.loss.slopes import SLOPES
from tests.loss_kit import assert_equal_models_have_zero_loss_and_gradient, assert_same, both
from tests.tolerances import FLOAT32_BACKEND, FLOAT64_BACKEND

BY_LABEL = {case.label: case for case in CASES}
SOURCED = [(case.label, source) for case in CASES for source in objective(case.name, **case.options).sources]
VOCAB = 9


@pytest.fixture
def traced(monkeypatch):
    """Compilation left out, small chunks; the list of chunk sizes that functions to be compiled were given."""
    taken = []

    def uncompiled(function, name):
        def watched(*arguments):
            if function is compiled.fused_loops:
                student, index = arguments[2:4]
                taken.append(len(student if index is None else index))
            else:
                taken.append(len(arguments[0]))
            return function(*arguments)

        return watched

    monkeypatch.setattr(compiled, "_program", uncompiled)
    monkeypatch.setitem(compiled.COMPILED_ELEMENTS, "cpu", 4 * VOCAB)
    monkeypatch.setitem(chunked.CHUNK_ELEMENTS, "cpu", 3 * VOCAB)
    monkeypatch.setitem(chunked.HEAD_ELEMENTS, "cpu", 10 * VOCAB)
    clear()
    yield taken
    clear()


def clear():
    """Forget what was compiled."""
    compiled.fused_chunks.cache_clear()
    sparse.sparse_chunks.cache_clear()


def random_batch(seed=0, rows=4, steps=6, vocab=VOCAB, dtype=torch.float64):
    noise = torch.Generator().manual_seed(seed)
    teacher, student = (2 * torch.randn(rows, steps, vocab, generator=noise, dtype=torch.float64) for _ in range(2))
    mask = torch.ones(rows, steps, dtype=torch.bool)
    mask[1, 3:] = False
    tokens = torch.randint(vocab, (rows, steps), generator=noise)
    return {"teacher_logits": teacher.to(dtype), "student_logits": student.to(dtype), "tokens": tokens, "mask": mask}


def head(seed, vocab=VOCAB, width=5, bias=True, rows=(4, 6), dtype=torch.float64, **more):
    noise = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=noise, dtype=torch.float64).to(dtype)

    leaves = [draw(*rows, width), draw(vocab, width)] + ([draw(vocab)] if bias else [])
    for leaf in leaves:
        leaf.requires_grad_()
    return leaves, LinearLogits(*leaves, **more)


@pytest.mark.parametrize(("label", "source"), SOURCED)
def test_dense_rows_agree(label, source, traced):
    """Catches a term's factor, knowledge or normaliser that the fused chunk lost, and rows that fill no chunk left out."""
    case = BY_LABEL[label]
    batch = random_batch()
    student = batch["student_logits"].requires_grad_()
    weights = torch.rand(4, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = both(objective(case.name, **case.options), source, batch, [student], weights=weights, normalizer=3.0)
    assert_same(found, FLOAT64_BACKEND)


@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize(("label", "source"), SOURCED)
def test_rows_behind_a_head_agree(label, source, softcap, traced):
    """Catches a gradient that does not take the place of the block's logits, or takes it before they were read."""
    case = BY_LABEL[label]
    leaves, student = head(3, scale=0.5, softcap=softcap)
    _, teacher = head(4, width=3, scale=2.0, softcap=softcap)
    batch = {**random_batch(), "student_logits": student, "teacher_logits": teacher}
    found = both(objective(case.name, **case.options), source, batch, leaves)
    assert_same(found, FLOAT64_BACKEND)


@pytest.mark.parametrize("dense", [True, False])
def test_every_row_is_fused_but_one_that_stands_alone(dense, traced):
    """Catches a fast path that is never taken, and rows that fill no chunk left to the slow one."""
    leaves, student = head(3)
    batch = random_batch()
    if not dense:
        batch["student_logits"] = student
    assert batch["mask"].sum() == 21
    both(objective("kl"), "teacher", batch, leaves if not dense else [batch["student_logits"].requires_grad_()])
    # Dense rows come in chunks of four; behind a head in blocks of ten, whose last two rows make a chunk of their own.
    assert traced == ([4] * 5 if dense else [4, 4, 2, 4, 4, 2])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_rows_are_read_among_masked_ones_and_these_never(dtype, traced):
    """Catches a block put together by copying, a step behind the mask that is read, and a gradient that lands on one."""
    batch = random_batch(dtype=dtype)
    for name in ("teacher_logits", "student_logits"):
        batch[name][~batch["mask"]] = math.nan
    student = batch["student_logits"].requires_grad_()
    found = both(objective("js"), "student", batch, [student])
    assert_same(found, {torch.float64: FLOAT64_BACKEND, torch.float32: FLOAT32_BACKEND, torch.bfloat16: 1e-2}[dtype])
    assert traced == [4] * 5
    gradient = found[1][1]
    assert (gradient[~batch["mask"]] == 0).all()
    assert (gradient[batch["mask"]] != 0).any(-1).all()


def test_what_has_no_closed_form_is_not_fused(traced):
    """Catches a divergence of the user's own that is sent to a form it does not have."""
    batch = random_batch()
    student = batch["student_logits"].requires_grad_()
    made = objective("f_divergence", generator="kl", estimator="teacher")
    both(made, "teacher", batch, [student])
    assert traced == []


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize(("name", "options"), [("kl", {}), ("js", {"middle": "sequence", "estimator": "teacher"})])
def test_rows_of_a_top_k_teacher_agree(name, options, dense, traced):
    """Catches exponentials that are never compiled, or that stand where logits are still read."""
    leaves, student = head(3, scale=0.5)
    batch = random_batch()
    kept, ids = batch["teacher_logits"].log_softmax(-1).topk(3)
    tail = (1 - kept.exp().sum(-1)).log()
    token = batch["teacher_logits"].log_softmax(-1).gather(-1, batch["tokens"].unsqueeze(-1)).squeeze(-1)
    batch["teacher_logits"] = TopKLogits(ids, kept, tail, token)
    if dense:
        leaves = [batch["student_logits"].requires_grad_()]
    else:
        batch["student_logits"] = student
    assert_same(both(objective(name, **options), "teacher", batch, leaves), FLOAT64_BACKEND)
    assert traced == ([4] * 5 if dense else [4, 4, 2, 4, 4, 2])


@pytest.mark.parametrize("in_place", [False, True])
def test_infinite_logits_are_left_to_autograd(in_place, traced):
    """Catches NaN from 0 · inf, and logits that gave way to a gradient which nobody wants."""
    batch = random_batch(seed=7)
    leaves, student = head(5, scale=0.5)
    with torch.no_grad():
        leaves[2][4] = -math.inf  # a token that the student rules out, in every row
        batch["student_logits"][2, 1:4, 6] = -math.inf
    wanted = leaves[:2] if in_place else [batch["student_logits"].requires_grad_()]
    if in_place:
        batch["student_logits"] = student
    for name in ("js", "tvd"):
        found = both(objective(name), "teacher", batch, wanted)
        assert_same(found, FLOAT64_BACKEND)
        assert all(x.isfinite().all() for x in found[1][: 1 + len(wanted)])
    assert traced


def test_a_compiler_that_fails_costs_a_warning_and_nothing_else(traced, monkeypatch, caplog):
    """Catches a training run that dies, or computes something else, because a machine has no working compiler."""
    asked = []

    def broken(*_):
        asked.append(1)
        raise RuntimeError("no compiler\nand a page about it")

    monkeypatch.setattr(compiled, "_program", lambda function, name: broken)
    batch = random_batch()
    student = batch["student_logits"].requires_grad_()
    with caplog.at_level(logging.WARNING, logger="fdistill"):
        for _ in range(2):
            assert_same(both(objective("kl"), "teacher", batch, [student]), FLOAT64_BACKEND)
    assert len(asked) == 1
    assert [record.message for record in caplog.records] == [
        "The loss goes on uncompiled: torch.compile says no compiler"
    ]


def test_equal_models_have_zero_loss_and_gradient(traced):
    """Catches noise where teacher and student agree; in bfloat16 as well."""
    assert_equal_models_have_zero_loss_and_gradient(random_batch)
    assert traced


def test_compiling_is_for_long_runs_with_a_compiler(monkeypatch):
    """Catches twenty seconds of compilation for a run of ten, and a setting that asks for a compiler that is not there."""
    compiled._has_compiler.cache_clear()
    monkeypatch.setattr(compiled.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert worth_compiling(compiled.WORTH_COMPILING, "cpu")
    assert not worth_compiling(compiled.WORTH_COMPILING - 1, "cpu")
    compiled._has_compiler.cache_clear()
    monkeypatch.setattr(compiled.shutil, "which", lambda name: None)
    assert not worth_compiling(compiled.WORTH_COMPILING, "cpu")
    compiled._has_compiler.cache_clear()


@pytest.mark.skipif(not compiled._has_compiler("cpu"), reason="needs a C++ compiler")
@pytest.mark.parametrize(
    ("terms", "form", "dtype"),
    [
        (("kl",), "dense", torch.float32),
        (("hellinger", "tvd"), "dense", torch.float32),
        (("reverse_kl",), "head", torch.float32),
        (("js_halves",), "head", torch.float32),
        (("tvd",), "dense", torch.bfloat16),
        (("nll", "kl"), "masked", torch.bfloat16),
        (("js_halves",), "masked", torch.float32),
    ],
)
def test_compiled_for_real(terms, form, dtype, monkeypatch, caplog):
    """Catches what only code generation gets wrong: buffers that alias, in-place writes, conversions."""
    vocab = 33
    monkeypatch.setitem(compiled.COMPILED_ELEMENTS, "cpu", 8 * vocab)
    monkeypatch.setitem(chunked.HEAD_ELEMENTS, "cpu", 20 * vocab)
    clear()
    batch = random_batch(vocab=vocab, dtype=dtype)
    if form == "dense":
        batch["mask"][:] = True
    leaves, student = head(3, vocab=vocab, bias=False, dtype=dtype)
    if form != "head":
        leaves = [batch["student_logits"].requires_grad_()]
    else:
        batch["student_logits"] = student
    if terms == ("js_halves",):
        made, source = objective("js", middle="sequence"), "student"
    else:
        made, source = Objective(tuple(Term("teacher", name, 0.7) for name in terms)), "teacher"
    with caplog.at_level(logging.WARNING, logger="fdistill"):
        found = both(made, source, batch, leaves)
    assert not caplog.records, "compiled, and not fallen back"
    assert_same(found, FLOAT32_BACKEND if dtype == torch.float32 else 1e-2)


def rows_for(name, rows, vocab=400):
    """What `FusedChunks` takes, for one term."""
    teacher, student, out = (torch.randn(rows, vocab) for _ in range(3))
    if not DIVERGENCES[name].needs_teacher:
        teacher = None
    given = {"tokens": torch.arange(rows), "log_odds": torch.zeros(rows)}
    known = {key: given[key] for key in DIVERGENCES[name].row_values}
    return teacher, student, given["tokens"], [known], [torch.ones(rows)], out, torch.float32


def rows_among(arguments, others=3):
    """The same rows in another order among rows of NaN, and their index: what `FusedChunks` takes of a masked batch."""
    teacher, student, tokens, known, pulls, out, dtype = arguments
    index = torch.arange(len(student)).flip(0) + others
    total = len(student) + 2 * others

    def among(rows):
        return None if rows is None else torch.full((total, rows.shape[1]), math.nan).index_copy(0, index, rows)

    return among(teacher), among(student), tokens, known, pulls, among(out), dtype, index


@pytest.mark.skipif(not compiled._has_compiler("cpu"), reason="needs a C++ compiler")
@pytest.mark.parametrize("name", sorted(DIVERGENCES))
def test_the_loops_of_every_form_become_one_loop_over_rows(name):
    """Catches a form between whose loops something is done once a row, and a copy: a loop would then read every row again."""
    fused = FusedChunks((SLOPES[DIVERGENCES[name].function],))
    given = rows_for(name, 6)
    masked = rows_among(given)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        runs = [run_and_get_code(fused, *arguments) for arguments in (given, masked)]
    finally:
        torch.set_num_threads(threads)
    for found, code in runs:
        assert found is not None
        assert "\n".join(code).count("#pragma omp for") == 1
    (plain, _), (found, _) = runs
    for ours, truth in zip(found, plain, strict=True):
        assert torch.allclose(ours, truth, rtol=FLOAT32_BACKEND)
    truth, out, index = given[5], masked[5], masked[-1]
    assert torch.allclose(out[index], truth, rtol=FLOAT32_BACKEND, atol=FLOAT32_BACKEND)
    assert out.isnan().any(-1).sum() == len(out) - len(index)


@pytest.mark.skipif(not compiled._has_compiler("cpu"), reason="needs a C++ compiler")
@pytest.mark.parametrize("name", ["kl", "reverse_kl", "tvd", "js", "kl_to_middle", "hellinger", "alpha"])
def test_equal_models_have_zero_loss_and_gradient_compiled_for_real(name):
    """Catches a sign taken of what contraction leaves of a difference that is 0: total variation's noise has the size of q."""
    _, student, *rest = rows_for(name, 6)
    out = rest[3]
    value, *_ = FusedChunks((SLOPES[DIVERGENCES[name].function],))(student.clone(), student, *rest)
    assert value.abs().max() <= FLOAT32_BACKEND
    assert out.abs().max() <= FLOAT32_BACKEND


@pytest.mark.skipif(not compiled._has_compiler("cpu"), reason="needs a C++ compiler")
def test_another_number_of_rows_is_no_other_compilation():
    """Catches seconds of compilation in every step, because batches differ in length."""
    fused = FusedChunks((SLOPES[DIVERGENCES["kl"].function],))
    counters.clear()
    for rows in (6, 9, 400, 2):
        assert fused(*rows_for("kl", rows)) is not None
    assert counters["stats"]["unique_graphs"] == 1
    for rows, others in ((6, 1), (9, 4), (400, 1), (2, 50)):
        assert fused(*rows_among(rows_for("kl", rows), others)) is not None
    assert counters["stats"]["unique_graphs"] == 2


@pytest.mark.skipif(not compiled._has_compiler("cpu"), reason="needs a C++ compiler")
def test_logits_of_another_layout_are_compiled_too(caplog):
    """Catches room that takes the layout of logits which lie vocabulary first, and a compilation given up for good."""
    fused = FusedChunks((SLOPES[DIVERGENCES["tvd"].function],))
    teacher, student, *rest = rows_for("tvd", 6)
    with caplog.at_level(logging.WARNING, logger="fdistill"):
        found = fused(teacher, student.t().contiguous().t(), *rest)
        plain = fused(teacher, student, *rest)
    assert not caplog.records
    # Of one kind torch.compile would keep eight variants, and then give up.
    assert len(fused._loops._programs) == 2
    for ours, truth in zip(found, plain, strict=True):
        assert torch.allclose(ours, truth, rtol=FLOAT32_BACKEND)


@pytest.mark.skipif(not compiled._has_compiler("cpu"), reason="needs a C++ compiler")
def test_exponentials_are_one_loop_over_rows():
    """Catches a pass over the vocabulary for every sum of a top-k teacher's rows."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    logits, out = torch.randn(6, 400), torch.empty(6, 400)
    try:
        found, code = run_and_get_code(Compiled(sparse.exponentials), (logits, out), logits, out)
    finally:
        torch.set_num_threads(threads)
    for ours, truth in zip(found, sparse.exponentials(logits, torch.empty(6, 400)), strict=True):
        assert torch.allclose(ours, truth, rtol=FLOAT32_BACKEND)
    assert torch.allclose(out, (logits - logits.amax(-1, keepdim=True)).exp(), rtol=FLOAT32_BACKEND)
    assert "\n".join(code).count("#pragma omp for") == 1


def less_its_square(x, square):
    return x * x - square


@pytest.mark.skipif(not compiled._has_compiler("cpu"), reason="needs a C++ compiler")
@pytest.mark.skipif(
    not torch.backends.cpu.get_cpu_capability().startswith("AVX"), reason="needs instructions that contract"
)
def test_products_and_sums_are_contracted():
    """Catches an option of torch.compile that got another name: x² less itself as rounded is 0 unless the product stays whole."""
    x = torch.rand(64, 64)
    square = x * x
    residue = Compiled(less_its_square)((x, square), x, square)
    assert residue.abs().max() > 0
    assert torch.allclose(residue.double(), x.double() ** 2 - square.double(), rtol=FLOAT32_BACKEND)
