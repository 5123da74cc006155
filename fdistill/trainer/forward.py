"""One step, one forward: how a whole training step runs inside the forward of the module that Trainer wraps.

DDP, FSDP, autocast and torch.compile hook into the forward of the student. A distillation step needs several passes
through it (encoder, sampling, scoring), and its loss; run one by one from outside they would escape those hooks. So the
student's forward is taught one extra keyword: a function that gets the student and runs the whole step. The student
stays the model it was, under its own class, and is saved as such.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

from torch import nn

from fdistill.errors import TrainingError

Step = Callable[[nn.Module], dict[str, Any]]


def teach_step(model: nn.Module) -> None:
    """Let ``model(fdistill_step=f)`` return ``f(model)``; every other call does what it did."""
    if getattr(model.forward, "runs_steps", False):
        return
    plain = type(model).forward

    def forward(self: nn.Module, *args: Any, fdistill_step: Step | None = None, **kwargs: Any) -> Any:
        if fdistill_step is None:
            return plain(self, *args, **kwargs)
        with plain_forward(self):
            return fdistill_step(self)

    # Generation and Trainer read the signature to learn which inputs the model takes.
    forward.__signature__ = inspect.signature(plain)  # type: ignore[attr-defined]
    forward.__doc__ = plain.__doc__
    forward.runs_steps = True  # type: ignore[attr-defined]
    # A method bound to the instance, so that copy.deepcopy binds the copy's to the copy.
    model.forward = MethodType(forward, model)  # type: ignore[method-assign]


@contextmanager
def plain_forward(model: nn.Module) -> Iterator[None]:
    """Let calls of the model inside a step reach its class's forward.

    The instance's own forward may be wrapped by then, by autocast for one: torch.autocast entered twice through one
    wrapper would not be left again.
    """
    wrapped = model.__dict__.pop("forward", None)
    try:
        yield
    finally:
        if wrapped is not None:
            model.__dict__["forward"] = wrapped


def check_adapters(model: Any) -> None:
    """Refuse PEFT methods that change the model's input rather than its layers."""
    configs = getattr(model, "peft_config", None) or {}
    if isinstance(configs, dict) and any(getattr(config, "is_prompt_learning", False) for config in configs.values()):
        raise TrainingError(
            "prompt-learning adapters (prompt, prefix or p-tuning) change the input of the model and cannot be trained "
            "here; use adapters inside the model such as LoRA."
        )
