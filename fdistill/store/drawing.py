"""Drawing one batch of teacher completions as a table: tokens, log-probabilities, and the likeliest k of every step."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from fdistill.models import Completions, Encoded, Prompts, adapter_for, evaluating, special_tokens
from fdistill.sampling import OFFLINE_STEP, DrawKeys, Samples, beam_search, sample

Row: TypeAlias = tuple[int, int]  # (example, draw)

_LOGITS_AT_ONCE = 2**26  # elements of a block of logits while top-k is taken: 256 MiB in float32


class Drawing:
    """A teacher, its prompts as ids, and the settings that completions are drawn with."""

    def __init__(self, model: Any, prompt_ids: list[list[int]], settings: dict[str, Any]) -> None:
        self.model = model
        self.adapter = adapter_for(model)
        self.special = special_tokens(model)
        self.prompt_ids = prompt_ids
        self.settings = settings

    @torch.no_grad()
    def draw(self, kind: str, rows: list[Row]) -> pa.Table:
        """Draw the completions of `rows`; return the store's columns."""
        prompts, encoded = self._sources(rows)
        drawn = self._beam(prompts, encoded) if kind == "beam" else self._sample(rows, prompts, encoded)
        log_probs = drawn.log_probs
        top: dict[str, pa.Array] = {}
        if kind == "sample" and self.settings["top_k"]:
            log_probs, top = self._top_k(prompts, drawn.completions, encoded)
        assert log_probs is not None
        columns = {
            "example": pa.array([example for example, _ in rows], pa.int32()),
            "draw": pa.array([draw for _, draw in rows], pa.int32()),
            "tokens": _ragged(drawn.tokens, drawn.mask, np.int32),
            "log_probs": _ragged(log_probs, drawn.mask, np.float32),
        }
        return pa.table(columns | top)

    def _sources(self, rows: list[Row]) -> tuple[Prompts, Encoded | None]:
        """Return the source of every row; the encoder runs once for draws of one example."""
        examples = list(dict.fromkeys(example for example, _ in rows))
        place = {example: index for index, example in enumerate(examples)}
        device = self.model.device
        sources = self.adapter.pad_prompts([self.prompt_ids[i] for i in examples], self.special.pad, device)
        chosen = torch.tensor([place[example] for example, _ in rows], device=device)
        with evaluating(self.model):
            encoded = self.adapter.encode(self.model, sources)
        return sources.select(chosen), None if encoded is None else encoded.select(chosen)

    def _sample(self, rows: list[Row], prompts: Prompts, encoded: Encoded | None) -> Samples:
        examples, draws = zip(*rows, strict=True)
        return sample(
            self.model,
            prompts,
            DrawKeys.of(self.settings["seed"], list(examples), list(draws), OFFLINE_STEP),
            max_length=self.settings["max_completion_length"],
            encoded=encoded,
            vocab_size=self.settings["vocab_size"],
        )

    def _beam(self, prompts: Prompts, encoded: Encoded | None) -> Samples:
        return beam_search(
            self.model,
            prompts,
            num_beams=self.settings["beams"],
            max_length=self.settings["max_completion_length"],
            length_penalty=self.settings["length_penalty"],
            encoded=encoded,
            vocab_size=self.settings["vocab_size"],
            scored=True,
        )

    def _top_k(
        self, prompts: Prompts, completions: Completions, encoded: Encoded | None
    ) -> tuple[Tensor, dict[str, pa.Array]]:
        """Score the completions; return token log-probabilities, [B, T], and the columns of the likeliest k tokens."""
        k, vocab_size = self.settings["top_k"], self.settings["vocab_size"]
        rows_at_once = max(1, _LOGITS_AT_ONCE // (completions.tokens.shape[1] * vocab_size))
        parts = []
        with evaluating(self.model):
            for rows in torch.arange(len(prompts), device=prompts.ids.device).split(rows_at_once):
                logits = self.adapter.logits(
                    self.model,
                    prompts.select(rows),
                    completions.tokens[rows],
                    encoded=None if encoded is None else encoded.select(rows),
                    vocab_size=vocab_size,
                )
                assert isinstance(logits, Tensor)
                parts.append(top_k_of(logits.float().log_softmax(-1), completions.tokens[rows], k))
        token, ids, log_probs, tail = (torch.cat(columns) for columns in zip(*parts, strict=True))
        mask = completions.mask
        columns = {
            "top_ids": _ragged(ids, mask, np.uint16 if vocab_size <= 2**16 else np.int32),
            # 16 bits cost 1e-4 of a probability, 32 bits nothing: where all tokens are kept the store is exact.
            "top_log_probs": _ragged(log_probs, mask, np.float32 if k == vocab_size else np.float16),
            "tail_log_probs": _ragged(tail, mask, np.float32),
        }
        return token, columns


def top_k_of(log_probs: Tensor, tokens: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Coarsen next-token distributions to their likeliest k tokens and one bucket for the rest.

    Args:
        log_probs: [B, T, V].
        tokens: long [B, T].
        k: from 1 to V.

    Returns:
        The tokens' log-probabilities [B, T]; ids [B, T, k] and log-probabilities [B, T, k] of the likeliest, likeliest
        first; and the log of the rest's mass, [B, T]: summed over the rest itself, since one minus the sum of the
        others would lose all its digits.
    """
    token = log_probs.gather(-1, tokens[..., None]).squeeze(-1)
    top, ids = log_probs.topk(k, dim=-1)
    tail = log_probs.scatter(-1, ids, -torch.inf).logsumexp(-1)
    return token, ids, top, tail


def _ragged(values: Tensor, mask: Tensor, dtype: Any) -> pa.ListArray:
    """Return the masked steps of every row, [B, T] or [B, T, k], as lists."""
    width = 1 if values.ndim == 2 else values.shape[2]
    lengths = mask.sum(1).cpu().numpy() * width
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    flat = values[mask].reshape(-1).cpu().numpy().astype(dtype)
    return pa.ListArray.from_arrays(offsets, pa.array(flat))
