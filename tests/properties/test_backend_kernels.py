"""The Triton kernels say what their eager twins say: values, entropies, token log-probabilities and gradients, in every
form of logits and dtype. Without a GPU they run in Triton's interpreter, and are compiled for one all the same.
"""

import logging
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fdistill import DIVERGENCES, LinearLogits, Objective, Term, TopKLogits, objective, sequence_loss
from fdistill.checks import properties, run_checks
from fdistill.checks.cases import CASES
from fdistill.loss import chunked, compiled, kernels
from fdistill.loss.slopes import SLOPES
from tests.loss_kit import assert_equal_models_have_zero_loss_and_gradient, assert_same, both
from tests.tolerances import FLOAT32_BACKEND, FLOAT64_BACKEND

triton = pytest.importorskip("triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
pytestmark = [
    pytest.mark.skipif(
        DEVICE == "cpu" and os.environ.get("TRITON_INTERPRET") != "1",
        reason="needs a CUDA device or TRITON_INTERPRET=1",
    ),
    pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning"),  # the interpreter is NumPy, which says inf - inf
]

BY_LABEL = {case.label: case for case in CASES}
#: Objectives whose terms have a kernel: all but those of a generator.
SOURCED = [
    (case.label, source)
    for case in CASES
    if case.name != "f_divergence"
    for source in objective(case.name, **case.options).sources
]
VOCAB = 11


@pytest.fixture
def launched(monkeypatch):
    """Kernels on this device, a row in several pieces; the rows of every launch by the kernel's name."""
    taken = []
    launch = kernels._launch

    def watched(name, rows, *rest):
        done = launch(name, rows, *rest)
        if done:
            taken.append((name, rows))
        return done

    monkeypatch.setattr(kernels, "DEVICES", {"cpu", "cuda"})
    monkeypatch.setattr(kernels, "WORDS", 8)
    monkeypatch.setattr(kernels, "_launch", watched)
    monkeypatch.setattr(kernels, "_broken", [])
    for sizes, elements in ((compiled.COMPILED_ELEMENTS, 5), (chunked.CHUNK_ELEMENTS, 3), (chunked.HEAD_ELEMENTS, 8)):
        monkeypatch.setitem(sizes, DEVICE, elements * VOCAB)
    return taken


def random_batch(seed=0, rows=2, steps=4, vocab=VOCAB, dtype=torch.float64, masked=True):
    noise = torch.Generator().manual_seed(seed)
    teacher, student = (2 * torch.randn(rows, steps, vocab, generator=noise, dtype=torch.float64) for _ in range(2))
    mask = torch.ones(rows, steps, dtype=torch.bool)
    if masked:
        mask[1, 2:] = False
    batch = {
        "teacher_logits": teacher.to(dtype),
        "student_logits": student.to(dtype),
        "tokens": torch.randint(vocab, (rows, steps), generator=noise),
        "mask": mask,
    }
    return {name: value.to(DEVICE) for name, value in batch.items()}


def head(seed, vocab=VOCAB, width=5, bias=True, rows=(2, 4), dtype=torch.float64, **more):
    noise = torch.Generator().manual_seed(seed)
    shapes = [(*rows, width), (vocab, width)] + ([(vocab,)] if bias else [])
    leaves = [torch.randn(*shape, generator=noise, dtype=torch.float64).to(DEVICE, dtype) for shape in shapes]
    for leaf in leaves:
        leaf.requires_grad_()
    return leaves, LinearLogits(*leaves, **more)


def one_term(name):
    odds = {"log_odds": 0.4} if "log_odds" in DIVERGENCES[name].row_values else {}
    return Objective((Term("teacher", name, 0.7, **odds),))


def test_every_closed_form_has_a_kernel():
    """Catches a divergence that is added to the closed forms and forgotten here."""
    assert {function.__name__ for function in SLOPES} == set(kernels._forms()) <= set(DIVERGENCES)
    assert all(kernels.form_of(function) is not None for function in SLOPES)
    assert kernels.form_of(lambda log_p, log_q: log_p) is None

    def kl(log_p, log_q):
        return log_p.sum(-1)

    assert kernels.form_of(kl) is None, "a function of the user's under the name of ours"


@pytest.mark.parametrize(("label", "source"), SOURCED)
def test_dense_rows_agree(label, source, launched):
    """Catches a wrong slope, a lost factor, a piece of a row left out, and rows that are written to the wrong place."""
    case = BY_LABEL[label]
    batch = random_batch()
    student = batch["student_logits"].requires_grad_()
    weights = torch.rand(2, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64).to(DEVICE)
    made = objective(case.name, **case.options)
    assert_same(both(made, source, batch, [student], weights=weights, normalizer=3.0), FLOAT64_BACKEND)
    assert sum(rows for name, rows in launched if name == "loss_rows") == int(batch["mask"].sum())


@pytest.mark.parametrize(
    ("label", "source", "softcap"), [(*pair, None) for pair in SOURCED[::3]] + [(*pair, 2.0) for pair in SOURCED[::9]]
)
def test_rows_behind_a_head_agree(label, source, softcap, launched):
    """Catches a gradient that is written over logits that are still to be read."""
    case = BY_LABEL[label]
    leaves, student = head(3, scale=0.5, softcap=softcap)
    _, teacher = head(4, width=3, scale=2.0, softcap=softcap)
    batch = {**random_batch(), "student_logits": student, "teacher_logits": teacher}
    assert_same(both(objective(case.name, **case.options), source, batch, leaves), FLOAT64_BACKEND)
    assert sum(rows for name, rows in launched if name == "loss_rows") >= int(batch["mask"].sum())


@pytest.mark.parametrize(
    ("form", "dtype"),
    [("dense", torch.float32), ("dense", torch.bfloat16), ("masked", torch.bfloat16), ("head", torch.float16)],
)
@pytest.mark.parametrize("name", [name for name in DIVERGENCES if DIVERGENCES[name].function in SLOPES])
def test_every_form_agrees_in_every_dtype(name, dtype, form, launched):
    """Catches sums in half precision; the gradient is rounded to the logits' dtype once, as without kernels."""
    batch = random_batch(dtype=dtype, masked=form == "masked")
    made = one_term(name)
    if form == "head":
        leaves, batch["student_logits"] = head(3, dtype=dtype)
    else:
        leaves = [batch["student_logits"].requires_grad_()]
    found = both(made, "teacher", batch, leaves)
    assert_same(found, FLOAT32_BACKEND if dtype == torch.float32 else 2 * torch.finfo(dtype).eps)
    assert launched


def test_the_gradient_of_half_precision_takes_no_buffer(launched, monkeypatch):
    """Catches a [N, V] tensor in float32 beside logits in bfloat16."""
    wanted = []
    launch = kernels.launch_loss

    def watched(*arguments):
        wanted.append(arguments[6].dtype)
        return launch(*arguments)

    monkeypatch.setattr(kernels, "launch_loss", watched)
    for masked in (True, False):
        batch = random_batch(dtype=torch.bfloat16, masked=masked)
        both(objective("kl"), "teacher", batch, [batch["student_logits"].requires_grad_()])
    assert wanted and set(wanted) == {torch.bfloat16}


def test_token_log_probabilities_come_from_a_kernel(launched):
    """Catches a prefix ratio whose first pass over the logits takes the slow way."""
    batch = random_batch()
    both(objective("js", middle="sequence"), "student", batch, [batch["student_logits"].requires_grad_()])
    assert sum(rows for name, rows in launched if name == "token_rows") == 2 * int(batch["mask"].sum())


def test_what_has_no_kernel_takes_another_way(launched):
    """Catches a divergence of the user's own, several terms or a top-k teacher sent to a kernel that does not know them."""
    batch = random_batch()
    student = batch["student_logits"].requires_grad_()
    kept, ids = batch["teacher_logits"].log_softmax(-1).topk(3)
    top = TopKLogits(ids, kept, (1 - kept.exp().sum(-1)).log(), kept[..., 0])
    for made, teacher in (
        (objective("f_divergence", generator="kl", estimator="teacher"), batch["teacher_logits"]),
        (Objective((Term("teacher", "kl"), Term("teacher", "tvd"))), batch["teacher_logits"]),
        (objective("kl"), top),
    ):
        chunked.fused_chunks.cache_clear()
        found = both(made, "teacher", {**batch, "teacher_logits": teacher}, [student])
        assert_same(found, FLOAT64_BACKEND)
    assert [name for name, _ in launched if name == "loss_rows"] == []


def test_tensors_that_lie_otherwise_in_memory(launched):
    """Catches a kernel that walks over logits, tokens or numbers as if they lay side by side."""
    batch = random_batch(rows=1, masked=False)
    turned = batch["student_logits"].transpose(1, 2).contiguous().transpose(1, 2).requires_grad_()
    teacher = batch["teacher_logits"].transpose(1, 2).contiguous().transpose(1, 2)
    columns = torch.stack([batch["tokens"], -batch["tokens"]], dim=-1)[..., 0]
    expanded = torch.full((1, 1), 0.3, dtype=torch.float64, device=DEVICE).expand(1, 4)
    told = Term("teacher", "kl_to_middle", log_odds=lambda prefix: expanded)
    given = {**batch, "student_logits": turned, "teacher_logits": teacher, "tokens": columns}
    for made in (objective("kl"), objective("mle"), Objective((told,))):
        source = made.sources[0]
        assert_same(both(made, source, given, [turned]), FLOAT64_BACKEND)
    column = torch.stack([batch["tokens"][0], -batch["tokens"][0]], dim=-1)[:, :1]  # [4, 1] of stride 2
    tall = {name: x[0].unsqueeze(1) for name, x in batch.items()} | {"tokens": column}
    tall["student_logits"].requires_grad_()
    assert column.reshape(-1).stride() == (2,)
    assert_same(both(objective("mle"), "data", tall, [tall["student_logits"]]), FLOAT64_BACKEND)
    assert launched


@pytest.mark.parametrize("odds", [-14.0, -8.0, 8.0, 14.0])
@pytest.mark.parametrize("name", ["kl_to_middle", "reverse_kl_to_middle", "js"])
def test_middles_that_lean_in_float32(name, odds, launched):
    """Catches digits lost where the middle is nearly one of the two, and infinite values where it is not."""
    found = {}
    for dtype in (torch.float64, torch.float32):
        batch = random_batch(seed=3, dtype=dtype)
        student = batch["student_logits"].requires_grad_()
        made = Objective((Term("teacher", name, log_odds=odds),))
        plain, fused = both(made, "teacher", batch, [student])
        found[dtype] = plain[1] if dtype == torch.float64 else fused[1]
    scale = max(0.01, float(found[torch.float64].abs().max()))  # what a softmax in float32 rounds stays
    assert (found[torch.float32].double() - found[torch.float64]).abs().max() <= FLOAT32_BACKEND / 10 * scale
    assert launched


@pytest.mark.parametrize("name", ["chi2", "kl", "rkl", "jeffreys"])
def test_an_infinite_divergence_is_said_to_be_one(name, launched):
    """Catches a probability of 0 that multiplies an infinite ratio away."""
    batch = random_batch()
    made = one_term("reverse_kl" if name == "rkl" else name)
    batch["teacher_logits" if name == "rkl" else "student_logits"][0, 0, 3] = -math.inf
    out = sequence_loss(
        made, "teacher", **batch | {"student_logits": batch["student_logits"].requires_grad_()}, compiled=True
    )
    assert out.loss == math.inf and launched


@pytest.mark.parametrize("form", ["dense", "masked", "head"])
def test_infinite_logits(form, launched):
    """Catches NaN from 0 · inf, and logits that a kernel has overwritten before it found an infinite value."""
    batch = random_batch(seed=7, masked=form == "masked")
    leaves, student = head(5, scale=0.5)
    with torch.no_grad():
        leaves[2][4] = -math.inf
        batch["student_logits"][1, :2, 6] = -math.inf  # the student rules out what the teacher may write
        batch["teacher_logits"][0, 1:3, 3] = -math.inf  # and the other way round
        batch["student_logits"][0, 3, 5] = batch["teacher_logits"][0, 3, 5] = -math.inf
    wanted = leaves[:2] if form == "head" else [batch["student_logits"].requires_grad_()]
    if form == "head":
        batch["student_logits"] = student
    for name in ("js", "tvd", "kl"):
        found = both(objective(name), "teacher", batch, wanted)
        if name == "kl":
            assert found[0][0] == found[1][0] == math.inf
        else:
            assert_same(found, FLOAT64_BACKEND)
            assert all(x.isfinite().all() for x in found[1][: 1 + len(wanted)])
    assert launched


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("name", [name for name in DIVERGENCES if DIVERGENCES[name].function in SLOPES])
def test_a_broken_logit_is_not_hidden(name, bad, launched):
    """Catches a NaN that a comparison inside a form swallows."""
    made = one_term(name)
    for whose in ("student_logits", "teacher_logits"):
        if whose == "teacher_logits" and not DIVERGENCES[name].needs_teacher:
            continue
        batch = random_batch()
        batch[whose][0, 0, 7] = bad
        batch["student_logits"].requires_grad_()
        out = sequence_loss(made, "teacher", **batch, compiled=True)
        assert not out.loss.isfinite()
    assert launched


def test_equal_models_have_zero_loss_and_gradient(launched):
    """Catches noise where teacher and student agree; in bfloat16 as well."""
    assert_equal_models_have_zero_loss_and_gradient(random_batch)
    assert launched


def test_extreme_logits(launched):
    """Catches a normaliser that overflows, or a sum that starts above the largest logit."""
    for scale in (1e4, 1e-2):
        batch = random_batch(dtype=torch.float32)
        batch["teacher_logits"] = batch["teacher_logits"] * scale - 3 * scale
        student = (batch["student_logits"] * scale + 2 * scale).detach().requires_grad_()
        for name in ("kl", "rkl", "js", "tvd"):
            made = objective(name)
            for source in made.sources:
                found = both(made, source, {**batch, "student_logits": student}, [student])
                assert_same(found, FLOAT32_BACKEND)
    assert launched


def test_a_launch_that_fails_costs_a_warning_and_nothing_else(launched, monkeypatch, caplog):
    """Catches a training run that dies, or computes something else, because Triton does not fit the machine."""

    def broken(words):
        raise RuntimeError("no driver\nand a page about it")

    monkeypatch.setattr(triton, "next_power_of_2", broken)
    batch = random_batch()
    student = batch["student_logits"].requires_grad_()
    monkeypatch.setattr(compiled, "_program", lambda function, name: function)
    with caplog.at_level(logging.WARNING, logger="fdistill"):
        for name in ("kl", "js"):
            assert_same(both(objective(name), "teacher", batch, [student]), FLOAT64_BACKEND)
    assert launched == []
    assert [record.message for record in caplog.records] == ["The loss goes on without Triton's kernels: no driver"]


def test_verify_tries_the_kernels_where_there_are_any(launched, monkeypatch):
    """Catches a device whose kernels are trusted untried."""
    assert set(properties.KERNEL_CASES) <= set(BY_LABEL)
    if DEVICE == "cpu":  # interpreted, each takes seconds
        monkeypatch.setattr(properties, "KERNEL_CASES", ("kl",))
    kernel = [result for result in run_checks(DEVICE, torch.float32, pairs=1, quick=True) if "Triton" in result.name]
    assert [result.passed for result in kernel] == [True] and kernel[0].cases == 2 * len(properties.KERNEL_CASES)
    assert launched


def test_kernels_are_for_cuda():
    """Catches an interpreter that is taken for a fast path."""
    kernels_here = torch.device("cpu"), torch.device("meta")
    assert not any(kernels.launches_on(device) for device in kernels_here)


COMPILES = """
import sys
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from fdistill.loss import triton_rows

def compiled(kernel, pointers, constants):
    names = kernel.arg_names
    signature = {name: "constexpr" if name in constants else pointers.get(name, "i32") for name in names}
    source = ASTSource(kernel, signature=signature, constexprs=constants)
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 1})

sizes = {"DTYPE": tl.float32, "BLOCK": 32}
rows = {name: "*fp32" for name in ("log_odds", "pulls", "values", "entropies", "token_log_probs", "found")}
for name in sys.argv[1:]:
    logits = {"student": "*bf16", "teacher": "*bf16", "logits": "*bf16", "out": "*bf16", "tokens": "*i64"}
    if name == "token_rows":
        found = compiled(triton_rows.token_rows, rows | logits, sizes)
    else:
        constants = {"FORM": triton_rows.FORMS[name], "HAS_TEACHER": name != "nll", "HAS_ODDS": True, **sizes}
        found = compiled(triton_rows.loss_rows, rows | logits, constants)
    print(name, len(found.asm["cubin"]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("part", [0, 1])
def test_kernels_compile_for_a_gpu_that_is_not_here(part):
    """Catches what the interpreter lets pass and the compiler does not: types that do not fit, values that are no constants."""
    names = [*kernels._forms(), "token_rows"][part::2]
    here = Path(__file__).parents[2]
    environment = {**os.environ, "TRITON_INTERPRET": "0", "PYTHONPATH": str(here)}
    done = subprocess.run(
        [sys.executable, "-c", COMPILES, *names], capture_output=True, text=True, env=environment, cwd=here, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert [line.split()[0] for line in done.stdout.splitlines()] == names
    assert all(int(line.split()[1]) > 1000 for line in done.stdout.splitlines())
