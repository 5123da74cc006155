"""Text metrics agree with sacrebleu and rouge-score, with any number of references; intervals behave as intervals."""

import numpy as np
import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from fdistill.errors import DataError
from fdistill.evaluate import TEXT_METRICS, Bootstrap, TextScorer, differ, distinct, sample_distinctness
from fdistill.evaluate.metrics import ngrams

WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "near",
    "old",
    "town",
    "and",
    "ate",
    "fish",
    ",",
    "quickly",
    ".",
    "restaurant",
    "cheap",
]


def corpus(inputs: int, seed: int = 0, references: int | None = None) -> tuple[list[str], list[list[str]]]:
    """Outputs that share words with their references; each input has one to three references unless told."""
    rng = np.random.default_rng(seed)
    refs, outputs = [], []
    for _ in range(inputs):
        count = references or int(rng.integers(1, 4))
        refs.append([" ".join(rng.choice(WORDS, rng.integers(4, 14))) for _ in range(count)])
        words = refs[-1][0].split()
        outputs.append(" ".join(w if rng.random() < 0.7 else str(rng.choice(WORDS)) for w in words))
    return outputs, refs


def streams(refs: list[list[str]]) -> list[list[str | None]]:
    return [[r[i] if i < len(r) else None for r in refs] for i in range(max(map(len, refs)))]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("references", [1, 3, None])
def test_bleu_chrf_and_ter_equal_sacrebleus_corpus_scores(seed, references):
    outputs, refs = corpus(17, seed, references)
    scores = TextScorer(refs, Bootstrap(17, 20), ["bleu", "chrf", "ter"])(outputs)
    assert scores["bleu"]["value"] == pytest.approx(sacrebleu.BLEU().corpus_score(outputs, streams(refs)).score)
    assert scores["chrf"]["value"] == pytest.approx(sacrebleu.CHRF().corpus_score(outputs, streams(refs)).score)
    assert scores["ter"]["value"] == pytest.approx(sacrebleu.TER().corpus_score(outputs, streams(refs)).score)


def test_scores_do_not_depend_on_what_was_scored_before():
    """Catches statistics that are kept for an output without its input, whose references they belong to."""
    outputs, refs = corpus(12)
    used = TextScorer(refs, Bootstrap(12, 20))
    for written in (outputs, outputs[1:] + outputs[:1], [outputs[0]] * 12, outputs):
        assert used(written) == TextScorer(refs, Bootstrap(12, 20))(written)


def test_each_resample_is_the_score_of_the_resampled_corpus():
    outputs, refs = corpus(9)
    bootstrap = Bootstrap(9, 6, seed=3)
    seen: list[np.ndarray] = []
    bootstrap.percentiles = lambda values: seen.append(values) or {"value": 0, "low": 0, "high": 0}
    TextScorer(refs, bootstrap, ["bleu", "chrf", "ter"])(outputs)
    for row, counts in enumerate(bootstrap.counts.astype(int)):
        rows = np.repeat(np.arange(9), counts)
        resampled = [outputs[i] for i in rows], streams([refs[i] for i in rows])
        for values, metric in zip(seen, (sacrebleu.BLEU, sacrebleu.CHRF, sacrebleu.TER), strict=True):
            assert values[1 + row] == pytest.approx(metric().corpus_score(*resampled).score)


@pytest.mark.parametrize("outputs", [["", "", ""], ["a", "b", "c"], ["the cat", "", "zebra zebra zebra zebra zebra"]])
def test_degenerate_outputs_score_as_sacrebleu_scores_them(outputs):
    refs = [["the cat sat on the mat"], ["a mat"], ["old town and fish"]]
    scores = TextScorer(refs, Bootstrap(3, 20))(outputs)
    assert scores["bleu"]["value"] == pytest.approx(sacrebleu.BLEU().corpus_score(outputs, streams(refs)).score)
    assert scores["chrf"]["value"] == pytest.approx(
        sacrebleu.CHRF().corpus_score(outputs, streams(refs)).score, abs=1e-9
    )
    assert all(np.isfinite(list(score.values())).all() for score in scores.values())


