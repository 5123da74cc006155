"""Scores of text against references: BLEU-1 to 4, chrF and TER (sacrebleu), ROUGE, METEOR, BERTScore, and distinct n-grams.

All are percentages, as the paper's tables are. Each is computed from per-input sufficient statistics, which is what the
bootstrap resamples; the values equal sacrebleu's and rouge-score's own corpus values.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache, partial
from itertools import pairwise
from typing import Any

import numpy as np

from fdistill.errors import DataError
from fdistill.evaluate.bootstrap import Bootstrap, Estimate
from fdistill.evaluate.learned import bertscore_values, meteor_values

Array = np.ndarray
BLEU_ORDERS = {"bleu1": 1, "bleu2": 2, "bleu3": 3, "bleu": 4}
#: What needs no download. "bleu" is BLEU-4.
TEXT_METRICS = (*BLEU_ORDERS, "chrf", "ter", "rouge1", "rouge2", "rougeL", "distinct1", "distinct2")
#: METEOR needs WordNet's files, BERTScore a model.
EXTRA_METRICS = ("meteor", "bertscore")
LOWER_IS_BETTER = frozenset({"ter"})


class TextScorer:
    """Scores outputs of many models against one set of references, which are prepared once.

    Args:
        references: for each input its references, at least one; inputs may have different numbers of them.
        bootstrap: the resampling, over the same inputs.
        metrics: names out of `TEXT_METRICS` and `EXTRA_METRICS`.
        bertscore: {"model": a folder or a name on the hub, "layer": of its hidden states}, where "bertscore" is asked for.
        device: where that model runs.
    """

    def __init__(
        self,
        references: Sequence[Sequence[str]],
        bootstrap: Bootstrap,
        metrics: Sequence[str] = TEXT_METRICS,
        *,
        bertscore: Mapping[str, Any] | None = None,
        device: str = "cpu",
    ):
        missing = next((i for i, refs in enumerate(references) if not refs), None)
        if missing is not None:
            raise DataError(f"test input {missing} has no reference. Give every input at least one, or leave it out.")
        unknown = sorted(set(metrics) - {*TEXT_METRICS, *EXTRA_METRICS})
        if unknown:
            raise DataError(f"unknown metric {unknown[0]!r}. Known: {', '.join((*TEXT_METRICS, *EXTRA_METRICS))}.")
        if "bertscore" in metrics and not bertscore:
            raise DataError(
                "metric bertscore needs a model: set evaluation.bertscore to {model: FOLDER, layer: NUMBER}, such as "
                "{model: microsoft/deberta-xlarge-mnli, layer: 40}."
            )
        self.references = [list(refs) for refs in references]
        self.bootstrap = bootstrap
        self.metrics = tuple(metrics)
        self.bertscore, self.device = bertscore, device
        names = dict.fromkeys(_STATISTICS.get(name, name) for name in metrics)
        self._segments: dict[tuple[str, int, str], list[float]] = {}
        self._sacrebleu: dict[str, Any] = {
            name: _sacrebleu_metric(name, self.references) for name in ("bleu", "chrf", "ter") if name in names
        }

    @property
    def signatures(self) -> dict[str, str]:
        """Return sacrebleu's signatures, which say exactly how a score was computed."""
        return {name: str(metric.get_signature()) for name, metric in self._sacrebleu.items()}

    def __call__(self, outputs: Sequence[str]) -> dict[str, Estimate]:
        """Return {metric: estimate} of one output per input."""
        return self.estimates(outputs, self.statistics(outputs))

    def statistics(self, outputs: Sequence[str]) -> dict[str, Array]:
        """Return {name: per-input statistics [N, K]}, of whose sums `from_sums` makes the metrics (all but distinct-n)."""
        if len(outputs) != len(self.references):
            raise DataError(
                f"{len(outputs)} outputs for {len(self.references)} test inputs; give one output per input."
            )
        found: dict[str, Array] = {
            name: np.array([self._segment(name, *place) for place in enumerate(outputs)], dtype=np.float64)
            for name in self._sacrebleu
        }
        rouge = [name for name in self.metrics if name.startswith("rouge")]
        if rouge:
            found |= self._rouge(outputs, rouge)
        if "meteor" in self.metrics:
            found["meteor"] = meteor_values(outputs, self.references)[:, None]
        if "bertscore" in self.metrics:
            assert self.bertscore is not None
            values = bertscore_values(outputs, self.references, device=self.device, **self.bertscore)
            found["bertscore"] = values[:, None]
        return found

    def estimates(self, outputs: Sequence[str], statistics: Mapping[str, Array]) -> dict[str, Estimate]:
        """Return {metric: estimate} of outputs and their statistics."""
        scores = {}
        for name in self.metrics:
            if name.startswith("distinct"):
                scores[name] = distinct(outputs, int(name.removeprefix("distinct")), self.bootstrap)
            else:
                made = partial(from_sums, name, inputs=self.bootstrap.inputs)
                scores[name] = self.bootstrap.function(statistics[statistics_of(name)], made)
        return scores

    def _segment(self, name: str, index: int, output: str) -> list[float]:
        """Statistics of one output; models often write the same, whose edit distance is then found once."""
        key = (name, index, output)
        if key not in self._segments:
            metric = self._sacrebleu[name]
            words = metric._preprocess_segment(output)
            self._segments[key] = metric._compute_segment_statistics(words, metric._ref_cache[index])
        return self._segments[key]

    def _rouge(self, outputs: Sequence[str], names: list[str]) -> dict[str, Array]:
        """ROUGE F1 with stemming; of several references the best counts, for each measure on its own."""
        from rouge_score.rouge_scorer import RougeScorer

        scorer = RougeScorer(names, use_stemmer=True, tokenizer=_CachedTokenizer())
        per_input = [scorer.score_multi(refs, output) for refs, output in zip(self.references, outputs, strict=True)]
        return {name: np.array([[100 * s[name].fmeasure] for s in per_input]) for name in names}


