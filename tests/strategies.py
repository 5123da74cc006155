"""What the properties draw: pairs of tabular models, and the options of objectives.

Sizes, peakedness, EOS and kind of pair are drawn one by one, so a failure shrinks to the smallest, flattest pair that still
fails, and a model prints as code that can be pasted. Logits come either from a drawn seed or, in tiny models, one by one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from fdistill_reference import GENERATORS, TabularModel, sequence_divergence
from fdistill_reference.markov import MarkovModel
from fdistill_reference.rational import RationalModel
from fdistill_reference.tree import prefix_tree
from hypothesis import strategies as st

Pair = tuple[TabularModel, TabularModel]
PEAKEDNESS = (0.0, 0.3, 1.0, 3.0)  # standard deviations of the logits: uniform, flat, ordinary, peaked
NEARNESS = (1e-1, 1e-3, 1e-6)  # of a near-equal student's logits to the teacher's
KINDS = ("independent", "near", "equal")


@st.composite
def tabular_models(
    draw: st.DrawFn, vocab: int, length: int, eos: int | None = None, peakedness: float = 1.0, zeros: bool = False
) -> TabularModel:
    """One model: logits drawn one by one (multiples of ¼) where there are at most twelve, else from a drawn seed."""
    tree = prefix_tree(vocab, length, eos)
    if tree.size * vocab <= 12 and not zeros and draw(st.booleans()):
        count = tree.size * vocab
        steps = draw(st.lists(st.integers(-12, 12), min_size=count, max_size=count))
        return TabularModel(np.reshape(steps, (tree.size, vocab)) / 4.0, length, eos)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    share = draw(st.sampled_from((0.0, 0.2, 0.5))) if zeros else 0.0
    return TabularModel.random(vocab, length, rng, eos, peakedness, share)


@st.composite
def tabular_model_pairs(
    draw: st.DrawFn,
    max_vocab: int = 3,
    max_length: int = 3,
    *,
    min_length: int = 1,
    eos: bool | None = None,
    kinds: tuple[str, ...] = KINDS,
    zeros: bool = False,
    max_peakedness: float = 3.0,
) -> Pair:
    """Teacher and student over the same sequences.

    Args:
        eos: whether a token ends sequences early; None: drawn.
        kinds: "independent"; "near", the teacher's logits with a little noise; "equal", the same model twice.
        zeros: whether tokens may have probability zero, in either model, independently.
        max_peakedness: largest standard deviation of the logits.
    """
    vocab, length = draw(st.integers(2, max_vocab)), draw(st.integers(min_length, max_length))
    has_eos = draw(st.booleans()) if eos is None else eos
    end = draw(st.integers(0, vocab - 1)) if has_eos else None
    shape = {"vocab": vocab, "length": length, "eos": end, "zeros": zeros}
    peaks = st.sampled_from([x for x in PEAKEDNESS if x <= max_peakedness])
    p = draw(tabular_models(peakedness=draw(peaks), **shape))
    kind = draw(st.sampled_from(kinds))
    if kind == "equal":
        return p, p
    if kind == "near":
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        return p, p.with_logits(p.logits + draw(st.sampled_from(NEARNESS)) * rng.standard_normal(p.logits.shape))
    return p, draw(tabular_models(peakedness=draw(peaks), **shape))


@st.composite
def tabular_model_triples(draw: st.DrawFn, **sizes: Any) -> tuple[TabularModel, TabularModel, TabularModel]:
    """Three models over the same sequences."""
    p, q = draw(tabular_model_pairs(kinds=("independent", "near"), **sizes))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return p, q, TabularModel.random(p.vocab, p.length, rng, p.eos)


@st.composite
def seeded_pairs(
    draw: st.DrawFn, max_vocab: int = 3, max_length: int = 3, min_length: int = 1, eos: bool | None = None
) -> Pair:
    """Independent pairs of ordinary peakedness, logits never tied."""
    vocab, length = draw(st.integers(2, max_vocab)), draw(st.integers(min_length, max_length))
    has_eos = draw(st.booleans()) if eos is None else eos
    end = draw(st.integers(0, vocab - 1)) if has_eos else None
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return TabularModel.random(vocab, length, rng, end), TabularModel.random(vocab, length, rng, end)


@st.composite
def next_token_pairs(
    draw: st.DrawFn, max_vocab: int = 6, rows: int = 4, zeros: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Teacher and student next-token log-probabilities, [rows, V] each."""
    vocab = draw(st.integers(2, max_vocab))
    share = 0.3 if zeros else 0.0
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    peaks = draw(st.sampled_from(PEAKEDNESS)), draw(st.sampled_from(PEAKEDNESS))
    log_p, log_q = (
        np.stack([TabularModel.random(vocab, 1, rng, None, peak, share).log_probs[0] for _ in range(rows)])
        for peak in peaks
    )
    return log_p, log_q


