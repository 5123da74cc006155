"""Does KL trained from a top-k store, no teacher in memory, end where KL with the teacher does, and what memory does it save?"""

from __future__ import annotations

import gc
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import memory, trained
from benchmarks.models import rows, t5_pair, training_arguments, word_tokenizer
from benchmarks.results import Answer, Goal, Table, mebibytes, number
from fdistill import FDistillConfig, FDistillTrainer, TeacherStore
from fdistill.store import build_store

TITLE = "KL from the store, without the teacher"
K = 64
SIZES: dict[str, dict[str, Any]] = {
    "full": {"vocab": 16384, "width": 256, "layers": 6, "batch": 8, "source": 32, "target": 32},
    "quick": {"vocab": 2048, "width": 64, "layers": 4, "batch": 4, "source": 16, "target": 16},
}
TINY = {"vocab": 64, "width": 16, "layers": 1, "batch": 2, "source": 6, "target": 6}
CONTENDERS = ("teacher in memory", f"store, k = {K}")
METRICS = ("bleu", "r_llh", "r_cvg", "kl", "rkl", "js", "tvd", "truth_kl")


def work(name: str, size: dict[str, Any]) -> Callable[[], Any]:
    """Three optimizer steps of KL; student, and teacher where it is needed, are loaded from disk within them."""
    folder = Path(tempfile.mkdtemp())
    teacher, student = t5_pair(size)
    tokenizer = word_tokenizer(size["vocab"])
    data = [{"prompt": row["prompt"]} for row in rows(size, size["batch"])]
    store = build_store(
        folder / "store",
        teacher,
        tokenizer,
        [row["prompt"] for row in data],
        top_k=K if name != CONTENDERS[0] else 0,
        max_completion_length=size["target"],
        max_prompt_length=size["source"],
    )
    teacher.save_pretrained(folder / "teacher")
    student.save_pretrained(folder / "student")
    del teacher, student
    gc.collect()
    return lambda: _train(name, size, folder, store, tokenizer, data)


def _train(name: str, size: dict[str, Any], folder: Path, store: TeacherStore, tokenizer: Any, data: list[Any]) -> None:
    args = FDistillConfig(
        **training_arguments(str(folder / "out"), size, 3),
        objective="kl",
        max_completion_length=size["target"],
        max_prompt_length=size["source"],
        verify=False,
    )
    teacher = str(folder / "teacher") if name == CONTENDERS[0] else None
    FDistillTrainer(str(folder / "student"), teacher, args, data, processing_class=tokenizer, store=store).train()


def measure(mode: str) -> Answer:
    """Two runs that differ in the store alone, their scores with intervals; and the peak memory of a larger pair."""
    size, quick = SIZES[mode], mode == "quick"
    base = trained.base_run(quick)
    found = {}
    for name, top_k in zip(CONTENDERS, (0, K), strict=True):
        folder = trained.run_recipe(trained.branch(base, f"kl-{top_k}"), "run", quick=quick, store__top_k=top_k)
        found[name] = json.loads((folder / "metrics.json").read_text())["kl"]
    notes: list[str] = []
    peaks = memory.peaks("offline", {name: (name, size) for name in CONTENDERS}, notes)
    dense, sparse = (found[name] for name in CONTENDERS)
    inside = [dense[metric]["low"] <= sparse[metric]["value"] <= dense[metric]["high"] for metric in METRICS]
    cells = [[metric, *(_interval(found[name][metric]) for name in CONTENDERS)] for metric in METRICS]
    known = [peaks[name] for name in CONTENDERS]
    share = known[1] / known[0] if known[0] and known[1] is not None else None
    return Answer(
        "offline",
        TITLE,
        "The restaurants recipe's KL, from one pre-distilled student and the same teacher samples, with the "
        "teacher in memory and from a "
        f"store of its likeliest {K} tokens; 95% bootstrap intervals. Memory: three steps of a T5 of {size['layers']} + "
        f"{size['layers']} layers, width {size['width']}, vocabulary {size['vocab']}, into "
        f"{min(3, size['layers'])} + 1 layers, batch "
        f"{size['batch']}, {size['target']} tokens, all models loaded within.",
        [
            Table("", ["metric", *CONTENDERS], cells),
            Table("", ["", *CONTENDERS], [["peak MiB", *(mebibytes(peaks[name]) for name in CONTENDERS)]]),
        ],
        [
            Goal("share of metrics that end within the dense one's interval", ">=", 1.0, sum(inside) / len(inside)),
            Goal("memory without the teacher as a share of memory with it", "<=", 1.0, share),
        ],
        notes,
    )


def _interval(estimate: dict[str, float]) -> str:
    return f"{number(estimate['value'])} [{number(estimate['low'])}, {number(estimate['high'])}]"
