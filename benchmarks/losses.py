"""How fast and how small is the loss on dense logits, forward and backward, against plain torch and other toolkits?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks import memory, peers, plain
from benchmarks.results import Answer, Goal, Table, mebibytes, milliseconds, number
from benchmarks.timing import Times, ratio, take_turns, typical
from fdistill import objective, sequence_loss

TITLE = "The loss on dense logits"
SIZES: dict[str, dict[str, Any]] = {
    "full": {"rows": 512, "vocab": 32128, "rounds": 11},
    "quick": {"rows": 64, "vocab": 8192, "rounds": 5},
}
TINY = {"rows": 16, "vocab": 64}

#: By name the objective, whose prefixes, and TRL's beta for it (the middle of JS: TRL computes both halves at once).
KINDS: dict[str, tuple[str, str, float | None]] = {
    "kl": ("kl", "teacher", 0.0),
    "rkl": ("rkl", "student", 1.0),
    "js-teacher": ("js", "teacher", 0.5),
    "js-student": ("js", "student", 0.5),
    "tvd": ("tvd", "teacher", None),
}
TORCHTUNE = {"kl": "ForwardKLLoss", "rkl": "ReverseKLLoss"}
STEPS = 64  # tokens a sequence

#: Compiled, as a training run that is long enough does it by itself; and uncompiled.
OURS = ("ours", "ours uncompiled")

#: The first of them with every eighth step masked: less work than the others have, and rows that do not lie side by side.
MASKED = "ours, masked"

#: What compiles at its first call, which the measurement of memory leaves out.
COMPILED = tuple(f"{kind}/{contender}" for kind in KINDS for contender in (OURS[0], MASKED))


def inputs(rows: int, vocab: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Student and teacher logits [B, T, V] that resemble each other, tokens and mask [B, T]."""
    steps = min(STEPS, rows)
    shape = (rows // steps, steps)
    random = torch.Generator().manual_seed(0)
    student = torch.randn(*shape, vocab, generator=random) * 2
    teacher = student + torch.randn(*shape, vocab, generator=random)
    tokens = torch.randint(vocab, shape, generator=random)
    return student.requires_grad_(), teacher, tokens, torch.ones(shape, dtype=torch.bool)


def work(name: str, size: dict[str, Any]) -> Callable[[], Any]:
    """One forward and backward of `KIND/CONTENDER`, on inputs of its own; "floor" is the traffic nobody can avoid."""
    return works([name], size)[name]


def works(names: list[str], size: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    """By name, one forward and backward each, on shared inputs.

    Raises:
        peers.Missing: a peer that is not installed.
    """
    student, teacher, tokens, mask = inputs(size["rows"], size["vocab"])
    flat = [logits.view(1, -1, size["vocab"]) for logits in (student.detach(), teacher)]
    return {name: _work(name, student, teacher, tokens, mask, flat) for name in names}


def _work(
    name: str, student: Tensor, teacher: Tensor, tokens: Tensor, mask: Tensor, flat: list[Tensor]
) -> Callable[[], Any]:
    if name == "floor":
        written = torch.empty_like(flat[0])
        return lambda: torch.add(*flat, out=written)
    kind, contender = name.split("/")
    loss = loss_of(kind, contender, teacher, tokens, mask)

    def run() -> None:
        student.grad = None
        loss(student).backward()

    return run


def loss_of(kind: str, contender: str, teacher: Tensor, tokens: Tensor, mask: Tensor) -> Callable[[Tensor], Tensor]:
    """The loss of student logits as the contender computes it."""
    named, source, beta = KINDS[kind]
    if contender == MASKED:
        mask, contender = mask & (torch.arange(mask.shape[1]) % 8 != 0), "ours"
    if contender in OURS:
        return lambda student: (
            sequence_loss(
                objective(named),
                source,
                student_logits=student,
                teacher_logits=teacher,
                tokens=tokens,
                mask=mask,
                compiled=contender == "ours",
            ).loss
        )
    if contender == "torch":
        return lambda student: plain.loss(kind, student, teacher)
    if contender == "trl":
        assert beta is not None
        foreign = peers.trl_gkd(beta)
    elif contender == "torchtune":
        foreign = peers.torchtune(TORCHTUNE[kind])
    else:
        raise ValueError(f"there is no contender {contender!r}")
    return lambda student: foreign(student.view(1, -1, student.shape[-1]), teacher.view(1, -1, teacher.shape[-1]))


def contenders(kind: str) -> list[str]:
    """Who computes this kind."""
    names = [*OURS, "torch"] + (["trl"] if KINDS[kind][2] is not None else [])
    return [f"{kind}/{name}" for name in names + (["torchtune"] if kind in TORCHTUNE else [])]


def installed_in(
    work: Callable[[str, dict[str, Any]], Any], names: list[str], tiny: dict[str, Any]
) -> tuple[list[str], list[str]]:
    """Those whose toolkit is there, and a sentence for each that is not."""
    there, words = [], []
    for name in names:
        try:
            work(name, tiny)
            there.append(name)
        except peers.Missing as missing:
            words.append(f"{missing}.")
    return there, list(dict.fromkeys(words))


def measure(mode: str) -> Answer:
    """Time every kind in turns with the floor; then the peak memory of each contender."""
    size = SIZES[mode]
    times: dict[str, Times] = {}
    notes: list[str] = []
    for kind in KINDS:
        there, words = installed_in(work, contenders(kind), TINY)
        notes += [word for word in words if word not in notes]
        times[kind] = take_turns(works(["floor", *there, f"{kind}/{MASKED}"], size), size["rounds"])
    names = [name for found in times.values() for name in found if name != "floor"]
    peaks = memory.peaks("losses", {name: (name, size) for name in names}, notes)
    return Answer(
        "losses",
        TITLE,
        f"Logits [{size['rows']}, {size['vocab']}] in float32, forward and backward, terms and metrics included. Ours is "
        "compiled, as the trainer does it by itself where a run is long enough; masked, every eighth step does not count. The "
        "floor reads both logits once and writes one tensor of their size, whose memory is there already. Memory is what is "
        f"taken at most beyond the logits, the gradient itself ({mebibytes(size['rows'] * size['vocab'] * 4)} MiB) included, a "
        "compilation before it not. TRL's JS computes both halves at once.",
        [Table("", ["loss", "ms", "× floor", "peak MiB"], table_rows(times, peaks))],
        goals(times, peaks, size),
        notes,
    )


def table_rows(times: dict[str, Times], peaks: dict[str, int | None]) -> list[list[str]]:
    rows = []
    for found in times.values():
        for name in found:
            if name != "floor":
                kind, contender = name.split("/")
                cells = [
                    milliseconds(typical(found, name)),
                    number(ratio(found, name, "floor")),
                    mebibytes(peaks[name]),
                ]
                rows.append([f"{kind}, {contender}", *cells])
    floor = typical(times["kl"], "floor")
    return [["floor", milliseconds(floor), "1", ""], *rows]


def goals(times: dict[str, Times], peaks: dict[str, int | None], size: dict[str, Any]) -> list[Goal]:
    def against(kind: str, other: str) -> float | None:
        name = f"{kind}/{other}"
        return ratio(times[kind], name, f"{kind}/ours") if name in times[kind] else None

    found = [
        Goal(f"{kind}: times faster than TRL's GKD loss", ">=", wanted, against(kind, "trl"))
        for kind, wanted in (("kl", 3.5), ("rkl", 3.5), ("js-teacher", 15.0), ("js-student", 15.0))
    ]
    found.append(Goal("tvd: times faster than plain torch", ">=", 2.5, against("tvd", "torch")))
    for kind in KINDS:
        wanted = 10.0 if kind.startswith("js") else 9.0
        found.append(
            Goal(f"{kind}: times the traffic floor", "<=", wanted, ratio(times[kind], f"{kind}/ours", "floor"))
        )
    whole = size["rows"] * size["vocab"] * 4
    extra = [peaks[f"{kind}/ours"] for kind in KINDS]
    known = [count for count in extra if count is not None]
    worst = (max(known) - whole) / whole if known else None
    found.append(Goal("most memory beyond the gradient, as a share of one logits tensor", "<=", 0.1, worst))
    return found
