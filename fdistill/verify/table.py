"""The property table of this installation, and the largest error of every objective with every option."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fdistill.checks import CheckResult, run_checks
from fdistill.checks.runner import case_errors
from fdistill.errors import CheckError, closest

DTYPES = ("float64", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class CaseError:
    """One objective with its options: largest error of its value and of both gradients against the reference."""

    label: str
    value: float
    stepwise: float
    full: float


def run_verify(
    device: str = "cpu",
    dtype: str = "float32",
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[CheckResult]:
    """Try every property on a device and dtype.

    Args:
        device: "cpu", "cuda", "cuda:1", …
        dtype: a name of `DTYPES`, of the logits that the loss is given.
        seed: of the random models.
        progress: called with (done, total).

    Raises:
        CheckError: no such dtype, or the device is not there.
    """
    import torch

    if dtype not in DTYPES:
        raise CheckError(f"unknown dtype {dtype!r}.{closest(dtype, DTYPES)} Known: {', '.join(DTYPES)}.")
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise CheckError(f"device {device!r} cannot be used here: {reason}") from None
    return list(run_checks(device, getattr(torch, dtype), seed=seed, progress=progress))


def enumeration_table(device: str = "cpu", *, seed: int = 0, pairs: int = 6) -> Iterator[CaseError]:
    """Every objective × option in float64: machine against reference, summed over all sequences of `pairs` pairs of models."""
    for label, errors in case_errors(device, seed=seed, pairs=pairs):
        yield CaseError(label, *errors)
