"""Tokenizers trained on data, and prompts and completions as ids."""

import pytest
from transformers import AutoTokenizer

from fdistill.errors import DataError, RecipeError
from fdistill.models import (
    adapter_for,
    build_model,
    tokenize_completion,
    tokenize_example,
    tokenize_prompt,
    train_tokenizer,
)
from tests.model_kit import CONFIGS, TEXTS, tiny_model, tiny_tokenizer, tokenizer_of

HARD_TEXTS = [
    *TEXTS,
    "  two  spaces ,and\ttabs\n£20 – “quotes”",
    "șțăîâ 日本語 🙂 don't",
    "",
    "a",
    " leading and trailing ",
]
EOS = 1

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def adapter_of(family):
    return adapter_for(tiny_model(family))


def chat_tokenizer():
    tokenizer = train_tokenizer(TEXTS, 280, "decoder-only")
    tokenizer.chat_template = TEMPLATE
    return tokenizer


@pytest.mark.parametrize("kind", ["encoder-decoder", "decoder-only"])
@pytest.mark.parametrize("family", ["t5", "gpt2", "llama", "bart"])
def test_a_saved_tokenizer_loads_beside_its_model_and_gives_text_back(kind, family, tmp_path):
    tokenizer = train_tokenizer(TEXTS, 280, kind)
    build_model(CONFIGS[family], tokenizer).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    for text in HARD_TEXTS:
        ids = loaded(text)["input_ids"]
        assert ids == tokenizer(text)["input_ids"]
        assert loaded.decode(ids, skip_special_tokens=True) == text
    assert (loaded.pad_token_id, loaded.eos_token_id, loaded.unk_token_id, loaded.bos_token_id) == (0, 1, 2, 3)
    assert loaded.padding_side == ("left" if kind == "decoder-only" else "right")
    assert not list(tmp_path.glob("*.bin")) and not list(tmp_path.glob("*.pkl"))


def test_training_a_tokenizer_twice_gives_the_same_tokens():
    assert train_tokenizer(TEXTS, 300).get_vocab() == train_tokenizer(iter(TEXTS), 300).get_vocab()


def test_a_tokenizer_has_no_more_tokens_than_asked_for():
    assert len(train_tokenizer(TEXTS, 270)) == 270
    assert 260 < len(train_tokenizer(TEXTS, 5000)) < 5000


def test_a_tokenizer_too_small_for_bytes_or_of_no_kind_is_refused():
    with pytest.raises(RecipeError, match="needs at least 260"):
        train_tokenizer(TEXTS, 100)
    with pytest.raises(RecipeError, match="kind is 'bpe'"):
        train_tokenizer(TEXTS, 300, "bpe")


def test_an_encoders_prompt_ends_with_eos_and_a_decoders_does_not():
    tokenizer = tiny_tokenizer("encoder-decoder")
    text = tokenizer("A cheap place.", add_special_tokens=False)["input_ids"]
    assert tokenize_prompt(tokenizer, adapter_of("t5"), "A cheap place.") == [*text, EOS]
    assert tokenize_prompt(tokenizer, adapter_of("gpt2"), "A cheap place.") == text
    plain = tiny_tokenizer("decoder-only")
    assert tokenize_prompt(plain, adapter_of("t5"), "A cheap place.") == [*text, EOS]


def test_a_long_source_loses_its_end_and_a_long_history_its_beginning():
    tokenizer = tiny_tokenizer("encoder-decoder")
    whole = tokenizer(TEXTS[0], add_special_tokens=False)["input_ids"]
    assert tokenize_prompt(tokenizer, adapter_of("t5"), TEXTS[0], 5) == [*whole[:4], EOS]
    assert tokenize_prompt(tokenizer, adapter_of("gpt2"), TEXTS[0], 5) == whole[-5:]
    assert tokenize_prompt(tokenizer, adapter_of("gpt2"), TEXTS[0], 500) == whole
    with pytest.raises(DataError, match="max_prompt_length is 1"):
        tokenize_prompt(tokenizer, adapter_of("t5"), TEXTS[0], 1)


def test_an_eos_that_the_prompt_itself_ends_with_stays():
    """Dialogue histories join turns by EOS."""
    tokenizer = tiny_tokenizer("decoder-only")
    assert tokenize_prompt(tokenizer, adapter_of("gpt2"), "Hi.</s>")[-1] == EOS


@pytest.mark.parametrize("family", ["t5", "gpt2"])
def test_an_empty_prompt_still_has_a_token(family):
    ids = tokenize_prompt(tokenizer_of(family), adapter_of(family), "")
    assert ids == ([EOS] if family == "t5" else [3])


def test_a_completion_ends_with_eos_once_unless_truncated():
    tokenizer = tiny_tokenizer()
    text = tokenizer("A cheap place.", add_special_tokens=False)["input_ids"]
    assert tokenize_completion(tokenizer, "A cheap place.") == [*text, EOS]
    assert tokenize_completion(tokenizer, "A cheap place.</s>") == [*text, EOS]
    assert tokenize_completion(tokenizer, "A cheap place.", len(text) + 1) == [*text, EOS]
    assert tokenize_completion(tokenizer, "A cheap place.", len(text)) == text
    assert tokenize_completion(tokenizer, "A cheap place.", 2) == text[:2]


def test_completions_of_nothing_are_refused():
    with pytest.raises(DataError, match="has no tokens"):
        tokenize_completion(tiny_tokenizer(), "")
    with pytest.raises(DataError, match="truncates to nothing"):
        tokenize_completion(tiny_tokenizer(), "A", 0)


def test_chat_messages_go_through_the_template():
    tokenizer = chat_tokenizer()
    prompt = [{"role": "user", "content": "Hi"}]
    answer = [{"role": "assistant", "content": "A cheap place."}]
    prompt_ids, completion_ids = tokenize_example(tokenizer, adapter_of("gpt2"), prompt, answer)
    assert tokenizer.decode(prompt_ids) == "<user>Hi</s>\n<assistant>"
    assert tokenizer.decode(completion_ids) == "A cheap place.</s>"
    assert tokenize_completion(tokenizer, "A cheap place.", prompt=prompt) == completion_ids


def test_chat_messages_without_a_template_or_a_prompt_are_refused():
    prompt = [{"role": "user", "content": "Hi"}]
    with pytest.raises(DataError, match="no chat template"):
        tokenize_prompt(tiny_tokenizer(), adapter_of("gpt2"), prompt)
    with pytest.raises(DataError, match="prompt must be one too"):
        tokenize_example(chat_tokenizer(), adapter_of("gpt2"), "Hi", prompt)
    odd = chat_tokenizer()
    odd.chat_template = "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}"
    with pytest.raises(DataError, match="cannot be told apart"):
        tokenize_example(odd, adapter_of("gpt2"), prompt, prompt)
