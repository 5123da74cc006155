"""torchrl's DistillationLoss, which sees the log-probabilities of sampled tokens: judged by its expectation over them.

Every token of the vocabulary is given to it at every unmasked step, as a sequence of one token, and what it says is weighed by
the probability, held constant, with which the model that must have written the tokens would have written this one.
"""

from __future__ import annotations

import torch
from torch import Tensor


def distillation(student_logits: Tensor, teacher_logits: Tensor, mask: Tensor, direction: str) -> Tensor:
    from tensordict import TensorDict
    from tensordict.nn import TensorDictModule
    from torchrl.objectives.llm import DistillationLoss

    log_q, log_p = (logits[mask].log_softmax(-1) for logits in (student_logits, teacher_logits))
    scored = torch.ones(log_q.numel(), 1, dtype=torch.bool)
    chats = TensorDict(
        {
            ("history", "full"): torch.zeros(log_q.numel(), 1),
            ("next", "teacher_log_probs", "full"): log_p.reshape(-1, 1),
            ("masks", "all_assistant_mask"): scored,
            ("masks", "all_attention_mask"): scored,
        },
        batch_size=[log_q.numel()],
    )
    student = TensorDictModule(lambda _: log_q.reshape(-1, 1), [("history", "full")], [("log_probs", "full")])
    loss = DistillationLoss(student, kl_direction=direction, reduction="none")
    estimates = loss(chats).loss_distill.reshape(log_q.shape)
    chance = (log_q if direction == "reverse" else log_p).detach().exp()
    expected = (chance * estimates.masked_fill(chance == 0, 0.0)).sum(-1)
    return torch.zeros(mask.shape).masked_scatter(mask, expected)
