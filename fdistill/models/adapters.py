"""One adapter per kind of model: prompts and completions in, aligned logits out: logits[b, t] predicts tokens[b, t]."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutput

from fdistill.errors import DataError
from fdistill.logits import LinearLogits
from fdistill.models.batches import Completions, Encoded, Prompts, pad_completions, pad_prompts
from fdistill.models.heads import has_linear_head, linear_logits
from fdistill.models.special import special_tokens


@dataclass(frozen=True)
class HiddenStates:
    """What pre-distillation compares: logits, and the states of every layer from the embeddings on.

    Attributes:
        logits: aligned logits, [B, T, V].
        states: by stack ("encoder", "decoder"), a list of [B, L, d], embeddings first.
        masks: by stack, which of the L positions count, bool [B, L].
    """

    logits: Tensor
    states: dict[str, list[Tensor]]
    masks: dict[str, Tensor]


def unwrap(model: Any) -> Any:
    """Return the Transformers model inside a PEFT wrapper (its adapters are part of the layers), or `model` itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def adapter_for(model: Any) -> Adapter:
    """Return the adapter of the model's kind."""
    return ENCODER_DECODER if unwrap(model).config.is_encoder_decoder else DECODER_ONLY


class Adapter:
    """What the two kinds share. Adapters hold no state: the model is always an argument."""

    kind: str
    pads_left: bool

    def pad_prompts(
        self, rows: Sequence[Sequence[int]], pad_id: int, device: torch.device | str | None = None
    ) -> Prompts:
        return pad_prompts(rows, pad_id, device, left=self.pads_left)

    def pad_completions(
        self,
        rows: Sequence[Sequence[int]],
        pad_id: int,
        device: torch.device | str | None = None,
        *,
        forced: Sequence[int] = (),
    ) -> Completions:
        """Pad completions behind `forced`, which is `special_tokens(model).forced`: mask False there."""
        return pad_completions(rows, pad_id, device, forced=forced)

    def encode(self, model: Any, prompts: Prompts) -> Encoded | None:
        """Run the encoder over the sources; None where there is none."""
        raise NotImplementedError

    def logits(
        self,
        model: Any,
        prompts: Prompts | None,
        tokens: Tensor,
        *,
        encoded: Encoded | None = None,
        vocab_size: int | None = None,
        linear: bool = False,
    ) -> Tensor | LinearLogits:
        """Return the logits that predict `tokens`.

        Args:
            model: a Transformers model with a language-model head.
            prompts: the sources; may be None where `encoded` is given.
            tokens: completions, long [B, T]. What stands under their mask (-100, say) does not matter.
            encoded: the encoder's output for the same rows, so that it need not run again.
            vocab_size: cuts the vocabulary, for embedding tables padded past the tokenizer.
            linear: leave the head unapplied. A head that is not plainly linear gives dense logits all the same.

        Returns:
            [B, T, V], or LinearLogits over hidden states [B, T, d]: position t predicts tokens[:, t].
        """
        model = unwrap(model)
        unapplied = linear and has_linear_head(model)
        found = self._outputs(model, prompts, tokens, encoded, unapplied)
        return linear_logits(model, found, vocab_size) if unapplied else found[..., :vocab_size]

    def _outputs(
        self, model: Any, prompts: Prompts | None, tokens: Tensor, encoded: Encoded | None, unapplied: bool
    ) -> Tensor:
        """Logits [B, T, V] of the unwrapped model, or with `unapplied` what its head would be applied to, [B, T, d]."""
        raise NotImplementedError

    def hidden_states(self, model: Any, prompts: Prompts, completions: Completions) -> HiddenStates:
        """Return the states of every layer, for pre-distillation."""
        raise NotImplementedError


