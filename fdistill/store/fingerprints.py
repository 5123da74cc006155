"""Fingerprints: SHA-256 of what a store was made from, the same wherever the files lie."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import torch

from fdistill.models import special_tokens, unwrap

# Of a config: where it came from and how it is run, not what the model computes.
_VOLATILE = {
    "_name_or_path",
    "_attn_implementation",
    "_attn_implementation_autoset",
    "architectures",
    "auto_map",
    "dtype",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
    "torch_dtype",
    "transformers_version",
    "use_cache",
}


def model_fingerprint(model: Any) -> str:
    """Return the fingerprint of a model: its class, its config, its special tokens and every byte of its weights."""
    model = unwrap(model)
    config = {key: value for key, value in model.config.to_diff_dict().items() if key not in _VOLATILE}
    digest = hashlib.sha256()
    digest.update(canonical([type(model).__name__, config, repr(special_tokens(model))]))
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(canonical([name, str(tensor.dtype), list(tensor.shape)]))
        digest.update(_raw(tensor))
    return digest.hexdigest()


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """Return the fingerprint of a tokenizer: its vocabulary, its rules, its special tokens and its chat template."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = json.loads(backend.to_str()) if backend is not None else {}
    for state in ("padding", "truncation"):  # left behind by the last call
        rules.pop(state, None)
    roles = [tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.unk_token_id]
    template = getattr(tokenizer, "chat_template", None)
    return hashlib.sha256(canonical([sorted(tokenizer.get_vocab().items()), rules, roles, template])).hexdigest()


def text_fingerprint(texts: Iterable[Any]) -> str:
    """Return the fingerprint of texts (or chat messages) in their order."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(canonical(text))
        digest.update(b"\n")
    return digest.hexdigest()


def settings_fingerprint(settings: dict[str, Any]) -> str:
    """Return the fingerprint of sampling settings."""
    return hashlib.sha256(canonical(settings)).hexdigest()


def canonical(value: Any) -> bytes:
    """Return the one JSON text of a value."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str).encode()


def _raw(tensor: torch.Tensor) -> memoryview:
    contiguous = tensor.detach().cpu().contiguous()
    return contiguous.reshape(-1).view(torch.uint8).numpy().data
