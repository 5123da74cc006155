"""Decoding step by step on a model's key-value cache, the same three calls for both kinds of model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutput

from fdistill.models.adapters import accepts, adapter_for, check_length, positions, unwrap
from fdistill.models.batches import Encoded, Prompts
from fdistill.models.heads import has_linear_head, next_token_logits
from fdistill.models.special import SpecialTokens, special_tokens


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Turn dropout off inside the block; afterwards every submodule is in the mode in which it was before."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


class Decoding:
    """A batch of rows being continued token by token.

    Args:
        model: a Transformers model with a language-model head, in evaluation mode.
        prompts: the sources of the rows.
        max_length: no row gets more tokens than this.
        encoded: the encoder's output for the sources, where it is there already.
    """

    def __init__(self, model: Any, prompts: Prompts, max_length: int, encoded: Encoded | None = None) -> None:
        self.model = unwrap(model)
        self.special: SpecialTokens = special_tokens(self.model)
        self.rows = len(prompts)
        self.device = prompts.ids.device
        self._cache: Any = None
        self._cache_name = "past_key_values"
        self._linear = has_linear_head(self.model)
        self._has_positions = accepts(self.model, "position_ids")
        self._keeps_logits = accepts(self.model, "logits_to_keep")
        # Without padding a mask says nothing, and building it anew for every token takes time.
        self._padded = not bool(prompts.mask.all())
        if self.model.config.is_encoder_decoder:
            check_length(self.model, max_length, "completion")
            if encoded is None:
                encoded = adapter_for(self.model).encode(self.model, prompts)
            self._encoded: Encoded | None = encoded
            self._pending = torch.full((self.rows, 1), self.special.start or 0, device=self.device)
        else:
            length = prompts.ids.shape[1] + max_length - 1
            check_length(self.model, length, "prompt and completion together")
            self._encoded = None
            self._pending = prompts.ids
            grown = torch.ones((self.rows, max_length), dtype=torch.bool, device=self.device)
            self._mask = torch.cat([prompts.mask, grown], dim=1)  # [B, S+max_length]
            self._positions = positions(self._mask)
            self._read = 0

    def append(self, tokens: Tensor) -> None:
        """Continue every row by one token, long [B]; it is read together with the next call of `next_logits`."""
        self._pending = torch.cat([self._pending, tokens[:, None]], dim=1)

    def next_logits(self) -> Tensor:
        """Read the tokens that wait, and return the logits of what comes after them, [B, V]."""
        inputs = self._encoder_decoder_inputs() if self._encoded is not None else self._decoder_only_inputs()
        if self._cache is not None:
            inputs[self._cache_name] = self._cache
        output = self._body()(**inputs, use_cache=True)
        self._pending = self._pending[:, :0]
        # The output's name of the cache is also the argument's; newer releases of Transformers call it "cache".
        self._cache_name = "cache" if "cache" in output else "past_key_values"
        self._cache = output[self._cache_name]
        if self._linear:
            return next_token_logits(self.model, output.last_hidden_state[:, -1])
        return output.logits[:, -1]

    def _body(self) -> Any:
        """What is run for every token: the layers alone where the head is known, the whole model elsewhere."""
        if not self._linear:
            return self.model
        return self.model.get_decoder() if self._encoded is not None else self.model.base_model

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows alone, long [N]."""
        self.rows = len(rows)
        self._pending = self._pending[rows]
        if self._cache is not None:
            self._cache.batch_select_indices(rows)
        if self._encoded is not None:
            self._encoded = self._encoded.select(rows)
        else:
            self._mask, self._positions = self._mask[rows], self._positions[rows]

    def _encoder_decoder_inputs(self) -> dict[str, Any]:
        assert self._encoded is not None
        if self._linear:
            return {
                "input_ids": self._pending,
                "encoder_hidden_states": self._encoded.hidden,
                "encoder_attention_mask": self._encoded.mask.long() if self._padded else None,
            }
        return {
            "decoder_input_ids": self._pending,
            "encoder_outputs": BaseModelOutput(last_hidden_state=self._encoded.hidden),
            "attention_mask": self._encoded.mask.long(),
        }

    def _decoder_only_inputs(self) -> dict[str, Any]:
        start, self._read = self._read, self._read + self._pending.shape[1]
        inputs: dict[str, Any] = {"input_ids": self._pending}
        if self._padded:
            inputs["attention_mask"] = self._mask[:, : self._read].long()
        if self._has_positions:
            inputs["position_ids"] = self._positions[:, start : self._read]
        if self._keeps_logits and not self._linear:
            inputs["logits_to_keep"] = 1
        return inputs