class EncoderDecoderAdapter(Adapter):
    """T5, BART and their like: the source goes to the encoder, the decoder reads the completion shifted right."""

    kind = "encoder-decoder"
    pads_left = False

    def encode(self, model: Any, prompts: Prompts) -> Encoded:
        model = unwrap(model)
        check_length(model, prompts.ids.shape[1], "source")
        output = model.get_encoder()(input_ids=prompts.ids, attention_mask=prompts.mask.long())
        return Encoded(output.last_hidden_state, prompts.mask)

    def _outputs(
        self, model: Any, prompts: Prompts | None, tokens: Tensor, encoded: Encoded | None, unapplied: bool
    ) -> Tensor:
        check_length(model, tokens.shape[1], "completion")
        if encoded is None:
            encoded = self.encode(model, _required(prompts))
        inputs = self.decoder_inputs(model, tokens)
        if unapplied:
            output = model.get_decoder()(
                input_ids=inputs,
                encoder_hidden_states=encoded.hidden,
                encoder_attention_mask=encoded.mask.long(),
                use_cache=False,
            )
            return output.last_hidden_state
        output = model(
            decoder_input_ids=inputs,
            encoder_outputs=BaseModelOutput(last_hidden_state=encoded.hidden),
            attention_mask=encoded.mask.long(),
            use_cache=False,
        )
        return output.logits

    def hidden_states(self, model: Any, prompts: Prompts, completions: Completions) -> HiddenStates:
        model = unwrap(model)
        check_length(model, prompts.ids.shape[1], "source")
        check_length(model, completions.tokens.shape[1], "completion")
        output = model(
            input_ids=prompts.ids,
            attention_mask=prompts.mask.long(),
            decoder_input_ids=self.decoder_inputs(model, completions.tokens),
            output_hidden_states=True,
            use_cache=False,
        )
        states = {"encoder": list(output.encoder_hidden_states), "decoder": list(output.decoder_hidden_states)}
        return HiddenStates(output.logits, states, {"encoder": prompts.mask, "decoder": completions.mask})

    def decoder_inputs(self, model: Any, tokens: Tensor) -> Tensor:
        """Return the start token and all tokens but the last, long [B, T]: at position t the decoder has read y_<t."""
        start = special_tokens(model).start
        first = torch.full_like(tokens[:, :1], 0 if start is None else start)
        return _readable(torch.cat([first, tokens[:, :-1]], dim=1), model)


class DecoderOnlyAdapter(Adapter):
    """GPT-2, Llama and their like: prompts are padded on the left, so that every completion starts in one column."""

    kind = "decoder-only"
    pads_left = True

    def encode(self, model: Any, prompts: Prompts) -> None:
        return None

    def _outputs(
        self, model: Any, prompts: Prompts | None, tokens: Tensor, encoded: Encoded | None, unapplied: bool
    ) -> Tensor:
        inputs = self.model_inputs(model, _required(prompts), tokens)
        length = tokens.shape[1]
        if unapplied:
            return model.base_model(**inputs, use_cache=False).last_hidden_state[:, -length:]
        if accepts(model, "logits_to_keep"):
            inputs["logits_to_keep"] = length
        return model(**inputs, use_cache=False).logits[:, -length:]

    def hidden_states(self, model: Any, prompts: Prompts, completions: Completions) -> HiddenStates:
        model = unwrap(model)
        inputs = self.model_inputs(model, prompts, completions.tokens)
        output = model(**inputs, output_hidden_states=True, use_cache=False)
        # Position S-1+t reads token t-1 and predicts token t: it counts where the token that it predicts does.
        mask = torch.cat([prompts.mask, completions.mask[:, 1:]], dim=1)
        logits = output.logits[:, -completions.tokens.shape[1] :]
        return HiddenStates(logits, {"decoder": list(output.hidden_states)}, {"decoder": mask})

    def model_inputs(self, model: Any, prompts: Prompts, tokens: Tensor) -> dict[str, Any]:
        """Return what the model reads: prompts and all tokens but the last, [B, S+T-1]; the last T of it predict."""
        ids = torch.cat([prompts.ids, tokens[:, :-1]], dim=1)
        check_length(model, ids.shape[1], "prompt and completion together")
        mask = torch.cat([prompts.mask, torch.ones_like(tokens[:, :-1], dtype=torch.bool)], dim=1)
        inputs: dict[str, Any] = {"input_ids": _readable(ids, model), "attention_mask": mask.long()}
        if accepts(model, "position_ids"):
            inputs["position_ids"] = positions(mask)
        return inputs


ENCODER_DECODER = EncoderDecoderAdapter()
DECODER_ONLY = DecoderOnlyAdapter()


def positions(mask: Tensor) -> Tensor:
    """Return the position of every token among the real ones, long [B, L]; 0 at padding on the left."""
    return (mask.long().cumsum(-1) - 1).clamp(min=0)


def accepts(model: Any, argument: str) -> bool:
    """Tell whether the model's forward has a parameter of that name."""
    return argument in inspect.signature(model.forward).parameters


def check_length(model: Any, length: int, what: str) -> None:
    """Refuse a batch longer than the model's positions: a learned table would be read past its end."""
    limit = getattr(model.config, "max_position_embeddings", None)
    if limit is None or length <= limit:
        return
    raise DataError(
        f"a {what} of {length} tokens does not fit {type(model).__name__}, which has {limit} positions. "
        "Lower max_prompt_length or max_completion_length."
    )


def _readable(ids: Tensor, model: Any) -> Tensor:
    """Replace ids that no embedding has (a label's -100) by 0; they stand under the mask, where nothing counts."""
    return ids.where((ids >= 0) & (ids < model.config.vocab_size), 0)


def _required(prompts: Prompts | None) -> Prompts:
    if prompts is None:
        raise DataError("logits need the prompts, or the encoder's output for them as `encoded`.")
    return prompts
