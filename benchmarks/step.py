"""How long is a whole optimizer step, against the authors' step logic, and offline against online teacher samples?"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from benchmarks import memory
from benchmarks.authors import AuthorsStep
from benchmarks.models import rows, t5_pair, training_arguments, word_tokenizer
from benchmarks.results import Answer, Goal, Table, mebibytes, milliseconds, number
from benchmarks.timing import Times, ratio, take_turns, typical
from benchmarks.turns import Turn, train_in_turns
from fdistill import FDistillConfig, FDistillTrainer
from fdistill.models import Prompts, adapter_for
from fdistill.sampling import DrawKeys, sample

TITLE = "The training step"
SIZES: dict[str, dict[str, Any]] = {
    "full": {"vocab": 16384, "width": 256, "layers": 6, "batch": 8, "source": 32, "target": 32, "steps": 8},
    "quick": {"vocab": 2048, "width": 64, "layers": 4, "batch": 4, "source": 16, "target": 16, "steps": 4},
}
TINY = {"vocab": 64, "width": 16, "layers": 1, "batch": 2, "source": 6, "target": 6, "steps": 1}
OBJECTIVES = ("js", "tvd")
CONTENDERS = ("ours", "ours, online", "authors, ancestral", "authors, 6 beams")
#: What compiles at its first call, which the measurement of memory leaves out.
COMPILED = tuple(f"{kind}/{name}" for kind in OBJECTIVES for name in CONTENDERS[:2])


def work(name: str, size: dict[str, Any]) -> Callable[[], Any]:
    """Three optimizer steps of `OBJECTIVE/CONTENDER`, its models there already."""
    run = make_run(name, size, *t5_pair(size))
    return lambda: run(Turn(0), 3)


def make_run(name: str, size: dict[str, Any], teacher: Any, student: Any) -> Callable[[Turn, int], None]:
    """A training run of `OBJECTIVE/CONTENDER` on models of its own."""
    objective, contender = name.split("/")
    teacher, student = copy.deepcopy(teacher), copy.deepcopy(student)
    if contender.startswith("ours"):
        return lambda turn, steps: train_ours(
            objective, contender.endswith("online"), size, teacher, student, turn, steps
        )
    beams = 6 if contender.endswith("beams") else 1
    return lambda turn, steps: train_authors(objective, beams, size, teacher, student, turn, steps)


def adam(student: Any) -> Any:
    """The optimizer of every contender."""
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-4, weight_decay=0.0, fused=True)
    return optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)


def train_ours(
    objective: str, online: bool, size: dict[str, Any], teacher: Any, student: Any, turn: Turn, steps: int
) -> None:
    """FDistillTrainer as a user runs it, teacher samples attached to the data, or drawn anew in every step."""
    data = rows(size, size["batch"] * steps)
    if online:
        data = [{key: row[key] for key in ("prompt", "completion")} for row in data]
    with tempfile.TemporaryDirectory() as folder:
        args = FDistillConfig(
            **training_arguments(folder, size, steps),
            objective=objective,
            max_completion_length=size["target"],
            max_prompt_length=size["source"],
            verify=False,
            compile_loss=True,  # what a run of over a thousand steps decides by itself; the warm-up steps compile
        )
        FDistillTrainer(
            student,
            teacher,
            args,
            data,
            processing_class=word_tokenizer(size["vocab"]),
            callbacks=[turn],
            optimizers=adam(student),
        ).train()


def train_authors(
    objective: str, beams: int, size: dict[str, Any], teacher: Any, student: Any, turn: Turn, steps: int
) -> None:
    """The authors' step in a plain loop, its batches made beforehand."""
    tokenizer = word_tokenizer(size["vocab"])
    data = rows(size, size["batch"] * steps)
    step = AuthorsStep(student, teacher, objective, beams, size["target"], adam(student)[0])
    student.eval()  # dropout is 0, so that this changes nothing but warnings
    turn.begin()
    for first in range(0, len(data), size["batch"]):
        batch = data[first : first + size["batch"]]
        source = tokenizer([row["prompt"] + " </s>" for row in batch], return_tensors="pt", padding=True)
        completions = torch.tensor([row["teacher_completion_ids"] for row in batch])
        step(source.input_ids, source.attention_mask, completions)
        turn.step_done()


