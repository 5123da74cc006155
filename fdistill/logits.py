"""What "logits" can be: a dense tensor, a head that has not been applied yet, or a teacher known by its top k."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, Union

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LinearLogits:
    """Logits not yet computed: softcap · tanh((scale · hidden Wᵀ + bias) / softcap), without the cap where it is None.

    Attributes:
        hidden: last hidden states, shape [B, T, d].
        weight: the language-model head, shape [V, d].
        bias: shape [V], or None.
        scale: what the hidden states are multiplied by (T5's tied head: d ** -0.5).
        softcap: the cap of soft-capped heads, or None.
    """

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None

    @property
    def vocab_size(self) -> int:
        return self.weight.shape[0]

    def dense(self, hidden: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        """Return the logits of `hidden` (default: all of ours), shape [..., V].

        Args:
            hidden: states of the same head, [..., d].
            out: room for the logits of rows [n, d], of their dtype and without a gradient; None: new memory.
        """
        import torch
        from torch.nn.functional import linear

        scaled = self.scaled(hidden)
        weight, bias = self.weight.to(scaled.dtype), None if self.bias is None else self.bias.to(scaled.dtype)
        if out is None:
            return self.capped(linear(scaled, weight, bias))
        if bias is None:
            return self.capped(torch.mm(scaled, weight.t(), out=out), out)
        return self.capped(torch.addmm(bias, scaled, weight.t(), out=out), out)

    def scaled(self, hidden: Tensor | None = None) -> Tensor:
        """The states that the product with W reads, [..., d]."""
        states = self.hidden if hidden is None else hidden
        return states if self.scale == 1.0 else states * self.scale

    def capped(self, logits: Tensor, out: Tensor | None = None) -> Tensor:
        """The cap of logits [..., V]; in place where `out` is them."""
        import torch

        if self.softcap is None:
            return logits
        if out is None:
            return self.softcap * torch.tanh(logits / self.softcap)
        return torch.tanh(logits.div_(self.softcap), out=out).mul_(self.softcap)

    def detach(self) -> LinearLogits:
        bias = None if self.bias is None else self.bias.detach()
        return LinearLogits(self.hidden.detach(), self.weight.detach(), bias, self.scale, self.softcap)


@dataclass(frozen=True)
class TopKLogits:
    """A teacher's next-token distribution, known by its k likeliest tokens and one bucket for the rest.

    Attributes:
        ids: token ids, int [B, T, k], distinct within a step.
        log_probs: their log-probabilities, [B, T, k].
        tail_log_prob: log of all other tokens' mass, [B, T]; -inf where there are none.
        token_log_probs: exact log-probability of the token that was sampled, [B, T].
    """

    ids: Tensor
    log_probs: Tensor
    tail_log_prob: Tensor
    token_log_probs: Tensor


# A Union and not X | Y: the names are only known to type checkers here.
Logits: TypeAlias = Union["Tensor", LinearLogits, TopKLogits]
