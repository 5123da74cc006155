"""Which properties run, with which tolerance, and what they say."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from fdistill.errors import CheckError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class CheckResult:
    """One property on this machine: what `fdistill verify` prints a line of."""

    name: str
    cases: int
    error: float
    tolerance: float
    worst: str
    seconds: float

    @property
    def passed(self) -> bool:
        return self.error <= self.tolerance

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"passed": self.passed}


def tolerances(dtype: torch.dtype) -> tuple[float, float]:
    """Largest relative error of a value and of a gradient in that dtype.

    float64: 1e-9 covers sums of some thousand terms. float32: its unit roundoff is 6e-8; a value is a sum of up to some
    thousand products of numbers up to ten, and ratios of up to e^10 multiply what is lost, hence 1e-4. Half precisions
    compute in float32 too; only the gradient is rounded to the dtype, to half a unit in the last place (bfloat16: 2^-8).
    """
    import torch

    if dtype == torch.float64:
        return 1e-9, 1e-9
    value = 1e-4
    return value, value if dtype == torch.float32 else value + torch.finfo(dtype).eps


#: Name, function in `properties`, whether its error is that of a gradient too, and whether the five-second check runs it.
PROPERTIES: tuple[tuple[str, str, bool, bool], ...] = (
    ("expected loss equals the reference", "values", False, True),
    ("step-wise gradient equals the reference", "stepwise_gradients", True, True),
    ("Triton kernels equal the reference", "kernels", True, True),
    ("full gradient equals the reference", "full_gradients", True, False),
    ("exact objectives equal D_f of P(y), Q(y)", "exact_divergences", False, False),
    ("bounds are never below the divergence", "upper_bounds", False, False),
    ("identical models give exactly 0", "zero_at_equality", False, True),
    ("junk under the mask changes nothing", "junk_under_the_mask", True, True),
    ("parts of a batch sum to the whole", "splitting_a_batch", True, False),
    ("packed documents count as rows", "packing_documents", True, False),
    ("top-k teacher: the coarse value, dense at k = V", "sparse_teacher", True, False),
    ("hidden states and head equal their logits", "heads", True, False),
    ("extreme logits stay finite", "extreme_logits", True, True),
)


def run_checks(
    device: str = "cpu",
    dtype: torch.dtype | None = None,
    *,
    seed: int = 0,
    pairs: int = 4,
    quick: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[CheckResult]:
    """Try the properties one after the other on a device and dtype, yielding each result as it is known.

    Args:
        device: where the machine computes; the reference is always NumPy on the CPU.
        dtype: of the logits; float32 by default.
        seed: of the random models.
        pairs: how many pairs of models.
        quick: only the subset that a training run starts with.
        progress: called with (done, total) after each property.
    """
    import torch

    from fdistill.checks import properties

    dtype = torch.float32 if dtype is None else dtype
    chosen = [entry for entry in PROPERTIES if entry[3] or not quick]
    setting = properties.Setting(device, dtype, properties.random_pairs(pairs, seed, dtype), seed)
    value_tolerance, gradient_tolerance = tolerances(dtype)
    for number, (name, function, of_gradient, _) in enumerate(chosen, start=1):
        start = time.perf_counter()
        outcome = getattr(properties, function)(setting)
        tolerance = gradient_tolerance if of_gradient else value_tolerance
        if function in ("zero_at_equality", "extreme_logits"):
            tolerance = 0.0
        elapsed = time.perf_counter() - start
        if outcome.cases:  # a device may not have what a property is about
            yield CheckResult(name, outcome.cases, outcome.error, tolerance, outcome.worst, elapsed)
        if progress is not None:
            progress(number, len(chosen))


def quick_check(device: str = "cpu", dtype: torch.dtype | None = None) -> list[CheckResult]:
    """The properties a training run starts with, in at most five seconds.

    Raises:
        CheckError: one fails on this device and dtype; its line says which, and how far off.
    """
    results = list(run_checks(device, dtype, pairs=1, quick=True))
    failed = [result for result in results if not result.passed]
    if failed:
        worst = failed[0]
        raise CheckError(
            f"this installation does not compute what it must on {device} in {dtype or 'float32'}: {worst.name!r} is off by "
            f"{worst.error:.3g} (at most {worst.tolerance:.3g}) for {worst.worst}. `fdistill verify` shows the whole table; "
            "verify=False (--no-verify) trains all the same."
        )
    return results


def case_errors(device: str, *, seed: int, pairs: int) -> Iterator[tuple[str, tuple[float, float, float]]]:
    """For every case its label and largest errors, in float64: value, step-wise gradient, full gradient."""
    import torch

    from fdistill.checks import properties
    from fdistill.checks.cases import CASES

    setting = properties.Setting(device, torch.float64, properties.random_pairs(pairs, seed, torch.float64), seed)
    for case in CASES:
        worst = [properties.errors_of(case, pair, setting) for pair in setting.pairs]
        values, stepwise, full = (max(errors) for errors in zip(*worst, strict=True))
        yield case.label, (values, stepwise, full)
