"""The token ids with a role in decoding (start, end, padding, forced ones), read from a model's configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fdistill.errors import VocabularyError


@dataclass(frozen=True)
class SpecialTokens:
    """Roles of token ids in a model's decoding.

    Attributes:
        eos: ids that end a sequence.
        pad: what rows are padded with; an EOS where the model has no padding token of its own.
        start: what an encoder-decoder's decoder reads first; None for a decoder-only model.
        forced_first: a token that decoding gives as the first one (BART's beginning of text), or None.
        forced_last: a token that decoding gives at the length limit (BART's end of text), or None.
    """

    eos: tuple[int, ...]
    pad: int
    start: int | None = None
    forced_first: int | None = None
    forced_last: int | None = None

    @property
    def forced(self) -> tuple[int, ...]:
        """The tokens before the first counted one of every completion; what `pad_completions` is given."""
        return () if self.forced_first is None else (self.forced_first,)


def special_tokens(model: Any) -> SpecialTokens:
    """Return the special tokens of `model`: its generation config's, and where that is silent its config's."""
    eos = _ids(_setting(model, "eos_token_id"))
    pad = _first(_ids(_setting(model, "pad_token_id")))
    encoder_decoder = bool(model.config.is_encoder_decoder)
    if pad is None:
        pad = eos[0] if eos else 0
    if not encoder_decoder:
        return SpecialTokens(eos, pad)
    start = _first(_ids(_setting(model, "decoder_start_token_id")))
    if start is None and model.config.model_type in ("t5", "mt5", "umt5"):
        start = pad
    if start is None:
        start = _first(_ids(_setting(model, "bos_token_id")))
    if start is None:
        raise VocabularyError(
            f"{type(model).__name__} has no decoder_start_token_id: its decoder does not know what to read first. "
            "Set model.config.decoder_start_token_id (T5: the padding token; BART: the end-of-text token)."
        )
    first = _first(_ids(_setting(model, "forced_bos_token_id")))
    last = _first(_ids(_setting(model, "forced_eos_token_id")))
    return SpecialTokens(eos, pad, start, first, last)


def _setting(model: Any, name: str) -> Any:
    value = getattr(getattr(model, "generation_config", None), name, None)
    return value if value is not None else getattr(model.config, name, None)


def _ids(value: Any) -> tuple[int, ...]:
    if value is None:
        return ()
    return tuple(int(item) for item in value) if isinstance(value, (list, tuple)) else (int(value),)


def _first(values: tuple[int, ...]) -> int | None:
    return values[0] if values else None
