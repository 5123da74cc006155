"""On a GPU: are the Triton kernels worth having beside torch.compile, and how far from the memory's speed are they?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from benchmarks import peers, plain
from benchmarks.losses import KINDS, inputs, installed_in
from benchmarks.results import Answer, Goal, Table, mebibytes, milliseconds, number
from benchmarks.timing import Times, ratio, take_turns, typical
from fdistill import objective, sequence_loss
from fdistill.loss import kernels

TITLE = "Kernels on a GPU"
SIZES: dict[str, dict[str, Any]] = {
    "full": {"rows": 4096, "vocab": 32768, "rounds": 20},
    "quick": {"rows": 2048, "vocab": 32768, "rounds": 5},
}
TINY = {"rows": 8, "vocab": 64, "dtype": torch.float32}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
CONTENDERS = ("kernels", "torch.compile", "uncompiled", "torch", "liger")
#: Liger's beta: of its JSD, 0 is KL and 1 is RKL; it has both halves of JS at once, and TVD by itself.
LIGER = {"kl": 0.0, "rkl": 1.0, "js-teacher": 0.5, "js-student": 0.5}


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def work(name: str, size: dict[str, Any]) -> Callable[[], Any]:
    """One forward and backward of `KIND/CONTENDER`; "floor" is the traffic nobody can avoid."""
    return works([name], size)[name]


def works(names: list[str], size: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    """By name, one forward and backward each on shared inputs, until the device has done it."""
    given = inputs(size["rows"], size["vocab"])
    student, teacher = (logits.detach().to(device(), size["dtype"]) for logits in given[:2])
    tokens, mask = (x.to(device()) for x in given[2:])
    return {name: _work(name, student.requires_grad_(), teacher, tokens, mask) for name in names}


def _work(name: str, student: Tensor, teacher: Tensor, tokens: Tensor, mask: Tensor) -> Callable[[], Any]:
    loss = None if name == "floor" else loss_of(*name.split("/"), teacher, tokens, mask)
    written = torch.empty_like(student, requires_grad=False) if loss is None else None

    def run() -> None:
        if loss is None:
            torch.add(student.detach(), teacher, out=written)
        else:
            loss(student).backward()
        if student.is_cuda:
            torch.cuda.synchronize()
        student.grad = None

    return run


def loss_of(kind: str, contender: str, teacher: Tensor, tokens: Tensor, mask: Tensor) -> Callable[[Tensor], Tensor]:
    """The loss of student logits [B, T, V] as the contender computes it."""
    named, source, _ = KINDS[kind]
    if contender == "torch":
        return lambda student: plain.loss(kind, student.float(), teacher.float())
    if contender == "liger":
        liger = peers.liger_dense(LIGER.get(kind))
        return lambda student: liger(student.flatten(0, 1), teacher.flatten(0, 1))
    batch = {"teacher_logits": teacher, "tokens": tokens, "mask": mask, "compiled": contender != "uncompiled"}

    def ours(student: Tensor) -> Tensor:
        devices = kernels.DEVICES if contender == "kernels" else set()
        with mock.patch.object(kernels, "DEVICES", devices):
            return sequence_loss(objective(named), source, student_logits=student, **batch).loss

    return ours


def measure(mode: str) -> Answer:
    """Time every kind in both dtypes, in turns with the floor; then the peak memory of each contender."""
    setting = (
        f"Logits [{SIZES[mode]['rows']}, {SIZES[mode]['vocab']}], forward and backward, terms and metrics included. The floor "
        "reads both logits once and writes one tensor of their size. Memory is what is taken at most beyond the logits, the "
        "gradient included. Liger's JS computes both halves at once."
    )
    if device().type == "cpu":
        return Answer("kernels", TITLE, setting, [], [], ["kernels is skipped: it needs a CUDA device."])
    tables, goals, notes = [], [], []
    for label, dtype in DTYPES.items():
        size = {**SIZES[mode], "dtype": dtype}
        rows = []
        for kind in KINDS:
            there, words = installed_in(work, [f"{kind}/{name}" for name in CONTENDERS], TINY)
            notes += [word for word in words if word not in notes]
            made = works(["floor", *there], size)
            times = take_turns(made, size["rounds"], warmups=3)
            rows += [_row(name, times, peak(made[name])) for name in there]
            goals += _goals(f"{kind}, {label}", kind, times)
        tables.append(Table(label, ["loss", "ms", "× floor", "peak MiB"], rows))
    return Answer("kernels", TITLE, setting, tables, goals, notes)


def peak(run: Callable[[], Any]) -> int:
    """Bytes that the device holds at most while `run` works, beyond those it holds before."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    return torch.cuda.max_memory_allocated() - before


def _row(name: str, times: Times, taken: int) -> list[str]:
    kind, contender = name.split("/")
    cells = [milliseconds(typical(times, name)), number(ratio(times, name, "floor")), mebibytes(taken)]
    return [f"{kind}, {contender}", *cells]


def _goals(label: str, kind: str, times: Times) -> list[Goal]:
    """Kernels stay where torch.compile takes at least a tenth more time."""
    against = f"{kind}/torch.compile"
    return [Goal(f"{label}: times faster than torch.compile", ">=", 1.1, ratio(times, against, f"{kind}/kernels"))]
