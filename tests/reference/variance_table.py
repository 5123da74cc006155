"""`python -m tests.reference.variance_table`: variances of the full gradient and of the estimators of JS, as Markdown.

Every number is exact, by enumeration, but for the choice of models: twenty pairs of each kind, from fixed seeds.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from fdistill_reference import TabularModel, estimators, variance
from fdistill_reference.estimators import Moments

KINDS = ("near", "middling", "peaked")
PAIRS = 20
OBJECTIVES = (
    ("engine", {}),
    ("rkl", {}),
    ("js", {}),
    ("js", {"middle": "sequence"}),
    ("js", {"middle": "sequence", "estimator": "balance"}),
    ("js", {"middle": "sequence", "estimator": "student"}),
    ("tvd", {}),
    ("tvd", {"bound": "overlap"}),
    ("tvd", {"bound": "overlap", "estimator": "balance"}),
)


def pair(kind: str, seed: int) -> tuple[TabularModel, TabularModel]:
    """Vocabulary 3, length 4, no EOS; near: the teacher's logits and noise of deviation 0.3; else independent ones of deviation
    1 (middling) or 3 (peaked)."""
    rng = np.random.default_rng(seed)
    p = TabularModel.random(3, 4, rng, None, 3.0 if kind == "peaked" else 1.0)
    if kind == "near":
        return p, p.with_logits(p.logits + 0.3 * rng.standard_normal(p.logits.shape))
    return p, TabularModel.random(3, 4, rng, None, 3.0 if kind == "peaked" else 1.0)


def relative(found: list[Moments]) -> float:
    """Mean variance over mean squared norm of the mean."""
    return float(sum(one.variance for one in found) / sum((np.asarray(one.mean) ** 2).sum() for one in found))


def cell(of: Callable[[TabularModel, TabularModel], Moments]) -> str:
    return " / ".join(f"{relative([of(*pair(kind, seed)) for seed in range(PAIRS)]):.2g}" for kind in KINDS)


def label(name: str, options: dict[str, str]) -> str:
    return f"{name}({', '.join(f'{key}={value}' for key, value in options.items())})" if options else name


def baselines() -> None:
    print(
        "| objective | step-wise | full, no baseline | leave-one-out in pairs | leave-one-out in fours | prefix value |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for name, options in OBJECTIVES:

        def full(group: int, baseline: str | None, name: str = name, options: dict[str, str] = options) -> str:
            def of(p: TabularModel, q: TabularModel) -> Moments:
                found = variance.full_gradient_moments(name, p, q, group, baseline, **options)
                return variance.averaged(found, 4 // group)

            return cell(of)

        def stepwise(p: TabularModel, q: TabularModel, name: str = name, options: dict[str, str] = options) -> Moments:
            return variance.averaged(estimators.gradient_moments(name, p, q, "stepwise", **options), 4)

        columns = full(4, None), full(2, "leave_one_out"), full(4, "leave_one_out"), full(4, "value")
        print(f"| {label(name, options)} | {cell(stepwise)} | {' | '.join(columns)} |", flush=True)


def js() -> None:
    print("| estimator of JS | relative variance |")
    print("| --- | --- |")
    for estimator in ("halves", "balance"):
        exact = {"middle": "sequence", "estimator": estimator}
        values = cell(lambda p, q, exact=exact: estimators.value_moments("js", p, q, **exact))
        print(f"| value, {estimator} | {values} |")
        steps = cell(lambda p, q, exact=exact: estimators.gradient_moments("js", p, q, "stepwise", **exact))
        print(f"| step-wise gradient, {estimator} | {steps} |", flush=True)
    names = list(variance.js_estimators(*pair("near", 0)))
    found = {kind: [variance.js_estimators(*pair(kind, seed)) for seed in range(PAIRS)] for kind in KINDS}
    for name in names:
        numbers = " / ".join(f"{relative([one[name] for one in found[kind]]):.2g}" for kind in KINDS)
        print(f"| full gradient, {name} | {numbers} |")


if __name__ == "__main__":
    baselines()
    print()
    js()
