"""What models write and how likely they find it: decoded outputs, samples of test inputs, and both models' scores of them."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fdistill.evaluate.scores import ScoredSamples

if TYPE_CHECKING:
    from torch import Tensor

    from fdistill.models import Completions

logger = logging.getLogger("fdistill")
Progress = Callable[[int, int], None]  # (inputs done, inputs in all)
ELEMENTS = 1 << 24  # logits of one scoring batch: 64 MiB in float32, twice that for two models


class Generator:
    """Runs models on one list of prompts, in batches of similar length, always in the same order.

    Args:
        tokenizer: shared by every model that is run.
        prompts: N texts; a prompt's place in this list is its number wherever random numbers are keyed.
        max_prompt_length, max_completion_length: in tokens.
        batch_size: prompts a batch.
        seed: of the samples; they depend on (seed, prompt's number, draw) and the model alone.
        device: where models run.
    """

    def __init__(
        self,
        tokenizer: Any,
        prompts: Sequence[str],
        *,
        max_prompt_length: int,
        max_completion_length: int,
        batch_size: int = 64,
        seed: int = 0,
        device: str = "cpu",
    ):
        self.tokenizer, self.prompts = tokenizer, list(prompts)
        self.max_prompt_length, self.max_completion_length = max_prompt_length, max_completion_length
        self.batch_size, self.seed, self.device = batch_size, seed, device
        self._ids: dict[str, list[list[int]]] = {}
        self._kept: tuple[Any, Any, int, tuple[Completions, Tensor]] | None = None

    def decode(
        self, model: Any, *, num_beams: int = 1, length_penalty: float = 1.0, progress: Progress | None = None
    ) -> list[str]:
        """Return one output per prompt by beam search (greedy where num_beams is 1)."""
        from fdistill.models import shared_vocab_size
        from fdistill.sampling import beam_search

        outputs = [""] * len(self.prompts)
        for rows, adapter in self._batches(model, progress):
            prompts, encoded = self._sources(adapter, model, rows)
            written = beam_search(
                model,
                prompts,
                num_beams=num_beams,
                max_length=self.max_completion_length,
                length_penalty=length_penalty,
                encoded=encoded,
                vocab_size=shared_vocab_size(model, model, self.tokenizer),
            )
            for row, tokens in zip(rows, written.token_lists(), strict=True):
                outputs[row] = self.text(tokens)
        return outputs

    def draw(self, model: Any, draws: int, *, step: int = 0, progress: Progress | None = None) -> list[list[list[int]]]:
        """Return `draws` ancestral samples of every prompt as token ids: [N][draws][tokens], EOS included."""
        from fdistill.models import shared_vocab_size
        from fdistill.sampling import DrawKeys, sample

        samples: list[list[list[int]]] = [[] for _ in self.prompts]
        for rows, adapter in self._batches(model, progress, per_prompt=draws):
            repeated = [row for row in rows for _ in range(draws)]
            prompts, encoded = self._sources(adapter, model, rows, draws)
            keys = DrawKeys.of(self.seed, repeated, list(range(draws)) * len(rows), step)
            drawn = sample(
                model,
                prompts,
                keys,
                max_length=self.max_completion_length,
                encoded=encoded,
                vocab_size=shared_vocab_size(model, model, self.tokenizer),
            )
            for row, tokens in zip(repeated, drawn.token_lists(), strict=True):
                samples[row].append(tokens)
        return samples

    def score(
        self,
        teacher: Any,
        student: Any,
        samples: Sequence[Sequence[Sequence[int]]],
        *,
        written_by: str,
        progress: Progress | None = None,
    ) -> ScoredSamples:
        """Return both models' log-probabilities of `samples` [N][draws][tokens] and the next-token KLs along them.

        Args:
            written_by: "teacher" or "student": whose samples they are, hence the direction of the KL.
        """
        import torch

        from fdistill.models import evaluating, shared_vocab_size

        if written_by not in ("teacher", "student"):
            raise ValueError(f'written_by is "teacher" or "student", not {written_by!r}')
        vocab_size = shared_vocab_size(teacher, student, self.tokenizer)
        parts, done = [], 0
        for rows in self._scoring_batches(samples, vocab_size):
            with torch.inference_mode(), evaluating(teacher), evaluating(student):
                parts.append(self._score_batch(teacher, student, rows, samples, written_by, vocab_size))
            done += len(rows)
            if progress:
                progress(done, len(self.prompts))
        return ScoredSamples.concatenate(parts)

    def log_probs(self, model: Any, texts: Sequence[Sequence[str]]) -> np.ndarray:
        """Return a model's log-probability of `texts`, the same number for every prompt, [N, K], from their usual tokens."""
        import torch

        from fdistill.models import adapter_for, evaluating, shared_vocab_size, special_tokens, tokenize_completion
        from fdistill.sampling import score

        adapter, special = adapter_for(model), special_tokens(model)
        vocab_size = shared_vocab_size(model, model, self.tokenizer)
        limit = self.max_completion_length
        ids = [[tokenize_completion(self.tokenizer, text, limit) for text in row] for row in texts]
        found = np.empty((len(texts), len(texts[0])))
        with torch.inference_mode(), evaluating(model):
            for rows in self._scoring_batches(ids, vocab_size):
                prompts, encoded = self._sources(adapter, model, rows, len(ids[rows[0]]))
                flat = [tokens for row in rows for tokens in ids[row]]
                completions = adapter.pad_completions(flat, special.pad, self.device, forced=special.forced)
                scores = score(model, prompts, completions, encoded=encoded, vocab_size=vocab_size)
                found[rows] = scores.double().sum(1).view(len(rows), -1).cpu().numpy()
        return found

    def text(self, tokens: Sequence[int]) -> str:
        """Return the text of a completion's token ids."""
        return self.tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False).strip()

    def _score_batch(
        self,
        teacher: Any,
        student: Any,
        rows: list[int],
        samples: Sequence[Sequence[Sequence[int]]],
        written_by: str,
        vocab_size: int,
    ) -> ScoredSamples:
        draws = len(samples[rows[0]])
        kept = teacher if written_by == "teacher" and len(rows) == len(samples) else None
        (_, log_p), (completions, log_q) = (
            (self._kept_pass if model is kept else self._pass)(model, rows, samples, vocab_size)
            for model in (teacher, student)
        )
        mask = completions.mask
        ids = completions.tokens.clamp(0, vocab_size - 1).unsqueeze(-1)
        first, second = (log_p, log_q) if written_by == "teacher" else (log_q, log_p)
        fields = [log_p.gather(-1, ids).squeeze(-1), log_q.gather(-1, ids).squeeze(-1), _kl(first, second)]
        arrays = [field.masked_fill(~mask, 0.0).double().cpu().numpy() for field in fields]  # each [B, T]
        return ScoredSamples(np.repeat(rows, draws), mask.cpu().numpy(), *arrays)

    def _pass(
        self, model: Any, rows: list[int], samples: Sequence[Sequence[Sequence[int]]], vocab_size: int
    ) -> tuple["Completions", "Tensor"]:
        """The samples of `rows` as a batch, and a model's next-token log-probabilities along them, [B, T, V]."""
        import torch

        from fdistill.models import adapter_for, special_tokens

        adapter, special = adapter_for(model), special_tokens(model)
        prompts, encoded = self._sources(adapter, model, rows, len(samples[rows[0]]))
        sequences = [list(tokens) for row in rows for tokens in samples[row]]
        completions = adapter.pad_completions(sequences, special.pad, self.device, forced=special.forced)
        logits = adapter.logits(model, prompts, completions.tokens, encoded=encoded, vocab_size=vocab_size)
        assert isinstance(logits, torch.Tensor)  # linear=False
        return completions, torch.log_softmax(logits.float(), dim=-1)

    def _kept_pass(
        self, teacher: Any, rows: list[int], samples: Sequence[Sequence[Sequence[int]]], vocab_size: int
    ) -> tuple["Completions", "Tensor"]:
        """As `_pass`, remembered: every student is scored on the teacher's same samples, here all of them in one batch."""
        if not (self._kept and self._kept[0] is teacher and self._kept[1] is samples and self._kept[2] == vocab_size):
            self._kept = (teacher, samples, vocab_size, self._pass(teacher, rows, samples, vocab_size))
        return self._kept[3]

    def _scoring_batches(self, samples: Sequence[Sequence[Sequence[int]]], vocab_size: int) -> Iterator[list[int]]:
        """Groups of prompts whose samples' logits stay within the budget, short ones first."""
        order = sorted(range(len(samples)), key=lambda row: (max(map(len, samples[row])), row))
        batch: list[int] = []
        for row in order:
            width = max(map(len, samples[row]))
            if batch and (len(batch) + 1) * len(samples[row]) * width * vocab_size > ELEMENTS:
                yield batch
                batch = []
            batch.append(row)
        if batch:
            yield batch

    def _batches(self, model: Any, progress: Progress | None, per_prompt: int = 1) -> Iterator[tuple[list[int], Any]]:
        from fdistill.models import adapter_for

        adapter = adapter_for(model)
        ids = self._prompt_ids(adapter)
        order = sorted(range(len(ids)), key=lambda row: (len(ids[row]), row))
        size = max(1, self.batch_size // per_prompt)
        for start in range(0, len(order), size):
            yield order[start : start + size], adapter
            if progress:
                progress(min(start + size, len(order)), len(order))

    def _sources(self, adapter: Any, model: Any, rows: Sequence[int], draws: int = 1) -> tuple[Any, Any]:
        """Padded prompts, each `draws` times, and the encoder's output for them, which runs once a prompt."""
        import torch

        from fdistill.models import evaluating, special_tokens

        ids = self._prompt_ids(adapter)
        prompts = adapter.pad_prompts([ids[row] for row in rows], special_tokens(model).pad, self.device)
        with torch.inference_mode(), evaluating(model):
            encoded = adapter.encode(model, prompts)
        return prompts.repeat_interleave(draws), encoded and encoded.repeat_interleave(draws)

    def _prompt_ids(self, adapter: Any) -> list[list[int]]:
        from fdistill.models import tokenize_prompt

        if adapter.kind not in self._ids:
            length = self.max_prompt_length
            self._ids[adapter.kind] = [
                tokenize_prompt(self.tokenizer, adapter, prompt, length) for prompt in self.prompts
            ]
        return self._ids[adapter.kind]


def _kl(log_a: "Tensor", log_b: "Tensor") -> "Tensor":
    """KL(a‖b) of next-token distributions [B, T, V] -> [B, T]; 0 where a token has no probability under a."""
    from fdistill.divergences import DIVERGENCES

    return DIVERGENCES["kl"].function(log_a, log_b)
