"""The loss of one batch: `step_losses` per step, `sequence_loss` as training calls it, and how both are executed.

Chapters: `contract` (what a batch must look like), `rows` (the unmasked steps of either model, dense, behind a head, or
top-k), `steps` (the terms of an objective on such rows), `score` (what student samples add to the full gradient),
`slopes` (closed-form derivatives of the word-level divergences), `gradients` (where a batch's gradient is put together),
`chunked` (value and gradient a few rows at a time), `compiled` (the same in one loop over rows), `sparse` (the same where the
teacher is top-k), `kernels` and `triton_rows` (the same on CUDA, a block of rows in one launch), `sequence` (the sum that is
trained).
"""

from fdistill.loss.compiled import worth_compiling
from fdistill.loss.sequence import LossOutput, sequence_loss, step_losses

__all__ = ["LossOutput", "sequence_loss", "step_losses", "worth_compiling"]
