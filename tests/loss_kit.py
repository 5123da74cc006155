"""Two executions of one loss side by side: what `sequence_loss` says uncompiled and compiled, and whether it is the same."""

import torch

from fdistill import objective, sequence_loss


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


def assert_equal_models_have_zero_loss_and_gradient(random_batch):
    """No noise where teacher and student agree, compiled; `random_batch` makes a batch of a dtype."""
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        batch = random_batch(dtype=dtype)
        student = batch["teacher_logits"].clone().requires_grad_()
        for name in ("kl", "rkl", "js", "tvd"):
            made = objective(name)
            for source in made.sources:
                out = sequence_loss(made, source, **{**batch, "student_logits": student}, compiled=True)
                (grad,) = torch.autograd.grad(out.loss, student)
                assert out.loss == 0
                assert grad.abs().max() <= torch.finfo(dtype).eps
