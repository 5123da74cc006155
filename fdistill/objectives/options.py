"""What an option may be: numbers from 0 to 1, words that stand for them, and pairs that move while training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fdistill.errors import ObjectiveError, closest

#: Options that may be a (start, end) pair and then move linearly with the progress of training.
SCHEDULED = ("teacher_weight", "middle", "memory", "clip", "bound")


def is_schedule(value: object) -> bool:
    """Whether it is a (start, end) pair."""
    return isinstance(value, (tuple, list)) and len(value) == 2


def value_at(value: Any, progress: float) -> Any:
    """Where a (start, end) pair stands at that share of training; anything else as it is."""
    return (1 - progress) * float(value[0]) + progress * float(value[1]) if is_schedule(value) else value


def share_of(name: str, value: Any) -> float:
    """A number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ObjectiveError(f"{name} is a number from 0 to 1, not {value!r}.")
    return float(value)


def teacher_weight_of(value: Any) -> float:
    """A number between 0 and 1, neither of them."""
    weight = share_of("teacher_weight", value)
    if weight in (0.0, 1.0):
        raise ObjectiveError(
            f"teacher_weight {weight:g} leaves one model alone, and the divergence is 0 whatever the student does; "
            "its limits, divided by the weight that vanishes, are objectives of their own: use kl (teacher_weight near "
            "0) or rkl (near 1)."
        )
    return weight


def choice_of(name: str, value: Any, words: Mapping[str, float | None]) -> float | str:
    """A word, as itself or as the number it stands for, or a number from 0 to 1."""
    if isinstance(value, str):
        if value not in words:
            known = ", ".join(repr(word) for word in words)
            raise ObjectiveError(f"{name} is {known} or a number from 0 to 1, not {value!r}.{closest(value, words)}")
        number = words[value]
        return value if number is None else number
    return share_of(name, value)


def check_estimator(value: str, allowed: Mapping[str, bool], why: Mapping[str, str]) -> str:
    """An estimator that is allowed; `why` says of the others what they would need."""
    if value not in why and value != "halves":
        raise ObjectiveError(
            f"estimator is 'halves', 'balance', 'teacher' or 'student', not {value!r}.{closest(value, ['halves', *why])}"
        )
    if not allowed.get(value, False):
        raise ObjectiveError(f"estimator {value!r} is refused here: {why.get(value, 'it has no such form')}.")
    return value
