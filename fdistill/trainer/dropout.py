"""Dropout off for as long as a block lasts, with gradient checkpointing still on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


def _rates(module: nn.Module) -> Iterator[str]:
    """Names of a module's dropout rates: ``p`` of dropout layers; ``dropout``, ``layerdrop``, ... of others."""
    for name, value in vars(module).items():
        if (
            isinstance(value, float)
            and value > 0
            and ("drop" in name or isinstance(module, nn.modules.dropout._DropoutNd))
        ):
            yield name


@contextmanager
def dropout_disabled(model: nn.Module) -> Iterator[None]:
    """Set every dropout rate of `model` to 0, and put them back at the end.

    The model may stay in training mode, which gradient checkpointing needs: rates are what changes, not the mode. They
    must be 0 for the whole of training, for checkpointing runs the forward pass again during the backward pass.
    """
    before = [(module, name, getattr(module, name)) for module in model.modules() for name in _rates(module)]
    for module, name, _ in before:
        setattr(module, name, 0.0)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
