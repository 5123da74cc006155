"""How long and how large is a step on a causal model, beside the trainers of TRL at the same batch, lengths and draws?"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from typing import Any

import torch

from benchmarks import memory, peers
from benchmarks.models import llama_pair, rows, training_arguments, word_tokenizer
from benchmarks.results import Answer, Goal, Table
from benchmarks.step import adam, table_rows
from benchmarks.timing import Times, ratio
from benchmarks.turns import Turn, train_in_turns
from fdistill import FDistillConfig, FDistillTrainer

TITLE = "A causal model, against TRL's trainers"
SIZES: dict[str, dict[str, Any]] = {
    "full": {"vocab": 32000, "width": 256, "layers": 6, "batch": 8, "source": 48, "target": 48, "steps": 4},
    "quick": {"vocab": 2048, "width": 64, "layers": 3, "batch": 4, "source": 16, "target": 16, "steps": 4},
}
TINY = {"vocab": 64, "width": 16, "layers": 1, "batch": 2, "source": 6, "target": 6, "steps": 1}

#: By setting, our objective and TRL's (beta, share of own samples).
SETTINGS = {"on-policy RKL": ("rkl", 1.0, 1.0), "off-policy KL": ("kd", 0.0, 0.0)}
CONTENDERS = {
    "on-policy RKL": ("ours", "GKDTrainer", "DistillationTrainer"),
    "off-policy KL": ("ours", "GKDTrainer"),
}


def names(setting: str) -> list[str]:
    return [f"{setting}/{contender}" for contender in CONTENDERS[setting]]


def work(name: str, size: dict[str, Any]) -> Callable[[], Any]:
    """Three optimizer steps of `SETTING/CONTENDER`, its models there already."""
    run = make_run(name, size, *llama_pair(size))
    return lambda: run(Turn(0), 3)


def make_run(name: str, size: dict[str, Any], teacher: Any, student: Any) -> Callable[[Turn, int], None]:
    """A training run on models of its own.

    Raises:
        peers.Missing: TRL is not installed.
    """
    setting, contender = name.split("/")
    train = {"ours": train_ours, "GKDTrainer": train_gkd, "DistillationTrainer": train_distillation}[contender]
    if contender != "ours":
        peers.module("trl")
    teacher, student = copy.deepcopy(teacher), copy.deepcopy(student)

    def run(turn: Turn, steps: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            train(
                setting,
                size,
                teacher,
                student,
                turn,
                training_arguments(folder, size, steps),
                rows(size, size["batch"] * steps),
            )

    return run


def train_ours(
    setting: str, size: dict[str, Any], teacher: Any, student: Any, turn: Turn, shared: dict[str, Any], data: list
) -> None:
    args = FDistillConfig(
        **shared,
        objective=SETTINGS[setting][0],
        reduction="token",
        max_completion_length=size["target"],
        max_prompt_length=size["source"],
        verify=False,
    )
    tokenizer = word_tokenizer(size["vocab"])
    FDistillTrainer(
        student, teacher, args, data, processing_class=tokenizer, callbacks=[turn], optimizers=adam(student)
    ).train()


def train_gkd(
    setting: str, size: dict[str, Any], teacher: Any, student: Any, turn: Turn, shared: dict[str, Any], data: list
) -> None:
    gkd = peers.module("trl.experimental.gkd")
    _, beta, share = SETTINGS[setting]
    args = gkd.GKDConfig(
        **shared,
        beta=beta,
        lmbda=share,
        temperature=1.0,
        max_new_tokens=size["target"],
        max_length=None,
        disable_dropout=True,
    )
    tokenizer = word_tokenizer(size["vocab"], "left")
    gkd.GKDTrainer(
        student,
        teacher,
        args,
        data_collator=lambda batch: gkd_batch(batch, tokenizer),
        train_dataset=peers.module("datasets").Dataset.from_list(data),
        processing_class=tokenizer,
        callbacks=[turn],
        optimizers=adam(student),
    ).train()


def gkd_batch(batch: list[dict[str, Any]], tokenizer: Any) -> dict[str, torch.Tensor]:
    """What GKDTrainer reads, all rows being of one length."""
    prompts = torch.tensor(tokenizer([row["prompt"] for row in batch])["input_ids"])
    completions = torch.tensor([row["teacher_completion_ids"] for row in batch])
    whole = torch.cat([prompts, completions], 1)
    labels = torch.cat([torch.full_like(prompts, -100), completions], 1)
    return {
        "input_ids": whole,
        "attention_mask": torch.ones_like(whole),
        "labels": labels,
        "prompts": prompts,
        "prompt_attention_mask": torch.ones_like(prompts),
    }


def train_distillation(
    setting: str, size: dict[str, Any], teacher: Any, student: Any, turn: Turn, shared: dict[str, Any], data: list
) -> None:
    trl = peers.module("trl")
    args = trl.DistillationConfig(
        **shared, beta=SETTINGS[setting][1], temperature=1.0, max_completion_length=size["target"], disable_dropout=True
    )
    trl.DistillationTrainer(
        student,
        teacher,
        args,
        train_dataset=peers.module("datasets").Dataset.from_list([{"prompt": row["prompt"]} for row in data]),
        processing_class=word_tokenizer(size["vocab"], "left"),
        callbacks=[turn],
        optimizers=adam(student),
    ).train()


def measure(mode: str) -> Answer:
    """Each setting's trainers in turns; then the peak memory that three steps take."""
    size = SIZES[mode]
    notes: list[str] = []
    teacher, student = llama_pair(size)
    times: dict[str, Times] = {}
    for setting in SETTINGS:
        runs = {}
        for name in names(setting):
            try:
                runs[name] = make_run(name, size, teacher, student)
            except peers.Missing as missing:
                notes.append(f"{missing}.")
        times[setting] = train_in_turns(runs, size["steps"])
    measured = [name for found in times.values() for name in found]
    peaks = memory.peaks("trainers", {name: (name, size) for name in measured}, notes)
    cells = table_rows(times, peaks)
    layers = size["layers"]
    return Answer(
        "trainers",
        TITLE,
        f"Llama of {layers} layers into {max(1, layers // 3)}, width {size['width']}, vocabulary {size['vocab']}; "
        f"batch {size['batch']}, "
        f"prompt and completion {size['source']} and {size['target']} tokens; float32, AdamW, no gradient "
        "checkpointing. Each trainer "
        "runs its own train(), one step in turn. Memory is what three steps take at most beyond the two models.",
        [Table("", ["step", "ms", "× ours", "peak MiB"], cells)],
        goals(times, peaks),
        list(dict.fromkeys(notes)),
    )


def goals(times: dict[str, Times], peaks: dict[str, int | None]) -> list[Goal]:
    found = []
    for setting, seconds in times.items():
        ours = f"{setting}/ours"
        others = [name for name in names(setting) if name != ours]
        for name in others:
            faster = ratio(seconds, name, ours) if name in seconds else None
            found.append(Goal(f"{setting}: times faster than {name.split('/')[1]}", ">=", 1.5, faster))
        known = [count for name in others if (count := peaks.get(name)) is not None]
        mine = peaks[ours]
        share = mine / min(known) if known and mine is not None else None
        found.append(Goal(f"{setting}: memory as a share of the smaller one's", "<=", 0.6, share))
    return found
