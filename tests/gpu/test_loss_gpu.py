"""The loss on a CUDA device against the exact reference, in every dtype, and as `verify` shows it."""

import pytest
import torch

from fdistill import objective, sequence_loss
from fdistill.checks import run_checks
from fdistill.loss import kernels

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_every_property_holds_on_the_gpu(dtype):
    """Catches a kernel that accumulates in half precision, or a device that the reference disagrees with."""
    failed = [(r.name, r.error, r.worst) for r in run_checks("cuda", dtype, pairs=4) if not r.passed]
    assert failed == []


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", ["kl", "rkl", "js", "tvd"])
def test_gpu_and_cpu_agree_on_a_large_vocabulary(name, compiled, monkeypatch):
    """Catches chunks of a size that only a GPU uses, and kernels that are not launched: 64 rows of 128,000 tokens."""
    rows = []
    launch = kernels.launch_loss
    monkeypatch.setattr(kernels, "launch_loss", lambda *given: rows.append(len(given[2])) or launch(*given))
    noise = torch.Generator().manual_seed(0)
    teacher, student = (torch.randn(4, 16, 128_000, generator=noise) for _ in range(2))
    tokens, mask = torch.randint(128_000, (4, 16), generator=noise), torch.ones(4, 16, dtype=torch.bool)
    made = objective(name)
    for source in made.sources:
        found = []
        for device in ("cpu", "cuda"):
            leaf = student.to(device).requires_grad_()
            batch = {"teacher_logits": teacher.to(device), "tokens": tokens.to(device), "mask": mask.to(device)}
            on_gpu = compiled and device == "cuda"
            loss = sequence_loss(made, source, student_logits=leaf, **batch, compiled=on_gpu).loss
            found.append((float(loss.detach()), torch.autograd.grad(loss, leaf)[0].cpu()))
        assert found[1][0] == pytest.approx(found[0][0], rel=1e-5)
        assert torch.allclose(found[1][1], found[0][1], atol=1e-7)
    assert sum(rows) == (64 * len(made.sources) if compiled else 0)


def test_every_kernel_is_compiled_and_launched(monkeypatch):
    """Catches a kernel that does not compile on this device, whose work another execution does in silence."""
    monkeypatch.setattr(kernels, "_broken", [])
    for dtype in (torch.float32, torch.bfloat16):
        assert not [r.name for r in run_checks("cuda", dtype, pairs=1, quick=True) if not r.passed]
    assert kernels.launches_on(torch.device("cuda")), kernels._broken