def test_perfect_output_scores_a_hundred_and_no_edits():
    _, refs = corpus(6)
    scores = TextScorer(refs, Bootstrap(6, 50))([r[-1] for r in refs])
    for name in ("bleu", "chrf", "rouge1", "rouge2", "rougeL"):
        assert scores[name] == pytest.approx({"value": 100, "low": 100, "high": 100})
    assert scores["ter"]["value"] == 0


def test_rouge_takes_the_best_reference_of_each_measure():
    outputs, refs = corpus(8, 2)
    scores = TextScorer(refs, Bootstrap(8, 10), ["rouge1", "rougeL"])(outputs)
    scorer = RougeScorer(["rouge1", "rougeL"], use_stemmer=True)
    for name in ("rouge1", "rougeL"):
        best = [max(scorer.score(r, o)[name].fmeasure for r in rs) for o, rs in zip(outputs, refs, strict=True)]
        assert scores[name]["value"] == pytest.approx(100 * np.mean(best))


def test_distinct_counts_distinct_ngrams_of_all_outputs():
    outputs = ["a b a b", "b c", "a"]
    assert distinct(outputs, 1, Bootstrap(3, 10))["value"] == pytest.approx(100 * 3 / 7)
    assert distinct(outputs, 2, Bootstrap(3, 10))["value"] == pytest.approx(100 * 3 / 4)  # ab ba bc of ab ba ab bc
    estimate = distinct([f"w{i} x" for i in range(50)], 2, Bootstrap(50, 200))
    assert estimate["low"] <= estimate["value"] <= estimate["high"]


def test_distinct_of_nothing_is_zero():
    assert distinct(["", "one"], 2, Bootstrap(2, 10)) == {"value": 0, "low": 0, "high": 0}


def test_teacher_dist_is_the_share_of_distinct_bigrams_per_input_averaged():
    samples = [["a b c"] * 5, ["a b c", "d e f", "g h i", "j k l", "m n o"]]
    assert sample_distinctness(samples, Bootstrap(2, 10))["value"] == pytest.approx((100 * 2 / 10 + 100) / 2)


def test_ngrams_are_in_order():
    assert ngrams("a b c", 2) == [("a", "b"), ("b", "c")]
    assert ngrams("a b c", 1) == [("a",), ("b",), ("c",)]
    assert ngrams("a", 2) == []


def test_intervals_cover_the_true_mean_about_as_often_as_they_say():
    rng = np.random.default_rng(1)
    covered = 0
    for trial in range(200):
        estimate = Bootstrap(60, 300, seed=trial).mean(rng.exponential(size=60))
        covered += estimate["low"] <= 1 <= estimate["high"]
    assert 0.87 <= covered / 200 <= 0.99


def test_the_same_seed_gives_the_same_interval_and_no_resamples_give_no_width():
    values = np.random.default_rng(0).random(30)
    assert Bootstrap(30, 100, seed=4).mean(values) == Bootstrap(30, 100, seed=4).mean(values)
    estimate = Bootstrap(30, 0).mean(values)
    assert estimate["low"] == estimate["value"] == estimate["high"]


def test_differ_is_true_only_of_intervals_apart():
    a = {"value": 1, "low": 0, "high": 2}
    assert differ(a, {"value": 4, "low": 3, "high": 5}) and differ({"value": 4, "low": 3, "high": 5}, a)
    assert not differ(a, {"value": 3, "low": 2, "high": 5})


def test_signatures_say_how_the_scores_were_made():
    _, refs = corpus(4, references=2)
    signatures = TextScorer(refs, Bootstrap(4, 0)).signatures
    assert set(signatures) == {"bleu", "chrf", "ter"} and "nrefs:2" in signatures["bleu"]
    _, refs = corpus(9)
    assert "nrefs:var" in TextScorer(refs, Bootstrap(9, 0)).signatures["bleu"]


def test_bad_input_gets_one_clear_line():
    with pytest.raises(DataError, match="test input 1 has no reference"):
        TextScorer([["a"], []], Bootstrap(2, 0))
    with pytest.raises(DataError, match="3 outputs for 2 test inputs"):
        TextScorer([["a"], ["b"]], Bootstrap(2, 0))(["a", "b", "c"])
    with pytest.raises(DataError, match="unknown metric 'blue'"):
        TextScorer([["a"]], Bootstrap(1, 0), ["blue"])
    assert "bleu" in TEXT_METRICS
