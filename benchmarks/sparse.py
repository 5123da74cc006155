"""What does a store that keeps the teacher's likeliest k tokens cost, and how wrong are the losses computed from it?"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks import trained
from benchmarks.results import Answer, Goal, Table, number
from fdistill import TeacherStore, objective, sequence_loss
from fdistill.models import Completions, adapter_for, special_tokens, tokenize_prompt
from fdistill.store import StoredDraw, build_store

TITLE = "The store of teacher samples"
SIZES: dict[str, dict[str, Any]] = {
    "full": {"prompts": 256, "ks": [4, 16, 64, 256, 640], "repeats": 3},
    "quick": {"prompts": 32, "ks": [4, 64], "repeats": 2},
}
KINDS = ("kl", "js", "tvd")
GOAL_K, GOAL_BYTES = 64, 300.0


def measure(mode: str) -> Answer:
    """Stores of one trained teacher with growing k: bytes, speed, and the losses of its pre-distilled student."""
    size = SIZES[mode]
    teacher, student, tokenizer = trained.load(trained.base_run(mode == "quick"))
    prompts = trained.prompts(size["prompts"])
    rows, bytes_at = [], {}
    with tempfile.TemporaryDirectory() as folder:
        build = _Builder(Path(folder), teacher, tokenizer, prompts, size["repeats"])
        plain, plain_seconds = build(0)
        vocab = plain.vocab_size
        draws = _draws(plain)
        dense = _losses(student, teacher, tokenizer, prompts, draws)
        tokens = sum(map(len, draws))
        rows.append(
            _row(
                "none", _bytes(plain) / tokens, tokens, plain_seconds, _read_seconds(plain, size["repeats"]), {}, dense
            )
        )
        for k in [k for k in size["ks"] if k <= vocab]:
            store, seconds = build(k)
            bytes_at[k] = _bytes(store) / tokens
            sparse = _losses(student, teacher, tokenizer, prompts, _draws(store), store)
            rows.append(
                _row(str(k), bytes_at[k], tokens, seconds, _read_seconds(store, size["repeats"]), sparse, dense)
            )
    return Answer(
        "sparse",
        TITLE,
        f"The restaurants recipe's teacher (vocabulary {vocab}), one sample for each of {len(prompts)} prompts, {tokens} tokens. "
        "Bytes are all files of the store; written: tokens a second of build_store, sampling included; read: tokens a second of "
        "get and batch_top_k in batches of 32. Errors: the loss from the store against the loss from the "
        "teacher's full logits, both of the "
        "pre-distilled student on the teacher's samples.",
        [
            Table(
                "",
                ["k", "bytes/token", "written tokens/s", "read tokens/s", *(f"{kind} error" for kind in KINDS)],
                rows,
            )
        ],
        [Goal(f"bytes a token at k = {GOAL_K}, vocabulary up to 65,536", "<=", GOAL_BYTES, bytes_at.get(GOAL_K))],
        [
            "Ids take two bytes up to a vocabulary of 65,536 and log-probabilities two, so that bytes a token depend on k alone."
        ],
    )


def _row(
    name: str, size: float, tokens: int, written: float, read: float, sparse: dict[str, float], dense: dict[str, float]
) -> list[str]:
    errors = [f"{100 * (sparse[kind] / dense[kind] - 1):+.2f}%" if sparse else "–" for kind in KINDS]
    return [name, number(size), number(tokens / written), number(tokens / read), *errors]


class _Builder:
    """Builds stores of one teacher; every one is built a few times, so that its seconds are a median."""

    def __init__(self, folder: Path, teacher: Any, tokenizer: Any, prompts: list[str], repeats: int) -> None:
        self.folder, self.teacher, self.tokenizer, self.prompts = folder, teacher, tokenizer, prompts
        self.repeats = repeats

    def __call__(self, k: int) -> tuple[TeacherStore, float]:
        seconds = []
        for repeat in range(self.repeats):
            start = time.perf_counter()
            store = build_store(
                self.folder / f"{k}-{repeat}",
                self.teacher,
                self.tokenizer,
                self.prompts,
                top_k=k,
                max_prompt_length=32,
                max_completion_length=32,
            )
            seconds.append(time.perf_counter() - start)
        return store, median(seconds)


def _bytes(store: TeacherStore) -> int:
    return sum(path.stat().st_size for path in store.path.glob("*.arrow"))


def _draws(store: TeacherStore) -> list[StoredDraw]:
    return [store.get(example) for example in range(store.examples)]


def _read_seconds(store: TeacherStore, repeats: int) -> float:
    """Seconds to read the whole store in batches, from files opened anew."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        opened = TeacherStore.open(store.path)
        for first in range(0, opened.examples, 32):
            draws = [opened.get(example) for example in range(first, min(first + 32, opened.examples))]
            opened.batch_top_k(draws) if opened.top_k else opened.batch_log_probs(draws)
        seconds.append(time.perf_counter() - start)
    return median(seconds)


@torch.no_grad()
def _losses(
    student: Any,
    teacher: Any,
    tokenizer: Any,
    prompts: list[str],
    draws: list[StoredDraw],
    store: TeacherStore | None = None,
) -> dict[str, float]:
    """Mean loss by kind on the teacher's samples, from the store's top k or, without one, from the teacher's logits."""
    adapter, special = adapter_for(student), special_tokens(student)
    student, teacher = student.eval(), teacher.eval()
    sums = dict.fromkeys(KINDS, 0.0)
    for first in range(0, len(prompts), 64):
        texts, batch = prompts[first : first + 64], draws[first : first + 64]
        sources = adapter.pad_prompts([tokenize_prompt(tokenizer, adapter, text, 32) for text in texts], special.pad)
        completions: Completions = adapter.pad_completions([draw.tokens for draw in batch], special.pad)
        ours = adapter.logits(student, sources, completions.tokens, vocab_size=len(tokenizer))
        theirs = (
            adapter.logits(teacher, sources, completions.tokens, vocab_size=len(tokenizer))
            if store is None
            else store.batch_top_k(batch)
        )
        for kind in KINDS:
            sums[kind] += len(texts) * _loss(kind, ours, theirs, completions)
    return {kind: total / len(prompts) for kind, total in sums.items()}


def _loss(kind: str, ours: Any, theirs: Any, completions: Completions) -> float:
    found: Tensor = sequence_loss(
        objective(kind),
        "teacher",
        student_logits=ours,
        teacher_logits=theirs,
        tokens=completions.tokens,
        mask=completions.mask,
    ).loss
    return float(found)
