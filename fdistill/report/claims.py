"""What a run shows, each claim with a verdict from its intervals: it holds, it is the other way round, or nobody can tell."""

from dataclasses import dataclass

from fdistill.evaluate.bootstrap import differ
from fdistill.report.tables import Metrics


@dataclass(frozen=True)
class Claim:
    """That `better` does better than `worse` on a metric of which less (or more) is better, in words."""

    text: str
    metric: str
    better: str
    worse: str
    lower: bool = True


CLAIMS = (
    Claim("the teacher writes better than the student trained without it", "chrf", "teacher", "mle", lower=False),
    Claim(
        "pre-distillation brings the student closer to the teacher than maximum likelihood alone",
        "kl",
        "predistilled",
        "mle",
    ),
    # R_cvg = KL + H(P): both rows share the entropy and its noise, so KL is what tells them apart
    Claim("KL covers the teacher's outputs better than reverse KL: R_cvg above H(P)", "kl", "kl", "rkl"),
    Claim("reverse KL writes what the teacher finds likely more than KL does", "r_llh", "rkl", "kl"),
    Claim("ENGINE collapses further than reverse KL: its coverage is worse", "r_cvg", "rkl", "engine"),
    Claim("KL is closer to the teacher in KL than SeqKD is", "kl", "kl", "seqkd"),
    Claim("JS is closer to the teacher in JS than the pre-distilled student", "js", "js", "predistilled"),
    Claim("TVD is closer to the teacher in TVD than the pre-distilled student", "tvd", "tvd", "predistilled"),
    Claim(
        "the teacher is closer to the truth than the student trained on its samples with KL",
        "truth_kl",
        "teacher",
        "kl",
    ),
)


@dataclass(frozen=True)
class Verdict:
    """A claim judged on a run."""

    claim: Claim
    holds: bool
    apart: bool
    numbers: str

    @property
    def verdict(self) -> str:
        """Return the verdict in words."""
        if not self.apart:
            return "not distinguishable at this size"
        return "holds" if self.holds else "the other way round here"

    @property
    def text(self) -> str:
        """Return the claim and its verdict in one line."""
        return f"{self.claim.text}: {self.verdict} ({self.numbers})"


def judge(metrics: Metrics) -> list[Verdict]:
    """Return the verdict on every claim whose rows and metric this run has; intervals that touch decide nothing."""
    verdicts = []
    for claim in CLAIMS:
        a, b = (metrics.get(row, {}).get(claim.metric) for row in (claim.better, claim.worse))
        if a is None or b is None:
            continue
        holds = (a["value"] < b["value"]) == claim.lower
        shown = [
            f"{name} {e['value']:.3g} [{e['low']:.3g}, {e['high']:.3g}]"
            for name, e in ((claim.better, a), (claim.worse, b))
        ]
        verdicts.append(Verdict(claim, holds, differ(a, b), f"{claim.metric}: {shown[0]}, {shown[1]}"))
    return verdicts


def lines(metrics: Metrics) -> list[str]:
    """Return what the terminal prints under the tables."""
    verdicts = judge(metrics)
    return ["What this run shows", *(f"  {verdict.text}" for verdict in verdicts), ""] if verdicts else []
