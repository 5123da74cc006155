"""Parameters kept out of training for as long as a block lasts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def frozen(module: nn.Module | None) -> Iterator[None]:
    """Keep a module's parameters, as far as they are trained, out of training inside the block; None: nothing."""
    parameters = [] if module is None else [p for p in module.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
