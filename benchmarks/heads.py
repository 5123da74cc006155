"""How fast and how small is the loss when hidden states and heads come in, and no logits?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks import losses, memory, peers, plain
from benchmarks.losses import KINDS, OURS, installed_in
from benchmarks.results import Answer, Goal, Table, mebibytes, milliseconds, number
from benchmarks.timing import Times, ratio, take_turns, typical
from fdistill import LinearLogits, objective, sequence_loss

TITLE = "The loss behind a head"
SIZES: dict[str, dict[str, Any]] = {
    "full": {"rows": 512, "vocab": 32128, "width": 512, "rounds": 3},
    "quick": {"rows": 64, "vocab": 8192, "width": 64, "rounds": 5},
}
TINY = {"rows": 16, "vocab": 64, "width": 8}
COMPILED = losses.COMPILED
PEERS = ("trl", "liger", "liger compiled")


def work(name: str, size: dict[str, Any]) -> Callable[[], Any]:
    """One forward and backward of `KIND/CONTENDER`; "products" are the four matrix products nobody can avoid."""
    return works([name], size)[name]


def works(names: list[str], size: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    """By name, one forward and backward each on shared inputs.

    Raises:
        peers.Missing: a peer that is not installed.
    """
    ours, theirs, tokens = inputs(size)
    return {name: _work(name, ours, theirs, tokens) for name in names}


def inputs(size: dict[str, Any]) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Student's and teacher's hidden states [B, T, d] and head [V, d], and tokens [B, T]."""
    random = torch.Generator().manual_seed(0)
    rows, vocab, width = size["rows"], size["vocab"], size["width"]
    steps = min(64, rows)
    ours = [torch.randn(rows // steps, steps, width, generator=random), torch.randn(vocab, width, generator=random)]
    theirs = [tensor + 0.3 * torch.randn(tensor.shape, generator=random) for tensor in ours]
    ours[1], theirs[1] = 2 * ours[1] / width**0.5, 2 * theirs[1] / width**0.5
    tokens = torch.randint(vocab, (rows // steps, steps), generator=random)
    for tensor in ours:
        tensor.requires_grad_()
    return ours, theirs, tokens


def _work(name: str, ours: list[Tensor], theirs: list[Tensor], tokens: Tensor) -> Callable[[], Any]:
    if name == "products":
        return lambda: _products(ours, theirs)
    kind, contender = name.split("/")
    loss = loss_of(kind, contender, tokens)

    def run() -> None:
        for tensor in ours:
            tensor.grad = None
        loss(*ours, *theirs).backward()

    return run


@torch.no_grad()
def _products(ours: list[Tensor], theirs: list[Tensor]) -> None:
    """Both models' logits, and the gradients of the student's hidden states and head."""
    hidden = ours[0].view(-1, ours[0].shape[-1])
    logits = hidden @ ours[1].T
    torch.matmul(theirs[0].view_as(hidden), theirs[1].T)
    torch.matmul(logits, ours[1])
    torch.matmul(logits.T, hidden)


def loss_of(kind: str, contender: str, tokens: Tensor) -> peers.Heads:
    """The loss of hidden states and heads, student first, as the contender computes it."""
    named, source, beta = KINDS[kind]
    if contender in OURS:
        mask = torch.ones_like(tokens, dtype=torch.bool)
        return lambda hidden, head, teacher_hidden, teacher_head: (
            sequence_loss(
                objective(named),
                source,
                student_logits=LinearLogits(hidden, head),
                teacher_logits=LinearLogits(teacher_hidden, teacher_head),
                tokens=tokens,
                mask=mask,
                compiled=contender == "ours",
            ).loss
        )
    if contender == "torch":
        return lambda hidden, head, teacher_hidden, teacher_head: plain.loss(
            kind, (hidden @ head.T).flatten(0, 1), (teacher_hidden @ teacher_head.T).flatten(0, 1)
        )
    assert beta is not None
    return peers.trl_chunked(beta) if contender == "trl" else peers.liger(beta, compiled=contender.endswith("compiled"))


def contenders(kind: str) -> list[str]:
    return [f"{kind}/{name}" for name in (*OURS, "torch", *(PEERS if KINDS[kind][2] is not None else ()))]


def measure(mode: str) -> Answer:
    """Time every kind in turns with the four products; then the peak memory of each contender."""
    size = SIZES[mode]
    times: dict[str, Times] = {}
    notes: list[str] = []
    for kind in KINDS:
        there, words = installed_in(work, contenders(kind), TINY)
        notes += [word for word in words if word not in notes]
        times[kind] = take_turns(works(["products", *there], size), size["rounds"])
    # Memory is that of one half of JS; the peers' is that of their code as it is written.
    names = [name for kind, found in times.items() for name in found if kind != "js-student" and "/" in name]
    wanted = {name: (name, size) for name in names if not name.endswith("liger compiled")}
    double = dict(size, rows=2 * size["rows"])
    wanted |= {f"{name}, twice the rows": (name, double) for name in wanted if name.endswith("/ours")}
    peaks = memory.peaks("heads", wanted, notes)
    return Answer(
        "heads",
        TITLE,
        f"Hidden states [{size['rows']}, {size['width']}] and a head [{size['vocab']}, {size['width']}] of both "
        "models in float32, "
        "forward and backward, gradients of the student's hidden states and head. Memory is what is taken at most beyond these. "
        "Ours is compiled, as the trainer does it by itself where a run is long enough; a compilation before the call is not "
        "counted. The peers' JS computes both halves at once.",
        [Table("", ["loss", "ms", "× products", "peak MiB"], table_rows(times, peaks))],
        goals(times, peaks, size),
        notes,
    )


def table_rows(times: dict[str, Times], peaks: dict[str, int | None]) -> list[list[str]]:
    rows = [["four products", milliseconds(typical(times["kl"], "products")), "1", ""]]
    for found in times.values():
        for name in found:
            if name != "products":
                cells = [
                    milliseconds(typical(found, name)),
                    number(ratio(found, name, "products")),
                    mebibytes(peaks.get(name)),
                ]
                rows.append([name.replace("/", ", "), *cells])
    return rows


def goals(times: dict[str, Times], peaks: dict[str, int | None], size: dict[str, Any]) -> list[Goal]:
    found = []
    for kind, seconds in times.items():
        ours = f"{kind}/ours"
        found.append(Goal(f"{kind}: times the four products", "<=", 1.3, ratio(seconds, ours, "products")))
        foreign = [name for name in seconds if name.split("/")[-1] in PEERS]
        others = foreign or [f"{kind}/torch"]
        rival = "fastest peer" if foreign else "plain torch"
        fastest = min(ratio(seconds, name, ours) for name in others)
        found.append(Goal(f"{kind}: times faster than the {rival}", ">=", 1.0, fastest))
        if ours in peaks:
            found += memory_goals(kind, others, peaks, size)
    return found


def memory_goals(kind: str, others: list[str], peaks: dict[str, int | None], size: dict[str, Any]) -> list[Goal]:
    mine, more = peaks[f"{kind}/ours"], peaks[f"{kind}/ours, twice the rows"]
    known = [count for name in others if (count := peaks.get(name)) is not None]
    share = mine / min(known) if known and mine is not None else None
    states = size["rows"] * size["width"] * 4  # the gradient of the hidden states, which must grow
    logits = size["rows"] * size["vocab"] * 4
    grown = (more - mine - states) / logits if more is not None and mine is not None else None
    return [
        Goal(f"{kind}: memory as a share of the smallest other's", "<=", 1.0, share),
        Goal(f"{kind}: memory that twice the rows add, as a share of their logits", "<=", 0.05, grown),
    ]