def statistics_of(metric: str) -> str:
    """Return under which name the statistics of a metric are kept: BLEU of every order has the same ones."""
    return _STATISTICS.get(metric, metric)


def from_sums(metric: str, sums: Array, inputs: int) -> Array:
    """Return a metric [R] from its statistics summed over `inputs` inputs [R, K]; most are means of per-input values."""
    return _FROM_SUMS[metric](sums) if metric in _FROM_SUMS else sums[:, 0] / inputs


def distinct(outputs: Sequence[str], order: int, bootstrap: Bootstrap) -> Estimate:
    """Return the share of distinct n-grams among all n-grams of all outputs (Li et al., 2016), in percent."""
    from scipy.sparse import csr_matrix

    vocabulary: dict[tuple[str, ...], int] = {}
    rows, columns, totals = [], [], np.zeros(len(outputs))
    for row, output in enumerate(outputs):
        grams = ngrams(output, order)
        totals[row] = len(grams)
        unique = dict.fromkeys(grams)
        rows += [row] * len(unique)
        columns += [vocabulary.setdefault(gram, len(vocabulary)) for gram in unique]
    if not vocabulary:
        return Estimate(value=0.0, low=0.0, high=0.0)
    shape = (len(outputs), len(vocabulary))
    present = csr_matrix((np.ones(len(rows), dtype=np.float32), (rows, columns)), shape=shape).T.tocsr()
    values = [100 * len(vocabulary) / totals.sum()]
    for start in range(0, bootstrap.samples, 100):  # a hundred resamples at a time bounds memory
        counts = bootstrap.counts[start : start + 100]
        seen = ((present @ (counts > 0).astype(np.float32).T) > 0).sum(0)
        values += (100 * seen / np.maximum(counts @ totals, 1)).tolist()
    return bootstrap.normal(np.array(values))


