"""What runs show, each claim with a verdict from intervals: it holds, it is the other way round, or nobody can tell."""

from collections.abc import Sequence
from dataclasses import dataclass

from fdistill.report.evidence import TOO_CLOSE, Evidence, compare
from fdistill.report.tables import LABELS, Metrics


@dataclass(frozen=True)
class Claim:
    """That `better` does better than `worse` on a metric of which less (or more) is better, in words."""

    text: str
    metric: str
    better: str
    worse: str
    lower: bool = True


CLAIMS = (
    Claim("The teacher writes better than the student that never saw it", "chrf", "teacher", "mle", lower=False),
    Claim(
        "Pre-distillation brings the student closer to the teacher than maximum likelihood alone",
        "kl",
        "predistilled",
        "mle",
    ),
    # R_cvg = KL + H(P): both rows share the entropy and its noise, so KL is what tells them apart
    Claim("KL covers what the teacher writes better than reverse KL does", "kl", "kl", "rkl"),
    Claim("Reverse KL writes what the teacher finds likely more than KL does", "r_llh", "rkl", "kl"),
    Claim("ENGINE collapses further than reverse KL: it covers less", "r_cvg", "rkl", "engine"),
    Claim("KL comes closer to the teacher, in KL, than SeqKD does", "kl", "kl", "seqkd"),
    Claim(
        "JS comes closer to the teacher, in JS, than the pre-distilled student it started from",
        "js",
        "js",
        "predistilled",
    ),
    Claim(
        "TVD comes closer to the teacher, in TVD, than the pre-distilled student it started from",
        "tvd",
        "tvd",
        "predistilled",
    ),
    Claim("SeqKD keeps less of the teacher's variety than KL does", "h_q", "seqkd", "kl"),
    Claim("The teacher is closer to the truth than its student by KL", "truth_kl", "teacher", "kl"),
)


@dataclass(frozen=True)
class Verdict:
    """A claim judged on one run, or on several: it holds only where it holds in every one of them."""

    claim: Claim
    evidence: Evidence
    numbers: str

    @property
    def kind(self) -> str:
        """Return "holds", "reversed" or "open"."""
        if not self.evidence.apart:
            return "open"
        return "holds" if (self.evidence.below > 0) == self.claim.lower else "reversed"

    @property
    def verdict(self) -> str:
        """Return the verdict in words."""
        words = {"holds": "holds", "reversed": "the other way round here", "open": TOO_CLOSE}[self.kind]
        count = self.evidence.count
        return words if not count else f"{words} ({count})" if self.kind == "open" else f"{words} {count}"

    @property
    def text(self) -> str:
        """Return the claim, its verdict and its numbers in one line."""
        return f"{self.claim.text}: {self.verdict}. {self.numbers}"


def judge(runs: Sequence[Metrics]) -> list[Verdict]:
    """Return the verdict on every claim whose rows and metric some run has; intervals that touch decide nothing."""
    verdicts = []
    for claim in CLAIMS:
        evidence = compare(runs, claim.metric, claim.better, claim.worse)
        if evidence.runs:
            shown = "; ".join(text for run in runs if (text := _numbers(run, claim)))
            verdicts.append(Verdict(claim, evidence, f"{LABELS[claim.metric]}: {shown}"))
    return verdicts


def lines(runs: Sequence[Metrics]) -> list[str]:
    """Return what the terminal prints under the tables."""
    verdicts = judge(runs)
    title = "What this run shows" if len(runs) == 1 else f"What these {len(runs)} runs show"
    return [title, *(f"  {verdict.text}" for verdict in verdicts), ""] if verdicts else []


def _numbers(run: Metrics, claim: Claim) -> str:
    rows = [(name, run.get(name, {}).get(claim.metric)) for name in (claim.better, claim.worse)]
    if any(estimate is None for _, estimate in rows):
        return ""
    return " against ".join(
        f"{name} {estimate['value']:.3g} [{estimate['low']:.3g}, {estimate['high']:.3g}]"
        for name, estimate in rows
        if estimate is not None
    )
