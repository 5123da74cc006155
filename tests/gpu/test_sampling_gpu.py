"""Sampling on a GPU: the same random numbers as on a CPU, and in float64 the same draws."""

import pytest
import torch

from fdistill.sampling import DrawKeys, row_bits, sample, uniforms
from tests.model_kit import FAMILIES, tiny_batch, tiny_model

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_random_numbers_are_the_same_on_every_device(dtype):
    keys = DrawKeys(2**63 + 1, torch.arange(1000), torch.arange(1000) % 7, 12)
    on_gpu = DrawKeys(keys.seed, keys.example.cuda(), keys.draw.cuda(), keys.step)
    for position in (0, 1, 255):
        cpu = uniforms(row_bits(keys), position, dtype)
        assert torch.equal(uniforms(row_bits(on_gpu), position, dtype).cpu(), cpu)


@pytest.mark.parametrize("family", FAMILIES)
def test_draws_are_the_same_on_every_device(family):
    model = tiny_model(family)
    rows = torch.arange(12) % 2
    prompts = tiny_batch(model, family)[0].select(rows)
    keys = DrawKeys(0, rows, torch.arange(12), 1)
    expected = sample(model, prompts, keys, max_length=20)
    model = model.cuda()
    drawn = sample(model, prompts.to("cuda"), keys, max_length=20)
    assert drawn.token_lists() == expected.token_lists()
    torch.testing.assert_close(drawn.log_probs.cpu(), expected.log_probs, rtol=1e-9, atol=1e-9)