@st.composite
def rational_model_pairs(
    draw: st.DrawFn, max_vocab: int = 3, max_length: int = 3, smallest: int = 0
) -> tuple[RationalModel, RationalModel]:
    """Models whose probabilities are ratios of small integers (`smallest` 0: zeros occur)."""
    vocab, length = draw(st.integers(2, max_vocab)), draw(st.integers(1, max_length))
    eos = draw(st.one_of(st.none(), st.integers(0, vocab - 1)))
    row = st.tuples(*[st.integers(smallest, 9)] * vocab).filter(any)
    prefixes = prefix_tree(vocab, length, eos).prefixes
    p, q = (RationalModel.from_counts({s: draw(row) for s in prefixes}, length, eos) for _ in range(2))
    return p, q


@st.composite
def markov_model_pairs(
    draw: st.DrawFn, max_vocab: int = 3, max_order: int = 2, max_length: int = 4
) -> tuple[MarkovModel, MarkovModel]:
    """Models that remember at most `max_order` tokens, small enough to be written out."""
    vocab, order, length = (
        draw(st.integers(2, max_vocab)),
        draw(st.integers(0, max_order)),
        draw(st.integers(1, max_length)),
    )
    eos = draw(st.one_of(st.none(), st.integers(0, vocab - 1)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return tuple(MarkovModel.random(vocab, order, length, rng, eos) for _ in range(2))


def teacher_weights() -> st.SearchStrategy[float]:
    """π: ½, or anything well inside (0, 1)."""
    return st.one_of(st.just(0.5), st.floats(0.05, 0.95))


def tempers() -> st.SearchStrategy[float]:
    """τ or γ in [0, 1], its ends included."""
    return st.one_of(st.sampled_from((0.0, 1.0, 0.5)), st.floats(0.0, 1.0))


def user_generator(t: Any) -> Any:
    """(t - 1)²/(t + 1), the triangular discrimination: a generator that no table of ours holds."""
    return (t - 1) ** 2 / (t + 1)


USER_OPTIONS: Mapping[str, Any] = {"generator": user_generator, "at_zero": 1.0, "slope_at_infinity": 1.0}


def generator_options() -> st.SearchStrategy[dict[str, Any]]:
    """Options of f_divergence: every named generator with drawn parameters, and one of the user's."""
    inside = st.floats(0.05, 0.95)
    parameters = {
        "js": st.fixed_dictionaries({"teacher_weight": inside}),
        "alpha": st.fixed_dictionaries({"alpha": st.sampled_from((-0.5, 0.3, 0.5, 1.5, 2.0))}),
        "skew_kl": st.fixed_dictionaries({"alpha": inside}),
        "skew_rkl": st.fixed_dictionaries({"alpha": inside}),
    }
    named = [
        parameters.get(name, st.just({})).map(lambda options, name=name: {"generator": name, **options})
        for name in GENERATORS
    ]
    return st.one_of(*named, st.just(dict(USER_OPTIONS)))


@dataclass(frozen=True)
class Case:
    """An objective with options, and what it equals at sequence level: None where it is a bound or an approximation."""

    name: str
    options: Mapping[str, Any]
    exact: str | None = None

    def sequence_value(self, p: TabularModel, q: TabularModel) -> float:
        """What the case must equal, from P(y), Q(y) and f alone."""
        kept = {"js": ("teacher_weight",), "f_divergence": tuple(USER_OPTIONS)}.get(str(self.exact), ())
        return sequence_divergence(
            str(self.exact), p, q, **{key: self.options[key] for key in kept if key in self.options}
        )

    def __str__(self) -> str:
        shown = [str(getattr(value, "__name__", value)) for value in self.options.values()]
        return "-".join([self.name, *shown])


def cases(teacher_weight: float = 0.3) -> list[Case]:
    """Every row of the table of objectives: objective × middle × memory × bound × generator × estimator."""
    pi = {"teacher_weight": teacher_weight}
    out = [Case(name, {}, name) for name in ("kl", "rkl", "seqkd", "engine", "mle")] + [Case("kd", {}, "kl")]
    out += [
        Case("js", {**pi, "middle": middle}, "js" if middle == "sequence" else None)
        for middle in ("token", "sequence", 0.4)
    ]
    out += [Case("js", {**pi, "middle": "sequence", "memory": memory}) for memory in (0.0, 0.6)]
    out += [Case("js", {**pi, "middle": "sequence", "memory": 0.6, "estimator": "balance"})]
    out += [Case("js", {**pi, "middle": "sequence", "clip": 0.5})]
    out += [
        Case("js", {**pi, "middle": "sequence", "estimator": one}, "js") for one in ("balance", "teacher", "student")
    ]
    out += [Case("tvd", {**pi, "bound": bound}) for bound in ("paper", "overlap", "product", 0.4)]
    out += [Case("tvd", {**pi, "bound": "overlap", "estimator": one}) for one in ("balance", "teacher", "student")]
    out += [Case("tvd", {**pi, "bound": "product", "estimator": one}) for one in ("teacher", "student")]
    for generator in GENERATORS:
        out += [
            Case("f_divergence", {"generator": generator, "estimator": one}, generator)
            for one in ("student", "teacher")
        ]
    out += [Case("f_divergence", {**USER_OPTIONS, "estimator": one}, "f_divergence") for one in ("student", "teacher")]
    return out
