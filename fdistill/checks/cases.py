"""Every objective with every option, as data: what tests, `verify` and the enumeration table go through."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Case:
    """One objective with options.

    `exact` names the sequence-level divergence that its value equals, `bounds` one that it is never below.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    exact: str | None = None
    bounds: str | None = None

    @property
    def label(self) -> str:
        options = ", ".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.name}({options})" if options else self.name

    @property
    def divergence_options(self) -> dict[str, Any]:
        """The options of the sequence-level divergence alone: what changes its value."""
        return {key: value for key, value in self.options.items() if key in ("teacher_weight", "alpha", "generator")}


def _js() -> list[Case]:
    cases = []
    for pi in (0.5, 0.3):
        weight: dict[str, Any] = {} if pi == 0.5 else {"teacher_weight": pi}
        cases += [Case("js", {**weight, "middle": middle}, bounds="js") for middle in ("token", 0.4)]
        cases.append(Case("js", {**weight, "middle": "sequence"}, exact="js"))
        cases += [
            Case("js", {**weight, "middle": "sequence", "estimator": estimator}, exact="js")
            for estimator in ("balance", "teacher", "student")
        ]
    cases += [
        Case("js", {"middle": "sequence", "memory": 0.5}, bounds="js"),
        Case("js", {"middle": "sequence", "memory": 0.0}, bounds="js"),
        Case("js", {"middle": "sequence", "memory": 0.5, "estimator": "balance"}),
        Case("js", {"middle": "sequence", "clip": 0.7}, bounds="js"),
        Case("js", {"teacher_weight": 0.7, "middle": 0.6, "memory": 0.8, "clip": 1.5}, bounds="js"),
    ]
    return cases


def _tvd() -> list[Case]:
    cases = []
    for bound in ("paper", 0.5, "overlap", "product"):
        cases.append(Case("tvd", {"bound": bound}, bounds="tvd"))
    cases.append(Case("tvd", {"bound": "paper", "teacher_weight": 0.3}, bounds="tvd"))
    cases.append(Case("tvd", {"bound": "overlap", "teacher_weight": 0.3}, bounds="tvd"))
    cases.append(Case("tvd", {"bound": "product", "teacher_weight": 0.3}, bounds="tvd"))
    for estimator in ("balance", "teacher", "student"):
        cases.append(Case("tvd", {"bound": "overlap", "estimator": estimator}, bounds="tvd"))
    cases.append(Case("tvd", {"bound": "overlap", "estimator": "balance", "teacher_weight": 0.3}, bounds="tvd"))
    for estimator in ("teacher", "student"):
        cases.append(Case("tvd", {"bound": "product", "estimator": estimator}, bounds="tvd"))
    return cases


def _generators() -> list[Case]:
    named: list[tuple[str, dict[str, Any]]] = [
        ("kl", {}),
        ("reverse_kl", {}),
        ("js", {"teacher_weight": 0.3}),
        ("tvd", {}),
        ("hellinger", {}),
        ("chi2", {}),
        ("alpha", {"alpha": 0.3}),
        ("alpha", {"alpha": 1.5}),
        ("skew_kl", {"alpha": 0.2}),
        ("skew_rkl", {"alpha": 0.2}),
        ("jeffreys", {}),
    ]
    return [
        Case("f_divergence", {"generator": name, **parameters, "estimator": estimator}, exact="f_divergence")
        for name, parameters in named
        for estimator in ("student", "teacher")
    ]


CASES: tuple[Case, ...] = (
    Case("mle"),
    Case("kd"),
    Case("seqkd"),
    Case("kl", exact="kl"),
    Case("engine"),
    Case("rkl", exact="rkl"),
    *_js(),
    *_tvd(),
    *_generators(),
)
