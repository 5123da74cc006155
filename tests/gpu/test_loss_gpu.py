"""The loss on a CUDA device against the exact reference, in every dtype, and as `verify` shows it."""

import pytest
import torch

from fdistill import objective, sequence_loss
from fdistill.checks import run_checks

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_every_property_holds_on_the_gpu(dtype):
    """Catches a kernel that accumulates in half precision, or a device that the reference disagrees with."""
    failed = [(r.name, r.error, r.worst) for r in run_checks("cuda", dtype, pairs=4) if not r.passed]
    assert failed == []


@pytest.mark.parametrize("name", ["kl", "rkl", "js", "tvd"])
def test_gpu_and_cpu_agree_on_a_large_vocabulary(name):
    """Catches chunks of a size that only a GPU uses: 64 rows of 128,000 tokens."""
    noise = torch.Generator().manual_seed(0)
    teacher, student = (torch.randn(4, 16, 128_000, generator=noise) for _ in range(2))
    tokens, mask = torch.randint(128_000, (4, 16), generator=noise), torch.ones(4, 16, dtype=torch.bool)
    made = objective(name)
    for source in made.sources:
        found = []
        for device in ("cpu", "cuda"):
            leaf = student.to(device).requires_grad_()
            batch = {"teacher_logits": teacher.to(device), "tokens": tokens.to(device), "mask": mask.to(device)}
            loss = sequence_loss(made, source, student_logits=leaf, **batch).loss
            found.append((float(loss.detach()), torch.autograd.grad(loss, leaf)[0].cpu()))
        assert found[1][0] == pytest.approx(found[0][0], rel=1e-5)
        assert torch.allclose(found[1][1], found[0][1], atol=1e-7)
