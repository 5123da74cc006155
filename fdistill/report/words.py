"""What each objective learns from and what that does to a student, in words for a reader who has not read the paper."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Words:
    """What a model learns from, and what follows from it."""

    learns: str
    does: str


ROLES = {
    "teacher": Words(
        "The large model. It learned the training data word by word.", "What every student should become."
    ),
    "predistilled": Words(
        "Next-word probabilities and hidden states of the teacher, on the training data.",
        "Where every distilled student starts, so that its own samples mean something from the first step.",
    ),
}
OBJECTIVES = {
    "mle": Words(
        "The training data alone; it never sees the teacher.",
        "A small model spreads its probability over words that the data do not justify: samples go astray.",
    ),
    "kd": Words(
        "The teacher's next-word probabilities, on the training data's sentences.",
        "Soft targets, but only along sentences that neither model wrote.",
    ),
    "seqkd": Words(
        "One sentence an input: the one that the teacher likes best (beam search), as if it were data.",
        "Hard targets: it learns the teacher's favourite and loses the variety around it.",
    ),
    "kl": Words(
        "Sentences the teacher samples, with its whole next-word distribution: KL(teacher‖student).",
        "Missing what the teacher may write is what costs: it covers everything, and averages where it is too small.",
    ),
    "engine": Words(
        "Its own samples; the loss is how unlikely the teacher finds each next word.",
        "Nothing rewards variety, so it collapses onto what the teacher likes best.",
    ),
    "rkl": Words(
        "Its own samples, with the teacher's whole next-word distribution: KL(student‖teacher).",
        "Writing what the teacher would not is what costs: it may drop some of the teacher's ways to say a thing.",
    ),
    "js": Words(
        "Sentences of both, each model compared with the average of the two (Jensen-Shannon).",
        "Both mistakes cost, and neither without limit: between KL and reverse KL.",
    ),
    "tvd": Words(
        "Sentences of both; the loss is the probability that the two place differently (total variation).",
        "Both mistakes cost the same, and one bad word cannot outweigh many good ones.",
    ),
    "f_divergence": Words(
        "Sentences of one side, weighted by the convex function f of the recipe.",
        "What costs is what f says.",
    ),
}


def words(name: str, objective: Mapping[str, Any] | None) -> Words:
    """Return the words for a row of a run.

    Args:
        name: the row's name.
        objective: its entry in the recipe, {"objective": name, **options}; None where the recipe has none.
    """
    if name in ROLES:
        return ROLES[name]
    known = OBJECTIVES.get((objective or {}).get("objective", name), Words("", ""))
    options = {key: value for key, value in (objective or {}).items() if key not in ("name", "objective", "training")}
    options |= (objective or {}).get("training", {})
    if not options:
        return known
    return Words(f"{known.learns} With {', '.join(f'{key} {value}' for key, value in options.items())}.", known.does)
