"""What bad input gets: one clear line, before anything long starts."""

from __future__ import annotations

import logging

import pytest
import torch

from fdistill.errors import FDistillError, StoreError, TrainingError, VocabularyError
from fdistill.models import build_model, make_student, train_tokenizer
from fdistill.store import build_store
from fdistill.trainer import FDistillTrainer
from tests.trainer_kit import ROWS, SIZES, config, run_steps, tiny_model, tokenizer_for, with_draws


def trainer(tmp_path, student=None, teacher=None, rows=ROWS, family="t5", tokenizer=None, **kwargs):
    settings = {name: kwargs.pop(name) for name in list(kwargs) if name not in ("store", "eval_store", "eval_dataset")}
    return FDistillTrainer(
        tiny_model(family, 1) if student is None else student,
        teacher,
        config(tmp_path, **settings),
        rows,
        processing_class=tokenizer or tokenizer_for(family),
        **kwargs,
    )


def line(error, *args, **kwargs):
    with pytest.raises(error) as caught:
        trainer(*args, **kwargs)
    assert isinstance(caught.value, FDistillError)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def store_of(tmp_path, teacher, rows=ROWS, **options):
    prompts = [row["prompt"] for row in rows]
    return build_store(tmp_path / "store", teacher, tokenizer_for("t5"), prompts, max_completion_length=12, **options)


def test_no_teacher(tmp_path):
    assert "'js' scores the student's own completions by the teacher" in line(TrainingError, tmp_path)
    assert "'kd' scores reference completions by the teacher: pass teacher_model=." in line(
        TrainingError, tmp_path, objective="kd"
    )
    assert "train_dataset has none: pass teacher_model= to write them" in line(
        TrainingError, tmp_path, objective="seqkd"
    )
    assert "train_dataset holds the teacher's tokens alone" in line(
        TrainingError, tmp_path, rows=with_draws("t5"), objective="kl"
    )


def test_a_store_cannot_score_student_completions(tmp_path):
    store = store_of(tmp_path, tiny_model("t5", 2), top_k=4)
    assert "which no store of the teacher's samples can do" in line(TrainingError, tmp_path, teacher=store)


def test_a_store_without_top_k_cannot_stand_in_for_kl(tmp_path):
    store = store_of(tmp_path, tiny_model("t5", 2))
    assert "the store was made without top-k" in line(TrainingError, tmp_path, teacher=store, objective="kl")


def test_a_store_of_something_else(tmp_path):
    teacher = tiny_model("t5", 2)
    store = store_of(tmp_path, teacher, top_k=4)
    other_teacher = line(StoreError, tmp_path, teacher=tiny_model("t5", 3), objective="kl", store=store)
    assert "was made with another teacher" in other_teacher
    fewer = line(StoreError, tmp_path, rows=ROWS[:3], teacher=teacher, objective="kl", store=store)
    assert f"it has completions of {len(ROWS)} examples, and train_dataset has 3" in fewer
    changed = line(StoreError, tmp_path, rows=ROWS[::-1], teacher=teacher, objective="kl", store=store)
    assert "was made with another data" in changed
    no_beams = line(StoreError, tmp_path, objective="seqkd", store=store)
    assert "learns from beam output of the teacher, and the store holds sample only" in no_beams
    other_tokenizer = train_tokenizer(["entirely other words"], 290, "encoder-decoder")
    wrong = line(StoreError, tmp_path, objective="kl", store=store, tokenizer=other_tokenizer)
    assert "was made with another tokenizer" in wrong


def test_evaluation_data_needs_a_teacher_too(tmp_path):
    store = store_of(tmp_path, tiny_model("t5", 2), top_k=4)
    assert "eval_dataset has none: pass teacher_model= to write them" in line(
        TrainingError, tmp_path, objective="kl", store=store, eval_dataset=ROWS[:2]
    )


def test_vocabularies_that_differ(tmp_path):
    other = train_tokenizer(["some other words, not at all the same ones"] * 3, 280, "encoder-decoder")
    teacher = build_model({"model_type": "t5", **SIZES["t5"]}, other)
    teacher.save_pretrained(tmp_path / "teacher")
    other.save_pretrained(tmp_path / "teacher")
    assert "teacher and student do not share a vocabulary" in line(
        VocabularyError, tmp_path, teacher=str(tmp_path / "teacher")
    )
    large = build_model({"model_type": "t5", **SIZES["t5"], "vocab_size": 3000}, tokenizer_for("t5"))
    assert "their embedding tables have 3000 and 290 rows" in line(VocabularyError, tmp_path, teacher=large)
    small = build_model({"model_type": "t5", **SIZES["t5"]}, tokenizer_for("t5"))
    small.resize_token_embeddings(270)
    assert "the student's embedding table has 270 rows" in line(
        VocabularyError, tmp_path, student=small, teacher=tiny_model("t5", 2)
    )


