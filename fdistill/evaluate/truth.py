"""Distance from the truth, for the built-in task whose grammar gives every sentence its exact probability."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from fdistill.evaluate.bootstrap import Bootstrap, Estimate
from fdistill.evaluate.generate import Generator

TRUTH_METRICS = ("truth_kl", "producible", "faithful", "slot_errors")
SENTENCES = 8  # drawn from the grammar for every record


class RestaurantsTruth:
    """Scores a model against the grammar that wrote the data.

    Args:
        examples: the test split; a prompt names its record.
        seed: of the sentences drawn from the grammar, which are the same for every model.
    """

    def __init__(self, examples: Sequence[Any], seed: int):
        from fdistill.tasks.restaurants import Grammar

        self.grammar = Grammar()
        self.records = [self.grammar.record(example.prompt) for example in examples]
        self.sentences = []
        for index, record in enumerate(self.records):
            rng = random.Random(f"truth/{seed}/{index}")
            self.sentences.append([self.grammar.realise(record, rng) for _ in range(SENTENCES)])
        pairs = zip(self.records, self.sentences, strict=True)
        self.log_probs = np.array([[self.grammar.log_prob(record, text) for text in texts] for record, texts in pairs])

    def __call__(
        self, model: Any, generator: Generator, samples: Sequence[Sequence[str]], bootstrap: Bootstrap
    ) -> dict[str, Estimate]:
        """Return what the truth says of a model.

        Args:
            samples: its ancestral samples, [N][draws] texts.

        Returns:
            truth_kl: KL(truth‖model) in nats per sentence, from sentences of the grammar. The model is asked for a
                sentence's usual tokens, so this is exact for a model that never spells it in others, else slightly high.
            producible: percent of samples that the grammar can write, for whatever record.
            faithful: percent of samples that state exactly the facts of their record.
            slot_errors: facts left out, added or repeated by samples, per hundred facts of the records.
        """
        log_q = generator.log_probs(model, self.sentences)  # [N, SENTENCES]
        shares = np.array([self._judge(record, texts) for record, texts in zip(self.records, samples, strict=True)])
        facts = np.array([len(record) for record in self.records], dtype=float)
        return {
            "truth_kl": bootstrap.mean((self.log_probs - log_q).mean(1)),
            "producible": bootstrap.mean(100 * shares[:, 0]),
            "faithful": bootstrap.mean(100 * shares[:, 1]),
            "slot_errors": bootstrap.ratio(shares[:, 2], facts, scale=100),
        }

    def _judge(self, record: dict[str, str], texts: Sequence[str]) -> tuple[float, float, float]:
        """Shares of producible and of faithful texts, and the mean number of slot errors."""
        errors = [self.grammar.slot_errors(record, text) for text in texts]
        producible = [self.grammar.parse(text) is not None for text in texts]
        return float(np.mean(producible)), float(np.mean([count == 0 for count in errors])), float(np.mean(errors))
