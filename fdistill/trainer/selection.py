"""Model selection by what a student writes: a score of its decoded outputs on the validation data, at every evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from fdistill.errors import TrainingError
from fdistill.evaluate import Bootstrap, TextScorer
from fdistill.models import special_tokens
from fdistill.sampling import beam_search
from fdistill.tasks import plain_text
from fdistill.trainer.data import TextFormat, TokenizedDataset


def add_references(made: TokenizedDataset, data: Any, name: str) -> None:
    """Give a tokenised dataset the texts to compare with: its column ``references`` (lists of texts), else ``completion``."""
    if isinstance(data, TokenizedDataset):
        if data.references is None:
            raise TrainingError(f"{name} is tokenised already and has no texts to score outputs with: give its rows.")
        return
    rows = [data[index] for index in range(len(data))]
    if any("references" not in row and "completion" not in row for row in rows):
        raise TrainingError(
            f"metric_for_best_model scores outputs by reference, and {name} has neither 'references' nor 'completion'."
        )
    made.references = [list(row.get("references") or [plain_text(row["completion"])]) for row in rows]


def text_score(
    model: Any, dataset: TokenizedDataset, form: TextFormat, metric: str, *, num_beams: int, vocab_size: int, batch: int
) -> float:
    """Return the metric of the model's outputs for all of a dataset's prompts, by beam search (1: greedy).

    Every process of a distributed run decodes all of them and so has the same score.
    """
    if dataset.references is None:
        raise TrainingError(
            f"metric_for_best_model is {metric!r}, but the evaluation data has no texts to compare with."
        )
    outputs = [""] * len(dataset)
    order = sorted(range(len(dataset)), key=lambda row: (len(dataset.prompts[row]), row))
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        for row, tokens in zip(rows, _decode(model, dataset, rows, form, num_beams, vocab_size), strict=True):
            outputs[row] = form.tokenizer.decode(
                tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
            ).strip()
    scorer = TextScorer(dataset.references, Bootstrap(len(outputs), 0), [metric])
    return scorer(outputs)[metric]["value"]


def _decode(
    model: Any, dataset: TokenizedDataset, rows: Sequence[int], form: TextFormat, num_beams: int, vocab_size: int
) -> list[list[int]]:
    device = next(model.parameters()).device
    prompts = form.adapter.pad_prompts([dataset.prompts[row] for row in rows], special_tokens(model).pad, device)
    with torch.no_grad():
        written = beam_search(
            model,
            prompts,
            num_beams=num_beams,
            max_length=form.max_completion_length + len(form.forced),
            vocab_size=vocab_size,
        )
    return written.token_lists()