def test_models_that_do_not_fit_each_other(tmp_path):
    model = tiny_model("t5", 1)
    assert "teacher and student are one object" in line(TrainingError, tmp_path, student=model, teacher=model)
    other_kind = tiny_model("gpt2", 1)
    assert "the student is encoder-decoder and the teacher decoder-only" in line(
        TrainingError, tmp_path, teacher=other_kind
    )
    plain = tiny_model("bart", 2)
    plain.generation_config.forced_bos_token_id = plain.config.forced_bos_token_id = None
    assert "decoding forces the first tokens (3,) of the student and () of the teacher" in line(
        VocabularyError, tmp_path, teacher=plain, family="bart"
    )


def test_a_teacher_smaller_than_its_student_is_warned_of(tmp_path, caplog):
    student = tiny_model("t5", 1)
    with caplog.at_level(logging.WARNING, "fdistill"):
        trainer(tmp_path, student, make_student(student, 1, 1))
    assert "are they swapped?" in caplog.text


def test_a_tokenizer_is_needed(tmp_path):
    with pytest.raises(TrainingError, match="there is no tokenizer"):
        FDistillTrainer(tiny_model("t5"), None, config(tmp_path, objective="mle"), ROWS)
    with pytest.raises(TrainingError, match="there is no student"):
        FDistillTrainer(None, None, config(tmp_path, objective="mle"), ROWS, processing_class=tokenizer_for("t5"))
    with pytest.raises(TrainingError, match="model_init_kwargs are for loading by name"):
        trainer(tmp_path, objective="mle", model_init_kwargs={"dtype": "float32"})


def test_settings_of_another_trainer(tmp_path):
    from transformers import TrainingArguments

    with pytest.raises(TrainingError, match="args must be a FDistillConfig, not a TrainingArguments"):
        FDistillTrainer(tiny_model("t5"), args=TrainingArguments(output_dir=str(tmp_path), report_to="none"))


@pytest.mark.parametrize(
    ("who", "value"), [("student", float("nan")), ("teacher", float("nan")), ("teacher", float("inf"))]
)
def test_logits_that_are_not_finite(tmp_path, who, value):
    models = {"student": tiny_model("gpt2", 1), "teacher": tiny_model("gpt2", 2)}
    models[who].transformer.ln_f.bias.data[0] = value
    args = config(tmp_path, objective="kl", logging_nan_inf_filter=False)
    with pytest.raises(TrainingError, match=f"the {who}'s logits are (nan|inf) on"):
        run_steps(models["student"], models["teacher"], args, with_draws("gpt2")[:4], "gpt2")


def test_a_loss_that_is_infinite(tmp_path):
    student, teacher = tiny_model("gpt2", 1), tiny_model("gpt2", 2)
    student.lm_head = torch.nn.Linear(16, 290)
    student.lm_head.bias.data[:] = 0
    student.lm_head.bias.data[5] = -torch.inf
    student.config.tie_word_embeddings = False
    with pytest.raises(TrainingError, match="the loss is inf although all logits are finite"):
        run_steps(student, teacher, config(tmp_path, objective="kl"), with_draws("gpt2")[:4], "gpt2")


def test_prompts_longer_than_the_model(tmp_path):
    rows = [{"prompt": "long " * 200, "completion": "short"}]
    with pytest.raises(FDistillError, match="does not fit GPT2LMHeadModel, which has 128 positions"):
        run_steps(tiny_model("gpt2"), None, config(tmp_path, objective="mle"), rows, "gpt2")


def test_prompt_learning_adapters_are_refused(tmp_path):
    peft = pytest.importorskip("peft")
    soft = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    with pytest.raises(TrainingError, match="prompt-learning adapters"):
        FDistillTrainer(
            tiny_model("gpt2"), None, config(tmp_path, objective="mle"), ROWS,
            processing_class=tokenizer_for("gpt2"), peft_config=soft,
        )  # fmt: skip


def test_the_check_before_training_stops_it(tmp_path, monkeypatch):
    from fdistill import checks
    from fdistill.errors import CheckError

    def fail(device, dtype):
        raise CheckError("this installation does not compute what it must")

    monkeypatch.setattr(checks, "quick_check", fail)
    with pytest.raises(CheckError):
        run_steps(tiny_model("t5"), None, config(tmp_path, objective="mle", verify=True), ROWS, "t5")