def sample_distinctness(samples: Sequence[Sequence[str]], bootstrap: Bootstrap) -> Estimate:
    """Return the paper's TeacherDist: per input the share of distinct bi-grams among its samples, averaged, in percent.

    Args:
        samples: for each input several sampled texts (the paper: five of the teacher).
    """
    shares = []
    for texts in samples:
        grams = [gram for text in texts for gram in ngrams(text, 2)]
        shares.append(100 * len(set(grams)) / len(grams) if grams else 0.0)
    return bootstrap.mean(np.array(shares))


def ngrams(text: str, order: int) -> list[tuple[str, ...]]:
    """Return the n-grams of a text's whitespace-separated words, in order."""
    words = text.split()
    if order == 2:
        return list(pairwise(words))
    return [tuple(words[i : i + order]) for i in range(len(words) - order + 1)]


def _sacrebleu_metric(name: str, references: list[list[str]]) -> Any:
    """A sacrebleu metric that holds the references' n-grams; None fills up inputs with fewer references than others."""
    from sacrebleu.metrics import BLEU, CHRF, TER

    most = max(len(refs) for refs in references)
    streams = [[refs[i] if i < len(refs) else None for refs in references] for i in range(most)]
    # detokenised text is the caller's business: a warning about final periods would only alarm
    return {"bleu": BLEU, "chrf": CHRF, "ter": TER}[name](
        references=streams, **({"force": True} if name == "bleu" else {})
    )


def _bleu(sums: Array, order: int = 4) -> Array:
    """Corpus BLEU with exponential smoothing from summed statistics [R, 2 + 4 + 4]: lengths, matches, counts."""
    output_length, reference_length = sums[:, 0], sums[:, 1]
    matches, counts = sums[:, 2 : 2 + order], sums[:, 6 : 6 + order]
    missing = (matches == 0) & (counts > 0)
    smoothed = 1.0 / 2.0 ** np.cumsum(missing, axis=1)
    numerators = np.where(missing, smoothed, matches)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_precisions = np.log(numerators) - np.log(counts)
        brevity = np.minimum(0.0, 1 - reference_length / output_length)
        scores = 100 * np.exp(np.minimum(log_precisions.mean(1), 0.0) + brevity)
    return np.where((counts > 0).all(1) & (matches > 0).any(1), scores, 0.0)


def _chrf(sums: Array, beta: float = 2.0) -> Array:
    """Corpus chrF from summed statistics [R, 3 * orders]: output, reference and matching n-grams of each order."""
    output, reference, match = sums[:, 0::3], sums[:, 1::3], sums[:, 2::3]
    used = (output > 0) & (reference > 0)
    orders = np.maximum(used.sum(1), 1)
    precision = np.where(used, match / np.maximum(output, 1), 0).sum(1) / orders
    recall = np.where(used, match / np.maximum(reference, 1), 0).sum(1) / orders
    denominator = beta**2 * precision + recall
    return 100 * np.divide(
        (1 + beta**2) * precision * recall, denominator, out=np.zeros(len(sums)), where=denominator > 0
    )


def _ter(sums: Array) -> Array:
    """Corpus TER from summed statistics [R, 2]: edits and reference length."""
    edits, length = sums[:, 0], sums[:, 1]
    return 100 * np.divide(edits, length, out=(edits > 0).astype(float), where=length > 0)


_FROM_SUMS: dict[str, Callable[[Array], Array]] = {
    **{name: partial(_bleu, order=order) for name, order in BLEU_ORDERS.items()},
    "chrf": _chrf,
    "ter": _ter,
}
_STATISTICS = dict.fromkeys(BLEU_ORDERS, "bleu")


class _CachedTokenizer:
    """rouge-score's tokenizer, stemming each distinct text once: references recur for every model."""

    def tokenize(self, text: str) -> list[str]:
        return _stemmed(text)


@cache
def _stemmer() -> Any:
    from rouge_score.tokenizers import DefaultTokenizer

    return DefaultTokenizer(use_stemmer=True)


@lru_cache(maxsize=1 << 16)
def _stemmed(text: str) -> list[str]:
    return _stemmer().tokenize(text)
