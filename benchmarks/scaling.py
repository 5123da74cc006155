"""How do time and memory grow with the vocabulary, the length, the batch and k, and what bounds each?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks import heads, losses, memory, step
from benchmarks.models import t5_pair
from benchmarks.results import Answer, Table, mebibytes, milliseconds
from benchmarks.timing import take_turns, typical
from benchmarks.turns import train_in_turns
from fdistill import TopKLogits, objective, sequence_loss

#: By axis and name, points of (value, seconds, peak bytes).
Curves = dict[tuple[str, str], list[tuple[int, float, int | None]]]

TITLE = "Growth"
FIGURE = Path(__file__).parent.parent / "docs" / "figures" / "scaling.png"
SIZES: dict[str, dict[str, Any]] = {
    "full": {
        "vocab": [8192, 32768, 131072, 262144],
        "k": [16, 64, 256, 1024],
        "length": [16, 32, 64],
        "batch": [2, 4, 8],
        "rows": 64,
        "width": 128,
        "rounds": 5,
        "model": {"vocab": 8192, "width": 128, "layers": 4, "batch": 4, "source": 32, "target": 32},
    },
    "quick": {
        "vocab": [1024, 2048, 4096],
        "k": [16, 64],
        "length": [8, 16],
        "batch": [2, 4],
        "rows": 16,
        "width": 32,
        "rounds": 2,
        "model": {"vocab": 512, "width": 32, "layers": 2, "batch": 2, "source": 8, "target": 8},
    },
}
TINY = {"kind": "vocab", "value": 64, "rows": 16, "width": 8}
#: What compiles at its first call, which the measurement of memory leaves out.
COMPILED = ("logits, ours", "heads, ours", "top-k, ours", "step, ours")
CURVES = {
    "vocab": ("logits, ours", "logits, torch", "heads, ours", "heads, torch"),
    "k": ("top-k, ours",),
    "length": ("step, ours",),
    "batch": ("step, ours",),
}
LABELS = {"vocab": "vocabulary V", "k": "k of a top-k teacher", "length": "completion length T", "batch": "batch"}
BOUNDS = [
    "**Vocabulary.** On logits the loss is bound by memory traffic: time grows with V, and memory is the "
    "gradient, as large as the "
    "student's logits. Behind a head the four matrix products bound the time, and memory is the head's gradient "
    "and one chunk of logits.",
    "**k.** A top-k teacher costs the student's own softmax over all V, whatever k, and small operations at k tokens a row: "
    "beside them the gradient is one multiple of the student's probabilities a row.",
    "**Length.** Sampling is one pass of the student's decoder for every token, so that the step grows with T; "
    "attention over T tokens "
    "is a small part at these lengths. Memory grows with the tokens' hidden states.",
    "**Batch.** Sampling reads the weights once for every token whatever the batch; the passes over teacher and "
    "student grow with it, so "
    "that time a sequence falls until the passes dominate.",
]


def work(name: str, size: dict[str, Any]) -> Callable[[], Any]:
    """One run of a curve at one point: `size` says which axis (`kind`) and where on it (`value`)."""
    if name.startswith("step"):
        return step.work("js/ours", size.get("model", step.TINY))
    value, rows = size["value"], size["rows"]
    if name.startswith("top-k"):
        return _top_k(value if size["kind"] == "k" else 8, rows, size.get("vocab_of_k", 64))
    question, contender = name.split(", ")
    if question == "logits":
        return losses.work(f"js-teacher/{contender}", {"rows": rows, "vocab": value})
    return heads.work(f"js-teacher/{contender}", {"rows": rows, "vocab": value, "width": size["width"]})


def _top_k(k: int, rows: int, vocab: int) -> Callable[[], Any]:
    """JS on the teacher's samples, forward and backward, the teacher known by its likeliest k."""
    student, teacher, tokens, mask = losses.inputs(rows, vocab)
    log_probs = teacher.log_softmax(-1)
    top, ids = log_probs.topk(min(k, vocab), -1)
    tail = torch.log1p(-top.exp().sum(-1).clamp(max=1 - 1e-6))
    known = TopKLogits(ids, top, tail, log_probs.gather(-1, tokens[..., None]).squeeze(-1))
    del log_probs, teacher

    def run() -> None:
        student.grad = None
        batch = {"student_logits": student, "teacher_logits": known, "tokens": tokens, "mask": mask}
        sequence_loss(objective("js"), "teacher", **batch, compiled=True).loss.backward()

    return run


