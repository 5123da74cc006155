"""Scores that need something to be downloaded first: METEOR (WordNet's files, nltk) and BERTScore (a model, bert-score)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fdistill.errors import DataError

Array = np.ndarray


def has_meteor() -> bool:
    """Whether nltk is installed and finds WordNet's files, packed or not."""
    try:
        from nltk.corpus import wordnet

        wordnet.ensure_loaded()
    except (ImportError, LookupError, OSError):
        return False
    return True


def meteor_values(outputs: Sequence[str], references: Sequence[Sequence[str]], wordnet: Any = None) -> Array:
    """Return METEOR (Banerjee and Lavie, 2005) of every output in percent, [N]; of several references the best counts.

    Texts are split into words and punctuation, in lower case; matches are exact, by stem, or by WordNet's synonyms.

    Args:
        outputs: N texts.
        references: for each its references.
        wordnet: nltk's corpus reader; None: the one that nltk finds.

    Raises:
        DataError: nltk or WordNet's files are missing.
    """
    try:
        from nltk.tokenize import wordpunct_tokenize
        from nltk.translate.meteor_score import meteor_score
    except ImportError:
        raise DataError("metric meteor needs nltk. Install it with `pip install fdistill[meteor]`.") from None
    if wordnet is None:
        if not has_meteor():
            raise DataError(
                "metric meteor needs WordNet's files, which nltk does not find. Fetch them with `python -m nltk.downloader "
                "wordnet`, or leave meteor out of evaluation.metrics."
            )
        from nltk.corpus import wordnet as found

        wordnet = found
    scores = [
        meteor_score([wordpunct_tokenize(text) for text in refs], wordpunct_tokenize(output), wordnet=wordnet)
        for output, refs in zip(outputs, references, strict=True)
    ]
    return 100 * np.array(scores, dtype=np.float64)


def bertscore_values(
    outputs: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    model: str,
    layer: int,
    batch_size: int = 32,
    device: str = "cpu",
) -> Array:
    """Return BERTScore's F1 (Zhang et al., 2020) of every output in percent, not rescaled, [N]; the best reference counts.

    Args:
        outputs: N texts; an empty one scores 0.
        references: for each its references.
        model: a folder or a name on the hub.
        layer: whose hidden states are compared, counted from 1.
        batch_size: texts a batch.
        device: where the model runs.

    Raises:
        DataError: bert-score is missing, or the model does not load.
    """
    try:
        from bert_score import BERTScorer
    except ImportError:
        raise DataError(
            "metric bertscore needs bert-score. Install it with `pip install fdistill[bertscore]`."
        ) from None
    try:
        scorer = BERTScorer(model_type=str(model), num_layers=layer, batch_size=batch_size, device=device)
    except (OSError, ValueError, AssertionError) as error:
        reason = (str(error).strip() or type(error).__name__).split("\n")[0]
        raise DataError(f"BERTScore cannot use {model!r} at layer {layer}: {reason}") from None
    tokenizer = scorer._tokenizer
    if tokenizer.model_max_length > 1_000_000:  # "no limit", which the tokenizer itself then chokes on
        tokenizer.model_max_length = scorer._model.config.max_position_embeddings
    written = [row for row, output in enumerate(outputs) if output.strip()]
    values = np.zeros(len(outputs))
    if written:
        refs = [list(references[row]) for row in written]
        _, _, f1 = scorer.score([outputs[row] for row in written], refs)
        values[written] = 100 * f1.double().cpu().numpy()
    return values
