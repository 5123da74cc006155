"""What two models say about the same sampled sequences: the table that risks and divergences are computed from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class ScoredSamples:
    """S sampled sequences, drawn from one model and scored by teacher and student; arrays are [S, T] in float64.

    Attributes:
        inputs: [S], which of the N test inputs a sequence answers.
        mask: True at counted tokens, EOS included.
        log_p: teacher log-probability of every token, 0 where masked.
        log_q: student log-probability of every token, 0 where masked.
        step_kl: the next-token divergence along the sequence, 0 where masked: KL(p‖q) where the teacher wrote the
            sequence, KL(q‖p) where the student did. Summed over steps its mean is the sequence-level divergence
            (Wen et al., 2023, Theorem 1).
    """

    inputs: Array
    mask: Array
    log_p: Array
    log_q: Array
    step_kl: Array

    @property
    def lengths(self) -> Array:
        """Return the number of counted tokens of each sequence, [S], at least 1."""
        return np.maximum(self.mask.sum(1), 1)

    def per_input(self, values: Array, inputs: int) -> Array:
        """Return the mean of `values` [S, ...] over the sequences of each of N inputs, [N, ...]."""
        counts = np.bincount(self.inputs, minlength=inputs)
        if (counts == 0).any():
            raise ValueError(f"test input {int(np.argmin(counts))} has no sample")
        sums = np.zeros((inputs, *values.shape[1:]))
        np.add.at(sums, self.inputs, values)
        return sums / counts.reshape(-1, *[1] * (values.ndim - 1))

    @classmethod
    def concatenate(cls, parts: Sequence["ScoredSamples"]) -> "ScoredSamples":
        """Join batches of different width T, padding the narrower ones with masked steps."""
        width = max(part.mask.shape[1] for part in parts)

        def join(name: str) -> Array:
            arrays = [getattr(part, name) for part in parts]
            return np.concatenate([np.pad(a, ((0, 0), (0, width - a.shape[1]))) for a in arrays])

        inputs = np.concatenate([part.inputs for part in parts])
        return cls(inputs, *(join(name) for name in ("mask", "log_p", "log_q", "step_kl")))