def point(axis: str, value: int, size: dict[str, Any]) -> dict[str, Any]:
    """The size of a work at one point of an axis."""
    found = {
        "kind": axis,
        "value": value,
        "rows": size["rows"],
        "width": size["width"],
        "vocab_of_k": size["vocab"][-3:][0],
    }
    if axis in ("length", "batch"):
        found["model"] = {**size["model"], "steps": 1, {"length": "target", "batch": "batch"}[axis]: value}
    return found


def seconds_of(name: str, points: list[dict[str, Any]], rounds: int) -> list[float]:
    """Seconds at every point of a curve, the points in turns."""
    if name.startswith("step"):
        runs = [step.make_run("js/ours", at["model"], *t5_pair(at["model"])) for at in points]
        times = train_in_turns({str(number): run for number, run in enumerate(runs)}, rounds)
    else:
        times = take_turns({str(number): work(name, at) for number, at in enumerate(points)}, rounds)
    return [typical(times, str(number)) for number in range(len(points))]


def measure(mode: str) -> Answer:
    """Every curve point by point: seconds, and peak memory in a fresh process."""
    size = SIZES[mode]
    notes: list[str] = []
    points = [(axis, name, value) for axis, names in CURVES.items() for name in names for value in size[axis]]
    at = {f"{name} at {axis} {value}": point(axis, value, size) for axis, name, value in points}
    found = memory.peaks("scaling", {label: (label.split(" at ")[0], where) for label, where in at.items()}, notes)
    curves: Curves = {}
    for axis, names in CURVES.items():
        for name in names:
            labels = {value: f"{name} at {axis} {value}" for value in size[axis]}
            seconds = seconds_of(name, [at[label] for label in labels.values()], size["rounds"])
            curves[axis, name] = [
                (value, second, found[label]) for (value, label), second in zip(labels.items(), seconds, strict=True)
            ]
    tables = [table(axis, curves) for axis in CURVES]
    if mode == "full":
        draw(curves, FIGURE)
    model = size["model"]
    return Answer(
        "scaling",
        TITLE,
        f"Vocabulary and k: the teacher's half of JS, forward and backward, {size['rows']} rows, heads of width "
        f"{size['width']}, k at a "
        f"vocabulary of {size['vocab'][-3:][0]}. Length and batch: the JS step of the trainer on a T5 of {model['layers']} + "
        f"{model['layers']} layers, width {model['width']}, vocabulary {model['vocab']}, batch {model['batch']} "
        f"and {model['target']} tokens "
        "where they do not vary. Memory beyond the inputs, in a fresh process.",
        tables,
        [],
        [f"![time and memory against vocabulary, k, length and batch](figures/{FIGURE.name})", *BOUNDS, *notes],
    )


def table(axis: str, curves: Curves) -> Table:
    """The curves of one axis as a table, a row a point."""
    names = CURVES[axis]
    columns = [LABELS[axis], *(column for name in names for column in (f"{name}, ms", "MiB"))]
    rows = []
    for points in zip(*(curves[axis, name] for name in names), strict=True):
        cells = [cell for _, seconds, peak in points for cell in (milliseconds(seconds), mebibytes(peak))]
        rows.append([f"{points[0][0]:,}", *cells])
    return Table("", columns, rows)


def draw(curves: Curves, path: Path) -> None:
    """Time above, memory below, one column an axis, both scales logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, ScalarFormatter

    figure, axes = plt.subplots(2, len(CURVES), figsize=(13, 5.5), layout="constrained")
    for column, axis in enumerate(CURVES):
        for (found, name), points in curves.items():
            if found != axis:
                continue
            values = [point[0] for point in points]
            axes[0][column].plot(values, [1000 * point[1] for point in points], marker="o", label=name)
            peaks = [(point[0], point[2] / 2**20) for point in points if point[2]]
            axes[1][column].plot(*zip(*peaks, strict=True), marker="o", label=name)
        for row, label in enumerate(("ms", "MiB")):
            panel = axes[row][column]
            panel.set(xscale="log", yscale="log", xlabel=LABELS[axis], ylabel=label)
            low, high = panel.get_ylim()
            panel.set_ylim(low / 2, 2 * high)  # so that a flat curve looks flat
            panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            panel.yaxis.set_major_formatter(ScalarFormatter())
            panel.set_xticks(values, [f"{value:,}" for value in values], rotation=30)
            panel.minorticks_off()
        axes[0][column].legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
