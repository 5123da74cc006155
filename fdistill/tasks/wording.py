"""The words of the `restaurants` grammar: its slots and values, its phrases and its seven frames, with their weights."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import lru_cache

from fdistill.tasks.grammar import Expression, Part, choice, sequence, words

FIRST = [
    "Amber",
    "Copper",
    "Silver",
    "Golden",
    "Little",
    "Happy",
    "Quiet",
    "Crooked",
    "Velvet",
    "Hidden",
    "Lazy",
    "Paper",
]
SECOND = ["Spoon", "Kettle", "Lantern", "Anchor", "Garden", "Fox", "Oak", "Pepper", "Table", "Bell", "Crane", "Moon"]
VALUES: dict[str, tuple[str, ...]] = {
    "name": tuple(f"{first} {second}" for first in FIRST for second in SECOND),
    "food": ("Thai", "Greek", "French", "Mexican", "Turkish", "Polish", "Spanish", "Korean"),
    "price": ("cheap", "moderate", "high"),
    "area": ("river", "centre", "harbour", "station"),
    "family": ("yes", "no"),
}
REQUIRED = ("name", "food")

NOUN = choice((5, "restaurant"), (3, "place"), (2, "kitchen"))
PRICE_BEFORE = {
    "cheap": choice((6, "cheap"), (4, "low-cost")),
    "moderate": choice((6, "mid-priced"), (4, "mid-range")),
    "high": choice((6, "pricey"), (4, "high-end")),
}
PRICE_ALONE = {
    "cheap": choice((6, "cheap"), (4, "inexpensive")),
    "moderate": choice((6, "mid-priced"), (4, "moderately priced")),
    "high": choice((6, "pricey"), (4, "expensive")),
}
PRICES = {"cheap": words("low prices"), "moderate": words("average prices"), "high": words("high prices")}
AREA = {
    "river": choice((6, "by the river"), (4, "on the riverside")),
    "centre": choice((6, "in the city centre"), (4, "in the middle of town")),
    "harbour": choice((6, "at the harbour"), (4, "near the harbour")),
    "station": choice((6, "near the station"), (4, "next to the station")),
}
AREA_FIRST = {
    "river": choice((6, "By the river"), (4, "On the riverside")),
    "centre": choice((6, "In the city centre"), (4, "In the middle of town")),
    "harbour": choice((6, "At the harbour"), (4, "Near the harbour")),
    "station": choice((6, "Near the station"), (4, "Next to the station")),
}
FAMILY_ALONE = {
    "yes": choice((6, "good for children"), (4, "family-friendly")),
    "no": choice((6, "not for children"), (4, "for adults only")),
}
FAMILY_VERB = {
    "yes": choice((6, sequence("is", FAMILY_ALONE["yes"])), (4, "welcomes families")),
    "no": choice((6, sequence("is", FAMILY_ALONE["no"])), (4, "welcomes adults only")),
}
FAMILY_FIRST = {"yes": words("Families are welcome at"), "no": words("Children are not welcome at")}

# Words that state a fact wherever they stand; the longest that fits counts.
MARKERS: dict[tuple[str, ...], tuple[str, str]] = {
    tuple(phrase.split()): (slot, value)
    for slot, value, phrases in (
        ("price", "cheap", "cheap|low-cost|inexpensive|low prices"),
        ("price", "moderate", "mid-priced|mid-range|moderately priced|average prices"),
        ("price", "high", "pricey|high-end|expensive|high prices"),
        ("area", "river", "river|riverside"),
        ("area", "centre", "city centre|middle of town"),
        ("area", "harbour", "harbour"),
        ("area", "station", "station"),
        ("family", "yes", "good for children|family-friendly|welcomes families|families are welcome"),
        ("family", "no", "not for children|not good for children|adults only|children are not welcome"),
        *(("food", food, food.lower()) for food in VALUES["food"]),
        *(("name", name, name.lower()) for name in VALUES["name"]),
    )
    for phrase in phrases.split("|")
}
LONGEST_MARKER = max(map(len, MARKERS))


@lru_cache(maxsize=4096)
def expression_of(key: tuple[tuple[str, str], ...]) -> Expression:
    """Every wording of a record, with its probability: the frames by weight, as far as the record has their facts."""
    record = dict(key)
    name, food = words(record["name"]), words(record["food"])
    rest = {slot: value for slot, value in record.items() if slot not in REQUIRED}
    without = {slot: {other: rest[other] for other in rest if other != slot} for slot in rest}

    frames: list[tuple[float, Part]] = [
        (5, sequence(name, "is a", _noun_phrase(food, rest), ".")),
        (4, sequence(name, "serves", food, choice((6, "food"), (4, "dishes")), *_verb_tail(rest), ".")),
        (3, sequence(choice((7, "If you like"), (3, "For lovers of")), food, "food, try", name, ", which is",
                     _predicates(rest), ".")),
        (2, sequence(name, "is a", food, NOUN, ". It is", _predicates(rest), ".")),
    ]  # fmt: skip
    if "area" in rest:
        tail = _clause("that", without["area"].pop("family", None))
        there = choice((6, ", there is a"), (4, ", you can find a"))
        phrase = _noun_phrase(food, without["area"])
        frames.append((3, sequence(AREA_FIRST[rest["area"]], there, phrase, "called", name, *tail, ".")))
    if "price" in rest:
        area = [AREA[rest["area"]]] if "area" in rest else []
        tail = _clause(", which", rest.get("family"))
        start = sequence("For", PRICE_BEFORE[rest["price"]], food, "food", *area)
        frames.append((2, sequence(start, choice((6, ", go to"), (4, ", visit")), name, *tail, ".")))
    if "family" in rest:
        frames.append(
            (1, sequence(FAMILY_FIRST[rest["family"]], name, ", a", _noun_phrase(food, without["family"]), "."))
        )
    return choice(*frames)


def _noun_phrase(food: Expression, facts: Mapping[str, str]) -> Expression:
    """What follows "a": food and noun, the price before or behind them, then the area, then a clause on families."""
    area = [AREA[facts["area"]]] if "area" in facts else []
    clause = _clause("that", facts.get("family"))
    if "price" not in facts:
        return sequence(food, NOUN, *area, *clause)
    before = sequence(PRICE_BEFORE[facts["price"]], food, NOUN, *area)
    behind = sequence(food, NOUN, _either_order([*area, sequence("with", PRICES[facts["price"]])]))
    return sequence(choice((6, before), (4, behind)), *clause)


def _verb_tail(facts: Mapping[str, str]) -> list[Expression]:
    """What follows "serves ... food": price and area in either order, then families."""
    tail: list[Expression] = [AREA[facts["area"]]] if "area" in facts else []
    if "price" in facts:
        tail.append(sequence("at", PRICES[facts["price"]]))
    ordered = [_either_order(tail)] if tail else []
    return [*ordered, *_clause("and", facts.get("family"))]


def _clause(opening: str, family: str | None) -> list[Expression]:
    """A clause on families that begins with these words, or nothing."""
    return [] if family is None else [words(opening), FAMILY_VERB[family]]


def _either_order(parts: Sequence[Expression]) -> Expression:
    return choice((6, sequence(*parts)), (4, sequence(*reversed(parts)))) if len(parts) > 1 else parts[0]


def _predicates(facts: Mapping[str, str]) -> Expression:
    """What follows "is": all facts in any order, the last two joined by "and"."""
    tables = {"price": PRICE_ALONE, "area": AREA, "family": FAMILY_ALONE}
    alone = [tables[slot][value] for slot, value in facts.items()]
    if len(alone) == 1:
        return alone[0]
    orders = list(itertools.permutations(alone))
    listed = []
    for order in orders:
        start: list[Part] = [item for part in order[:-2] for item in (part, ",")]
        listed.append(sequence(*start, order[-2], "and", order[-1]))
    return choice(*((len(orders) - index, option) for index, option in enumerate(listed)))
