"""Two executions of one loss side by side: what `sequence_loss` says uncompiled and compiled, and whether it is the same."""

import torch

from fdistill import sequence_loss


def both(made, source, batch, leaves, **more):
    """Everything that the two executions say, uncompiled first: loss, gradients, steps, token log-probabilities and metrics."""
    found = []
    for execution in (False, True):
        out = sequence_loss(made, source, **batch, compiled=execution, **more)
        grads = torch.autograd.grad(out.loss, leaves)
        found.append(
            [out.loss.detach(), *grads, out.steps, out.token_log_probs, *out.terms.values(), *out.metrics.values()]
        )
    return found


def assert_same(found, tolerance):
    """Every number within the tolerance, relative to the largest of its tensor where that is above 1."""
    for plain, fused in zip(*found, strict=True):
        scale = max(1.0, float(plain.double().abs().max())) if plain.numel() else 1.0
        assert torch.allclose(fused.double(), plain.double(), rtol=0, atol=tolerance * scale, equal_nan=True)
