"""Where an objective's completions and teacher probabilities come from: the data, a store, or the teacher itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fdistill.errors import StoreError
from fdistill.objectives import Objective
from fdistill.store import model_fingerprint, text_fingerprint, tokenizer_fingerprint
from fdistill.tasks import Example, data_fingerprint
from fdistill.trainer.data import TokenizedDataset

ATTACHED = ("teacher_completion_ids", "teacher_completion")


def teacher_needs(objective: Objective, name: str, columns: Iterable[str], store: Any) -> str | None:
    """Say why training or evaluating on a dataset needs the teacher itself; None where its columns or its store will do."""
    attached = any(column in columns for column in ATTACHED)
    kept = store is not None and not attached
    label = f"objective {objective.name!r}"
    if "student" in objective.sources and objective.needs_teacher("student"):
        return (
            f"{label} scores the student's own completions by the teacher, which no store of the teacher's samples can do: "
            "pass teacher_model= (and the store as store=)."
        )
    if "data" in objective.sources and objective.needs_teacher("data"):
        return f"{label} scores reference completions by the teacher: pass teacher_model=."
    if "teacher" not in objective.sources:
        return None
    if not attached and not kept:
        return (
            f"{label} learns from completions of the teacher, and {name} has none: pass teacher_model= to write them, a "
            "TeacherStore as store= (eval_store= for eval_dataset), or a column teacher_completion_ids."
        )
    if not objective.needs_teacher("teacher") or (kept and store.top_k):
        return None
    where = "the store was made without top-k" if kept else f"{name} holds the teacher's tokens alone"
    return f"{label} compares next-token probabilities, and {where}: pass teacher_model=, or a store made with top_k above 0."


def check_store(store: Any, data: Any, name: str, objective: Objective, teacher: Any, tokenizer: Any) -> None:
    """Refuse a store of other data, another teacher or tokenizer, or without the draws the objective reads."""
    if "teacher" not in objective.sources:
        return
    if objective.teacher_draws not in store.kinds:
        raise StoreError(
            f"objective {objective.name!r} learns from {objective.teacher_draws} output of the teacher, and the store holds "
            f"{', '.join(store.kinds)} only. Make the store with {'beams' if objective.teacher_draws == 'beam' else 'draws'} "
            "above 0."
        )
    if store.examples != len(data):
        raise StoreError(
            f"the teacher store at {store.path} was made from another dataset: it has completions of {store.examples} "
            f"examples, and {name} has {len(data)}. Sample the teacher again for this dataset."
        )
    known = {"tokenizer": tokenizer_fingerprint(tokenizer)}
    if teacher is not None:
        known["teacher"] = model_fingerprint(teacher)
    if not isinstance(data, TokenizedDataset):
        known["data"] = _data_fingerprint(store, data)
    store.check(known)


def _data_fingerprint(store: Any, data: Any) -> str:
    """The fingerprint of a dataset in the form the store has: of its prompts, or of its prompts and completions."""
    rows = [data[index] for index in range(len(data))]
    examples = (Example(row["prompt"], row.get("completion", "")) for row in rows)
    found = data_fingerprint(examples)
    return found if store.fingerprint["data"] == found else text_fingerprint(row["prompt"] for row in rows)
