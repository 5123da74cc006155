"""The built-in task `instructions`: a few hundred short requests to an assistant, without answers; the teacher writes those."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache

from fdistill.errors import DataError
from fdistill.tasks.example import Example

CONCEPTS = (
    "a rainbow", "the tides", "an echo", "a magnet", "inflation", "the seasons", "a shadow", "yeast", "a virus", "gravity",
    "a library", "insurance", "a compass", "recycling", "a volcano", "photosynthesis", "a bridge", "an election",
    "electricity", "a telescope", "rust", "a vaccine", "thunder", "a budget",
)  # fmt: skip
ACTIVITIES = (
    "learning a language", "baking bread", "growing tomatoes", "moving to a new town", "speaking in public",
    "saving money", "sleeping well", "running a first race", "writing a letter", "cleaning a kitchen",
    "packing for a journey", "keeping a diary", "planning a birthday party", "studying for an exam",
    "riding a bicycle in winter", "looking after a dog", "reading more books", "cooking for six guests",
    "starting a choir", "repairing a chair", "meeting new neighbours", "taking photographs", "walking in the mountains",
    "working from home",
)  # fmt: skip
THINGS = (
    "an old lighthouse", "a rainy street", "a market in the morning", "a quiet lake", "a train station at night",
    "a small bakery", "a garden in spring", "a snowy field", "a busy kitchen", "a cat on a roof", "an empty theatre",
    "a harbour", "a long bridge", "a village square", "a mountain path", "a school on the first day", "a workshop",
    "a storm at sea", "an attic", "a summer evening", "a library at closing time", "a paper boat", "a wooden table",
    "a crowded bus",
)  # fmt: skip
PEOPLE = (
    "my landlord", "a new colleague", "my teacher", "an old friend", "my neighbour", "a shop", "my sister", "the council",
    "a hotel", "my doctor", "the team", "a guest",
)  # fmt: skip
MATTERS = (
    "a broken window", "a late parcel", "a change of plans", "a lost umbrella", "thanks for their help", "a noisy night",
    "a meeting on Friday", "an invoice that is wrong", "a visit next week", "a borrowed book", "an apology",
    "good news",
)  # fmt: skip
PAIRS = (
    ("a lake", "a pond"), ("weather", "climate"), ("a novel", "a short story"), ("tea", "coffee"), ("a frog", "a toad"),
    ("jam", "marmalade"), ("a road", "a street"), ("a king", "a president"), ("cotton", "wool"), ("a moth", "a butterfly"),
    ("a loan", "a gift"), ("mass", "weight"), ("a hill", "a mountain"), ("an actor", "a director"), ("a violin", "a cello"),
    ("a fruit", "a vegetable"), ("a city", "a village"), ("a map", "a globe"), ("speed", "acceleration"),
    ("a question", "a request"), ("an ocean", "a sea"), ("a guess", "an estimate"), ("a crow", "a raven"),
    ("salt", "sugar"),
)  # fmt: skip
ORDER = ("test", "validation", "train")  # so that more training data leaves the test split as it is
TEMPLATES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Explain {} to a child in two sentences.", CONCEPTS),
    ("What is {}? Answer in one sentence.", CONCEPTS),
    ("Give three short tips for {}.", ACTIVITIES),
    ("Name one mistake to avoid when {}, and say why.", ACTIVITIES),
    ("Write a friendly sentence that encourages somebody who is {}.", ACTIVITIES),
    ("What do I need for {}? Make a short list.", ACTIVITIES),
    ("Describe {} in two sentences.", THINGS),
    ("Write a two-line poem about {}.", THINGS),
    ("Begin a story that takes place near {}. Write one sentence.", THINGS),
    ("Suggest a title for a painting of {}.", THINGS),
)


def examples(split: str, sizes: Mapping[str, int], seed: int) -> list[Example]:
    """Return the requests of one split as chat messages, without completions; no request is in two splits.

    Args:
        split: "train", "validation" or "test".
        sizes: how many requests each split has.
        seed: decides which requests are in which split.

    Raises:
        DataError: more requests are asked for than there are.
    """
    order = sorted(requests(), key=lambda text: hashlib.sha256(f"{seed}/{text}".encode()).digest())
    if sum(sizes.values()) > len(order):
        raise DataError(
            f"the format instructions has {len(order)} requests, and data asks for {sum(sizes.values())} in all. Ask for "
            "fewer, or give prompts of your own."
        )
    start = sum(sizes[name] for name in ORDER[: ORDER.index(split)])
    chosen = order[start : start + sizes[split]]
    return [Example([{"role": "user", "content": text}], "") for text in chosen]


@lru_cache
def requests() -> tuple[str, ...]:
    """Every request, each once."""
    made = [template.format(word) for template, words in TEMPLATES for word in words]
    made += [f"Write a short note to {person} about {matter}." for person in PEOPLE for matter in MATTERS]
    made += [f"What is the difference between {a} and {b}? Answer in two sentences." for a, b in PAIRS]
    return tuple(made)
