"""`restaurants`: a built-in task whose truth is known: records of restaurants and a grammar that words them.

A record has a name, a food and one to three of price, area and family. The grammar words it in one of seven frames of
unequal probability, with the facts in varying order and words, so that a student who averages over the frames writes
sentences that the grammar cannot produce, and one who collapses leaves frames out. Since the grammar is written here,
the probability of any sentence under it is exact.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from fdistill.errors import DataError, closest
from fdistill.tasks.example import Example
from fdistill.tasks.grammar import draw, enumerate_all, probability, text_of, tokens
from fdistill.tasks.wording import LONGEST_MARKER, MARKERS, REQUIRED, VALUES, expression_of

Record = dict[str, str]

REFERENCES = 4  # sentences drawn for each record of validation and test data


class Grammar:
    """The distribution of sentences given a record: sample it, score under it, read sentences back."""

    def sample_records(self, n: int, seed: int) -> list[Record]:
        """The first n of all records in the order that the seed decides; after the last they begin again."""
        order = list(_all_records())
        random.Random(f"records/{seed}").shuffle(order)
        return [dict(order[index % len(order)]) for index in range(n)]

    def realise(self, record: Mapping[str, str], rng: random.Random) -> str:
        """One sentence for the record, drawn from the grammar."""
        return text_of(draw(expression_of(_key(record)), rng))

    def log_prob(self, record: Mapping[str, str], sentence: str) -> float:
        """Natural logarithm of the sentence's exact probability given the record, -inf where it cannot be written."""
        found = tokens(sentence)
        if text_of(found) != sentence.strip():
            return -math.inf
        total = probability(expression_of(_key(record)), found)
        return math.log(total) if total > 0 else -math.inf

    def sentences(self, record: Mapping[str, str]) -> dict[str, float]:
        """Every sentence that the grammar can write for the record, with its probability."""
        return {text_of(found): mass for found, mass in enumerate_all(expression_of(_key(record))).items()}

    def entropy(self, record: Mapping[str, str]) -> float:
        """Entropy of the sentence given the record, in nats."""
        return -math.fsum(mass * math.log(mass) for mass in self.sentences(record).values())

    def facts(self, sentence: str) -> list[tuple[str, str]]:
        """The (slot, value) pairs that any text states, in its order, a repeated fact as often as it stands there."""
        found = [token.lower().strip("!?;:()'\"") for token in tokens(sentence)]
        facts = []
        position = 0
        while position < len(found):
            for length in range(LONGEST_MARKER, 0, -1):
                fact = MARKERS.get(tuple(found[position : position + length]))
                if fact:
                    facts.append(fact)
                    break
            position += length if fact else 1
        return facts

    def parse(self, sentence: str) -> Record | None:
        """The record for which the grammar can write this very sentence, or None where there is no such record."""
        facts = self.facts(sentence)
        record = {slot: value for slot in VALUES for own, value in facts if own == slot}
        if len(record) < len(facts) or not set(REQUIRED) < record.keys():
            return None
        return record if self.log_prob(record, sentence) > -math.inf else None

    def slot_errors(self, record: Mapping[str, str], sentence: str) -> int:
        """Facts of the record that the sentence leaves out, plus statements it makes beyond the record's, or twice."""
        stated = self.facts(sentence)
        missing = sum(fact not in stated for fact in record.items())
        return missing + len(stated) - len(set(stated) & set(record.items()))

    def slot_error_rate(self, records: Sequence[Mapping[str, str]], sentences: Sequence[str]) -> float:
        """Slot errors of all sentences over the number of facts of all records."""
        errors = sum(self.slot_errors(record, text) for record, text in zip(records, sentences, strict=True))
        return errors / sum(map(len, records))

    def prompt(self, record: Mapping[str, str]) -> str:
        """The record as a model reads it: `slot : value` joined by ` | `."""
        return " | ".join(f"{slot} : {value}" for slot, value in _key(record))

    def record(self, prompt: str) -> Record:
        """The inverse of `prompt`."""
        parts = [part.partition(" : ") for part in prompt.split(" | ")]
        record = {slot.strip(): value.strip() for slot, _, value in parts}
        if len(record) < len(parts):
            raise DataError(f"the record {prompt!r} has a slot twice.")
        return dict(_key(record))


def examples(split: str, sizes: Mapping[str, int], seed: int) -> list[Example]:
    """Examples of one split, `sizes` giving the number of every split.

    Test and validation records are distinct and none of them is in train; train repeats its records, in other words,
    where it is larger than their number. Every sentence depends on seed, split and position alone.
    """
    grammar = Grammar()
    held_out = sizes["test"] + sizes["validation"]
    order = grammar.sample_records(len(_all_records()), seed)
    if held_out >= len(order):
        raise DataError(
            f"data.validation and data.test ask for {held_out:,} records together, and there are {len(order):,} in all, "
            "some of them needed for train. Ask for fewer."
        )
    parts = {
        "test": order[: sizes["test"]],
        "validation": order[sizes["test"] : held_out],
        "train": list(itertools.islice(itertools.cycle(order[held_out:]), sizes["train"])),
    }
    result = []
    for index, record in enumerate(parts[split]):
        rng = random.Random(f"{seed}/{split}/{index}")
        texts = tuple(grammar.realise(record, rng) for _ in range(1 if split == "train" else REFERENCES))
        result.append(Example(grammar.prompt(record), texts[0], () if split == "train" else texts))
    return result


@lru_cache
def _all_records() -> tuple[Record, ...]:
    """Every record: name, food and at least one other fact."""
    optional = [slot for slot in VALUES if slot not in REQUIRED]
    columns: Iterable[tuple[str | None, ...]] = [
        VALUES[slot] if slot in REQUIRED else (None, *VALUES[slot]) for slot in VALUES
    ]
    combinations = (dict(zip(VALUES, values, strict=True)) for values in itertools.product(*columns))
    return tuple(
        {slot: value for slot, value in record.items() if value is not None}
        for record in combinations
        if any(record[slot] for slot in optional)
    )


def _key(record: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The record's facts in the order of the slots, checked."""
    for slot, value in record.items():
        if slot not in VALUES:
            raise DataError(f"a record has no slot {slot!r}.{closest(slot, VALUES)} Slots are {', '.join(VALUES)}.")
        if value not in VALUES[slot]:
            raise DataError(f"{value!r} is no value of the slot {slot}.{closest(str(value), VALUES[slot])}")
    if not set(REQUIRED) < record.keys():
        raise DataError(f"a record needs name, food and at least one other fact, not {dict(record)}.")
    return tuple((slot, record[slot]) for slot in VALUES if slot in record)
