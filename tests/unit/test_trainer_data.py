"""From rows of text to batches: every shape a dataset may have, and the lines people see where it has another."""

from __future__ import annotations

import logging

import pytest
import torch
from torch.utils.data import Dataset

from fdistill.errors import DataError
from fdistill.models import adapter_for, special_tokens
from fdistill.trainer import FDistillTrainer
from fdistill.trainer.data import Collator, TextFormat, TokenizedDataset, tokenize_dataset
from tests.trainer_kit import ROWS, config, tiny_model, tokenizer_for, with_draws


def form_of(family, max_completion_length=12, max_prompt_length=None):
    model = tiny_model(family)
    special = special_tokens(model)
    return TextFormat(
        tokenizer_for(family), adapter_for(model), special.pad, special.forced, max_prompt_length, max_completion_length
    )


def tokenized(rows, form, needs_completion=True):
    return tokenize_dataset(rows, form, name="train_dataset", needs_completion=needs_completion)


class Rows(Dataset):
    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


def test_lists_torch_datasets_and_hugging_face_datasets_are_the_same():
    form, rows = form_of("t5"), with_draws("t5")
    datasets = pytest.importorskip("datasets")
    made = [tokenized(source, form) for source in (rows, Rows(rows), datasets.Dataset.from_list(rows))]
    for dataset in made[1:]:
        assert [dataset[index] for index in range(8)] == [made[0][index] for index in range(8)]


def test_a_batch_holds_padded_prompts_and_completions():
    form = form_of("bart")
    dataset = tokenized(with_draws("bart"), form)
    batch = Collator(form)([dataset[index] for index in (3, 0)])
    assert batch["example"].tolist() == [3, 0]
    assert batch["input_ids"].shape == batch["attention_mask"].shape
    for source, rows in (("data", dataset.completions), ("teacher", [draws[0] for draws in dataset.draws])):
        tokens, mask = batch[f"{source}_tokens"], batch[f"{source}_mask"]
        assert not mask[:, 0].any() and (tokens[:, 0] == form.forced[0]).all()
        assert [row[m].tolist() for row, m in zip(tokens, mask, strict=True)] == [list(rows[3]), list(rows[0])]


def test_completions_are_truncated_to_the_limit_and_end_with_eos_otherwise():
    form, eos = form_of("t5", max_completion_length=5), tokenizer_for("t5").eos_token_id
    rows = [{"prompt": "a", "completion": "b"}, {"prompt": "a", "completion": "a long one indeed"}]
    short, long = tokenized(rows, form).completions
    assert short[-1] == eos
    assert len(long) == 5 and eos not in long


def test_several_teacher_completions_take_turns_by_epoch():
    dataset = tokenized(with_draws("t5", several=3), form_of("t5", max_completion_length=64))
    seen = []
    for epoch in range(4):
        dataset.set_epoch(epoch)
        seen.append(list(dataset[5]["teacher"]))
    assert seen[0] != seen[1] != seen[2] != seen[0]
    assert seen[3] == seen[0]


def test_loader_workers_that_outlive_an_epoch_see_it_move():
    dataset = tokenized(with_draws("t5", several=2), form_of("t5", max_completion_length=64))
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=8, num_workers=1, persistent_workers=True, collate_fn=Collator(form_of("t5"))
    )
    first = next(iter(loader))["teacher_tokens"]
    dataset.set_epoch(1)
    assert not torch.equal(first, next(iter(loader))["teacher_tokens"])


def test_text_completions_of_the_teacher_are_taken_with_a_warning(caplog):
    rows = [{"prompt": "a", "teacher_completion": "b c"}, {"prompt": "d", "teacher_completion": "e"}]
    with caplog.at_level(logging.WARNING, "fdistill"):
        dataset = tokenized(rows, form_of("t5"), needs_completion=False)
    assert "Text to ids is not a round trip" in caplog.text
    assert tokenizer_for("t5").decode(dataset[0]["teacher"], skip_special_tokens=True) == "b c"


