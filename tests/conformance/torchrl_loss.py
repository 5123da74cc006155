"""torchrl's DistillationLoss, which sees the log-probabilities of sampled tokens: judged by its expectation over them.

Every token of the vocabulary is given to it at every step as a sequence of one token, and what it says is weighed by the
probability, held constant, with which the model that it says must write them would have written it.
"""

from __future__ import annotations

import torch
from torch import Tensor


def distillation(student_logits: Tensor, teacher_logits: Tensor, direction: str) -> Tensor:
    from tensordict import TensorDict
    from tensordict.nn import TensorDictModule
    from torchrl.objectives.llm import DistillationLoss

    log_q, log_p = student_logits.log_softmax(-1), teacher_logits.log_softmax(-1)
    every_token = torch.ones(log_q.numel(), 1, dtype=torch.bool)
    chats = TensorDict(
        {
            ("history", "full"): torch.zeros(log_q.numel(), 1),
            ("next", "teacher_log_probs", "full"): log_p.reshape(-1, 1),
            ("masks", "all_assistant_mask"): every_token,
            ("masks", "all_attention_mask"): every_token,
        },
        batch_size=[log_q.numel()],
    )
    student = TensorDictModule(lambda _: log_q.reshape(-1, 1), [("history", "full")], [("log_probs", "full")])
    loss = DistillationLoss(student, kl_direction=direction, reduction="none")
    estimates = loss(chats).loss_distill.reshape(log_q.shape)
    writer = log_q if direction == "reverse" else log_p
    return (writer.detach().exp() * estimates).sum(-1)
