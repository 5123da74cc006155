"""METEOR and BERTScore against computations of their own, and what a missing download says."""

import numpy as np
import pytest
import sacrebleu
import torch

from fdistill.errors import DataError
from fdistill.evaluate import Bootstrap, TextScorer, learned
from fdistill.pipeline.evaluation import wanted_metrics

REFERENCES = [["the cat sat on a mat", "a cat ran"], ["a dog ran"], ["the mat"]]
OUTPUTS = ["the cat sat", "a dog ran", "the dog ran on the mat"]


class NoSynonyms:
    """A WordNet without words: only equal words and equal stems match."""

    def synsets(self, word, *args, **kwargs):
        return []


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_bleu_of_every_order_is_sacrebleus(order):
    name = "bleu" if order == 4 else f"bleu{order}"
    found = TextScorer(REFERENCES, Bootstrap(3, 20), [name])(OUTPUTS)[name]["value"]
    streams = [[refs[i] if i < len(refs) else None for refs in REFERENCES] for i in range(2)]
    judge = sacrebleu.BLEU(max_ngram_order=order, force=True)
    assert found == pytest.approx(judge.corpus_score(OUTPUTS, streams).score)


def test_meteor_is_the_best_references():
    """By hand: 3 of 3 words match 3 of 6, in one chunk: F = PR / (0.9 P + 0.1 R), penalty 0.5 (1/3)³."""
    found = learned.meteor_values(OUTPUTS, REFERENCES, NoSynonyms())
    precision, recall = 1.0, 0.5
    f = precision * recall / (0.9 * precision + 0.1 * recall)
    assert found[0] == pytest.approx(100 * f * (1 - 0.5 / 27))
    assert found[1] == pytest.approx(100 * (1 - 0.5 / 27))
    assert found.shape == (3,)


def test_meteor_without_wordnet_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(learned, "has_meteor", lambda: False)
    with pytest.raises(DataError, match=r"python -m nltk\.downloader wordnet"):
        TextScorer(REFERENCES, Bootstrap(3, 0), ["meteor"])(OUTPUTS)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A BERT of 3 layers and eight words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *["the", "cat", "sat", "on", "a", "mat", "dog", "ran"]]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=16
    )
    folder = tmp_path_factory.mktemp("bert")
    BertModel(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def states(folder, text, layer):
    """Normalised hidden states of a text's tokens, special ones included."""
    from transformers import AutoModel, AutoTokenizer

    ids = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    with torch.no_grad():
        hidden = AutoModel.from_pretrained(folder).eval()(**ids, output_hidden_states=True).hidden_states[layer][0]
    return hidden / hidden.norm(dim=-1, keepdim=True)


def test_bertscore_is_greedy_matching_of_hidden_states(bert):
    pytest.importorskip("bert_score")
    found = learned.bertscore_values([*OUTPUTS, ""], [*REFERENCES, ["the cat"]], model=str(bert), layer=2)

    def f1(output, reference):
        # the special tokens at both ends can be matched, but do not count themselves
        similar = states(bert, output, 2) @ states(bert, reference, 2).T
        precision, recall = similar.max(1).values[1:-1].mean(), similar.max(0).values[1:-1].mean()
        return float(2 * precision * recall / (precision + recall))

    wanted = [
        100 * max(f1(output, reference) for reference in refs) for output, refs in zip(OUTPUTS, REFERENCES, strict=True)
    ]
    assert found[:3] == pytest.approx(wanted, abs=1e-3) and found[3] == 0
    estimate = TextScorer(REFERENCES, Bootstrap(3, 10), ["bertscore"], bertscore={"model": str(bert), "layer": 2})(
        OUTPUTS
    )["bertscore"]
    assert estimate["value"] == pytest.approx(np.mean(wanted), abs=1e-3)


def test_bertscore_without_a_model_says_what_to_set(tmp_path):
    with pytest.raises(DataError, match=r"set evaluation\.bertscore to"):
        TextScorer(REFERENCES, Bootstrap(3, 0), ["bertscore"])
    pytest.importorskip("bert_score")
    with pytest.raises(DataError, match="BERTScore cannot use"):
        learned.bertscore_values(OUTPUTS, REFERENCES, model=str(tmp_path / "none"), layer=2)


def test_extras_join_where_they_can_be_had(monkeypatch):
    monkeypatch.setattr("fdistill.evaluate.has_meteor", lambda: True)
    assert wanted_metrics({"bertscore": {"model": "m", "layer": 1}})[-2:] == ["meteor", "bertscore"]
    monkeypatch.setattr("fdistill.evaluate.has_meteor", lambda: False)
    assert not {"meteor", "bertscore"} & set(wanted_metrics({}))
    assert wanted_metrics({"metrics": ["chrf"]}) == ["chrf"]
