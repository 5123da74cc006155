"""Models and tokenizers from disk or a hub (safetensors only), and new models from a configuration."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    GenerationConfig,
)

from fdistill.errors import FDistillError, RecipeError, VocabularyError, closest
from fdistill.models.vocabulary import tokenizer_size

KINDS = {"encoder-decoder": AutoModelForSeq2SeqLM, "decoder-only": AutoModelForCausalLM}


def load_model(
    name_or_path: str, *, kind: str | None = None, dtype: str | torch.dtype | None = None, **kwargs: Any
) -> Any:
    """Load a model with a language-model head.

    Args:
        name_or_path: a folder, a name on the hub, or a GGUF file (whose weights are read back to full precision).
        kind: "encoder-decoder" or "decoder-only"; None: as its config says. Another kind than the config's is refused.
        dtype: of the weights; None: float32.
        **kwargs: passed to `from_pretrained`. Weights come from safetensors only, and no code of the model's own runs
            unless `trust_remote_code=True` is among them.
    """
    remote_code = kwargs.pop("trust_remote_code", False)
    path, file = _gguf(str(name_or_path))
    config = _config(path, file, trust_remote_code=remote_code)
    found = _kind(config)
    if kind is not None and kind != found:
        raise RecipeError(f"the model at {path!r} is {found} ({config.model_type}), but kind is {kind!r}.")
    kwargs = file | kwargs if file else {"use_safetensors": True} | kwargs
    with _one_line(path):
        model = KINDS[found].from_pretrained(
            path, dtype=dtype or torch.float32, trust_remote_code=remote_code, **kwargs
        )
    return _forget_quantization(model) if file else model


def model_kind(name_or_path: str) -> str:
    """Whether a model is "encoder-decoder" or "decoder-only", by its configuration; names and errors as in `load_model`."""
    return _kind(_config(*_gguf(str(name_or_path))))


def _config(path: str, file: dict[str, str], **kwargs: Any) -> Any:
    with _one_line(path):
        return AutoConfig.from_pretrained(path, **file, **kwargs)


def _kind(config: Any) -> str:
    return "encoder-decoder" if config.is_encoder_decoder else "decoder-only"


@contextmanager
def _one_line(path: str) -> Iterator[None]:
    """Say in one line why a model cannot be loaded."""
    try:
        yield
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise FDistillError(
            f"cannot load a model from {path!r}: {_first_line(error)} Give a folder that holds config.json and "
            "model.safetensors (weights in other formats are not opened), or a name that the hub knows."
        ) from error


def _forget_quantization(model: Any) -> Any:
    """A GGUF file's weights are full precision once they are read; the model must not say otherwise, nor its saved config."""
    for name in ("is_quantized", "hf_quantizer", "quantization_method"):
        if name in vars(model):
            delattr(model, name)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model


def load_tokenizer(name_or_path: str, **kwargs: Any) -> Any:
    """Load a tokenizer; one without a padding token pads with its EOS, and one without EOS is refused."""
    path, file = _gguf(str(name_or_path))
    kwargs = {"trust_remote_code": False} | file | kwargs
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, **kwargs)
    except (OSError, ValueError, KeyError) as error:
        raise FDistillError(
            f"cannot load a tokenizer from {path!r}: {_first_line(error)} Give a folder that holds tokenizer.json, "
            "or a name that the hub knows."
        ) from error
    if tokenizer.eos_token_id is None:
        raise VocabularyError(
            f"the tokenizer at {path!r} has no end-of-text token, so that no completion could ever end. "
            "Set tokenizer.eos_token and save it again."
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def build_model(config: dict[str, Any], tokenizer: Any, *, seed: int = 0) -> Any:
    """Build a new model of random weights, its vocabulary and special tokens the tokenizer's.

    Args:
        config: `model_type` ("t5", "bart", "gpt2", "llama", …) and any fields of that family's configuration.
        tokenizer: of the texts that the model will read and write.
        seed: of the weights; the caller's random numbers are left alone.
    """
    fields = dict(config)
    model_type = fields.pop("model_type", None)
    if model_type not in CONFIG_MAPPING:
        known = sorted(CONFIG_MAPPING.keys())
        raise RecipeError(
            f"model_type is {model_type!r}, which is no family that Transformers knows."
            f"{closest(str(model_type), known)} Families to start with: t5, bart, gpt2, llama."
        )
    default = AutoConfig.for_model(model_type)
    for field in fields:
        if not hasattr(default, field):
            raise RecipeError(
                f"the configuration of a {model_type} model has no field {field!r}."
                f"{closest(field, [name for name in dir(default) if not name.startswith('_')])}"
            )
    vocab_size = tokenizer_size(tokenizer)
    if fields.setdefault("vocab_size", vocab_size) < vocab_size:
        raise RecipeError(
            f"vocab_size is {fields['vocab_size']}, but the tokenizer has {vocab_size} tokens. Leave vocab_size out."
        )
    roles = _token_roles(model_type, default, tokenizer)
    built = AutoConfig.for_model(
        model_type, **{**{name: id for name, id in roles.items() if not name.startswith("forced")}, **fields}
    )
    kind = KINDS[_kind(built)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind.from_config(built)
    model.generation_config = GenerationConfig(**roles)
    return model


def _token_roles(model_type: str, config: Any, tokenizer: Any) -> dict[str, int | None]:
    """Return the special token ids of a new model, by the names that configurations give them."""
    eos, bos, pad = tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id
    # Families that know a padding token never train its embedding; an EOS has to be trained.
    roles = {"eos_token_id": eos, "pad_token_id": None if pad == eos else pad}
    if not config.is_encoder_decoder:
        return roles | {"bos_token_id": eos if bos is None else bos}
    if model_type in ("t5", "mt5", "umt5"):
        start = eos if pad is None else pad
        return roles | {"pad_token_id": start, "decoder_start_token_id": start}
    return roles | {
        "pad_token_id": pad,
        "bos_token_id": eos if bos is None else bos,
        "decoder_start_token_id": eos,
        "forced_bos_token_id": bos,
        "forced_eos_token_id": eos,
    }


def _gguf(path: str) -> tuple[str, dict[str, str]]:
    """Split the path of a GGUF file into its folder and what Transformers wants to hear of it."""
    if not path.endswith(".gguf"):
        return path, {}
    try:
        import gguf  # noqa: F401
    except ImportError:
        raise FDistillError(
            f"{path!r} is a GGUF file, which needs gguf. Install it with `pip install fdistill[gguf]`."
        ) from None
    file = Path(path).expanduser()
    return str(file.parent), {"gguf_file": file.name}


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    line = lines[0] if lines else type(error).__name__
    return line if line.endswith(".") else line + "."