def sampling(size: dict[str, Any], teacher: Any, student: Any) -> dict[str, Callable[[], Any]]:
    """One batch of samples from either model, encoder included, by our loop and by Transformers' `generate`."""
    ids = torch.randint(3, size["vocab"], (size["batch"], size["source"]), generator=torch.Generator().manual_seed(0))
    prompts, length = Prompts(ids, torch.ones_like(ids, dtype=torch.bool)), size["target"]
    keys = DrawKeys.of(0, list(range(size["batch"])))

    def ours(model: Any) -> Any:
        return sample(
            model, prompts, keys, max_length=length, encoded=adapter_for(model).encode(model, prompts).detach()
        )

    def generate(model: Any, **options: Any) -> Any:
        return model.generate(input_ids=ids, do_sample=True, max_new_tokens=length, **options)

    works: dict[str, Callable[[], Any]] = {}
    for who, model in (("teacher", teacher.eval()), ("student", student.eval())):
        works[f"{who}, our loop"] = partial(ours, model)
        works[f"{who}, generate"] = partial(generate, model, top_k=0)
        works[f"{who}, generate, 6 beams"] = partial(generate, model, num_beams=6, top_k=40)
    return works


def measure(mode: str) -> Answer:
    """Each objective's contenders in turns; then the peak memory that three steps take, and what sampling alone takes."""
    size = SIZES[mode]
    notes: list[str] = []
    teacher, student = t5_pair(size)
    times: dict[str, Times] = {}
    for objective in OBJECTIVES:
        names = [f"{objective}/{contender}" for contender in CONTENDERS]
        runs = {name: make_run(name, size, teacher, student) for name in names}
        times[objective] = train_in_turns(runs, size["steps"])
    measured = [name for found in times.values() for name in found]
    peaks = memory.peaks("step", {name: (name, size) for name in measured}, notes)
    cells = table_rows(times, peaks)
    drawn = take_turns({name: torch.no_grad()(draw) for name, draw in sampling(size, teacher, student).items()}, 5)
    alone = [[name, milliseconds(typical(drawn, name))] for name in drawn]
    layers = size["layers"]
    return Answer(
        "step",
        TITLE,
        f"T5 of {layers} + {layers} layers, width {size['width']}, vocabulary {size['vocab']}, into "
        f"{min(3, layers)} + 1 layers; batch "
        f"{size['batch']}, source and target {size['source']} and {size['target']} tokens (random weights hardly "
        "ever draw the end of text, so that every sample has full length); float32, AdamW. A step is data, sampling, passes, "
        "backward and update; ours by FDistillTrainer.train(), its loss compiled as in a run of twelve hundred steps or more. "
        "Memory is what three steps take at most beyond the two models, gradients and Adam's moments included.",
        [
            Table("", ["step", "ms", "× ours", "peak MiB"], cells),
            Table("Sampling alone, a batch:", ["sampled", "ms"], alone),
        ],
        goals(times),
        notes,
    )


def table_rows(times: dict[str, Times], peaks: dict[str, int | None]) -> list[list[str]]:
    rows = []
    for kind, found in times.items():
        for name in found:
            slower = ratio(found, name, f"{kind}/ours")
            rows.append(
                [name.replace("/", ": "), milliseconds(typical(found, name)), number(slower), mebibytes(peaks[name])]
            )
    return rows


def goals(times: dict[str, Times]) -> list[Goal]:
    found = []
    for contender, what, wanted in (
        ("authors, 6 beams", "times faster than the authors' step, 6 beams", 3.5),
        ("authors, ancestral", "times faster than the authors' step, ancestral sampling", 1.6),
        ("ours, online", "offline times faster than online teacher samples", 2.3),
    ):
        for kind, seconds in times.items():
            found.append(Goal(f"{kind}: {what}", ">=", wanted, ratio(seconds, f"{kind}/{contender}", f"{kind}/ours")))
    return found