def test_chat_messages_go_through_the_template():
    tokenizer = tokenizer_for("llama")
    tokenizer.chat_template = (
        "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% if m['role'] == 'assistant' %}</s>{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    try:
        rows = [
            {
                "prompt": [{"role": "user", "content": "hi"}],
                "completion": [{"role": "assistant", "content": "hello"}],
            }
        ]
        dataset = tokenized(rows, form_of("llama"))
    finally:
        tokenizer.chat_template = None
    assert tokenizer.decode(dataset.prompts[0]) == "<user>hi<assistant>"
    assert tokenizer.decode(dataset.completions[0]) == "hello</s>"


def refusal(rows, form=None, needs_completion=True):
    with pytest.raises(DataError) as caught:
        tokenized(rows, form or form_of("t5"), needs_completion)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_empty_dataset_is_refused():
    assert refusal([]) == "train_dataset is empty. Check the file, the split and any filter it went through."


def test_a_missing_column_is_named_with_those_there():
    line = refusal([{"prompt": "a", "target": "b"}])
    assert line.startswith("train_dataset has no column 'completion' (the objective learns from reference completions)")
    assert "it has: prompt, target" in line
    assert refusal([{"text": "a"}], needs_completion=False).startswith("train_dataset has no column 'prompt'")


def test_an_empty_completion_is_named_by_its_row():
    line = refusal([ROWS[0], {"prompt": "a", "completion": ""}])
    assert line.startswith("row 1 of train_dataset: a completion has no tokens")


def test_teacher_ids_must_be_ids_of_the_tokenizer():
    line = refusal([{**ROWS[0], "teacher_completion_ids": [5, 99999]}])
    assert line.startswith(
        "teacher_completion_ids in row 0 of train_dataset go from 5 to 99999, outside the tokenizer's 290"
    )
    assert refusal([{**ROWS[0], "teacher_completion_ids": []}]).startswith("row 0 of train_dataset has an empty list")


def test_what_is_no_dataset_is_refused():
    assert "has no length or index" in refusal(row for row in ROWS)
    assert "are str, not dictionaries" in refusal(["a", "b"])
    assert refusal([{"prompt": 3, "completion": "b"}]).startswith(
        "row 0 of train_dataset: prompt and completion must be"
    )


def test_a_tokenised_dataset_passes_as_it_is():
    dataset = tokenized(ROWS, form_of("t5"))
    assert tokenized(dataset, form_of("t5")) is dataset
    assert isinstance(dataset, TokenizedDataset)


def padding_of(strategy, folder):
    """Padded positions of one epoch's prompts and completions, and the examples it showed."""
    lengths = [2 + 7 * index % 31 for index in range(48)]
    rows = [
        {"prompt": "a" * length, "completion": "b" * (length // 2), "teacher_completion_ids": [5] * (length // 2)}
        for length in lengths
    ]
    args = config(
        folder,
        objective="kd",
        train_sampling_strategy=strategy,
        per_device_train_batch_size=2,
        max_completion_length=40,
    )
    trainer = FDistillTrainer(
        tiny_model("t5", 1), tiny_model("t5", 2), args, rows, processing_class=tokenizer_for("t5")
    )
    batches = list(trainer.get_train_dataloader())
    wasted = sum(int((~batch["attention_mask"]).sum() + (~batch["data_mask"]).sum()) for batch in batches)
    return wasted, sorted(example for batch in batches for example in batch["example"].tolist())


def test_batches_of_similar_lengths_hold_less_padding(tmp_path):
    """Grouping that looked at something else than lengths would waste as much as random batches, or lose examples."""
    random, shown = padding_of("random", tmp_path)
    grouped, shown_grouped = padding_of("group_by_length", tmp_path)
    assert shown == shown_grouped == list(range(48))
    assert grouped < random / 2
