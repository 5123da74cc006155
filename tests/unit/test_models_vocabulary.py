"""One vocabulary for teacher and student, or an error that names the difference."""

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from fdistill.errors import VocabularyError
from fdistill.models import check_vocabularies, make_student, shared_vocab_size, tokenizer_size, train_tokenizer
from tests.model_kit import TEXTS, tiny_model, tiny_tokenizer


def test_one_tokenizer_and_a_student_of_the_teacher_pass():
    teacher = tiny_model("t5")
    check_vocabularies(tiny_tokenizer(), tiny_tokenizer(), teacher, make_student(teacher, 1, 1))
    check_vocabularies(tiny_tokenizer(), train_tokenizer(TEXTS, 280))


def test_sizes_that_differ_are_named():
    with pytest.raises(VocabularyError) as error:
        check_vocabularies(tiny_tokenizer(), train_tokenizer(TEXTS, 290))
    assert "do not share a vocabulary: 280 and 290 tokens, and only the student has token 280" in str(error.value)
    assert "make_student(teacher)" in str(error.value) and "\n" not in str(error.value)


def test_equal_sizes_with_other_ids_are_named():
    other = train_tokenizer(["zzzz yyyy zzzz yyyy qqqq qqqq xxxx wwww vvvv uuuu"] * 3, 280)
    assert len(other) == 280
    with pytest.raises(
        VocabularyError, match=r'280 and 280 tokens, and token 26\d is ".+" for one and ".+" for the other'
    ):
        check_vocabularies(tiny_tokenizer(), other)


def test_equal_vocabularies_with_other_rules_are_found_by_encoding():
    vocab = {"<eos>": 0, "<unk>": 1, "T": 2, "h": 3, "e": 4, "Th": 5, "he": 6}
    tokenizers = []
    for merges in ([("T", "h"), ("h", "e")], [("h", "e"), ("T", "h")]):
        backend = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>"))
        tokenizers.append(PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", unk_token="<unk>"))
    with pytest.raises(VocabularyError, match="do not share a tokenizer"):
        check_vocabularies(*tokenizers)


def test_another_end_of_text_is_named():
    other = train_tokenizer(TEXTS, 280)
    other.eos_token = "<s>"
    with pytest.raises(VocabularyError, match="the end-of-text token is 1 for one and 3 for the other"):
        check_vocabularies(tiny_tokenizer(), other)


def test_a_table_smaller_than_its_tokenizer_is_named():
    with pytest.raises(
        VocabularyError, match="the student's embedding table has 280 rows, but its tokenizer has 300 tokens"
    ):
        tokenizer = train_tokenizer([*TEXTS, "many other words so that merges can be found"], 300)
        check_vocabularies(tokenizer, tokenizer, None, tiny_model("t5"))


def test_padded_tables_are_cut_to_what_both_and_the_tokenizer_have():
    teacher, student = tiny_model("t5", vocab_size=320), tiny_model("t5", vocab_size=296)
    check_vocabularies(tiny_tokenizer(), tiny_tokenizer(), teacher, student)
    assert shared_vocab_size(teacher, student) == 296
    assert shared_vocab_size(teacher, student, tiny_tokenizer()) == 280 == tokenizer_size(tiny_tokenizer())
