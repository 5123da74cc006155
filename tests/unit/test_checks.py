"""The seconds-long properties that `verify` shows and that training starts with, in every dtype."""

import time

import pytest
import torch

from fdistill import CheckError
from fdistill.checks import quick_check, run_checks, runner
from fdistill.checks.runner import PROPERTIES


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_every_property_holds_here(dtype):
    results = list(run_checks("cpu", dtype, pairs=2))
    assert [result.name for result in results] == [name for name, function, *_ in PROPERTIES if function != "kernels"]
    assert [(result.name, result.error) for result in results if not result.passed] == []
    assert all(result.cases > 0 for result in results)


def test_a_failing_property_is_named_with_its_error(monkeypatch):
    monkeypatch.setattr(runner, "tolerances", lambda dtype: (-1.0, -1.0))
    with pytest.raises(CheckError, match=r"expected loss equals the reference.*is off by"):
        quick_check("cpu", torch.float32)


def test_the_quick_check_takes_at_most_five_seconds():
    start = time.process_time()  # of this process: a busy machine is no slower check
    quick_check()
    assert time.process_time() - start < 5
