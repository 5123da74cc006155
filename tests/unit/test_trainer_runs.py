"""Whole runs: saving, resuming, evaluating, logging, stores in place of teachers."""

from __future__ import annotations

import json
import logging
import math
import subprocess
import sys
from pathlib import Path

import pytest
import sacrebleu
import torch

from fdistill.errors import TrainingError
from fdistill.models import make_student
from fdistill.sampling import beam_search
from fdistill.store import build_store
from fdistill.trainer import FDistillTrainer
from tests.trainer_kit import FAMILIES, KINDS, ROWS, close, config, run_steps, tiny_model, tokenizer_for, with_draws

READ_BACK = """
import sys
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer, pipeline
from transformers.pipelines import PIPELINE_REGISTRY

def read(folder, kind):
    auto = AutoModelForSeq2SeqLM if kind == "encoder-decoder" else AutoModelForCausalLM
    model, tokenizer = auto.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    ids = model.generate(**tokenizer("name: place", return_tensors="pt"), max_new_tokens=5)
    assert ids.shape[0] == 1 and ids.shape[1] > 1
    assert model.generation_config.eos_token_id is not None and model.config.use_cache
    task = "text2text-generation" if kind == "encoder-decoder" else "text-generation"
    if task in PIPELINE_REGISTRY.get_supported_tasks():  # Transformers 5 has no pipeline for encoder-decoders
        written = pipeline(task, model=folder)("name: place", max_new_tokens=5)
        assert isinstance(written[0]["generated_text"], str)
    print(float(sum(p.double().abs().sum() for p in model.parameters())))

for folder, kind in zip(sys.argv[1::2], sys.argv[2::2]):
    read(folder, kind)
assert "fdistill" not in sys.modules
"""


def test_saved_students_load_in_another_process_without_this_library(tmp_path):
    words, totals = [], []
    for family in FAMILIES:
        args = config(tmp_path / "run")
        trainer, _, _ = run_steps(tiny_model(family, 1), tiny_model(family, 2), args, with_draws(family)[:4], family)
        folder = tmp_path / family
        trainer.save_model(str(folder))
        names = {path.name for path in folder.iterdir()}
        assert {"model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "README.md"} <= names
        assert not [name for name in names if name.endswith((".bin", ".pt", ".pth", ".pkl"))]
        assert "| objective | js |" in (folder / "README.md").read_text()
        words += [str(folder), KINDS[family]]
        totals.append(float(sum(p.double().abs().sum() for p in trainer.model.parameters())))
    done = subprocess.run([sys.executable, "-c", READ_BACK, *words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert [float(line) for line in done.stdout.split()] == pytest.approx(totals, rel=1e-6)


def test_the_student_is_as_it_was_but_for_its_weights(tmp_path):
    student = tiny_model("t5", 1)
    rates = {name: module.p for name, module in student.named_modules() if isinstance(module, torch.nn.Dropout)}
    trainer, _, _ = run_steps(student, tiny_model("t5", 2), config(tmp_path), with_draws("t5")[:4], "t5")
    assert trainer.model is student and student.config.use_cache
    assert rates == {name: m.p for name, m in student.named_modules() if isinstance(m, torch.nn.Dropout)}
    assert max(rates.values()) > 0
    ids = tokenizer_for("t5")("name: place", return_tensors="pt")
    assert student.generate(**ids, max_new_tokens=3).shape[0] == 1


@pytest.mark.parametrize("name", ["js", "rkl"])
def test_a_resumed_run_gives_the_numbers_of_an_uninterrupted_one(name, tmp_path):
    def trainer_in(folder, **options):
        args = config(
            folder,
            objective=name,
            max_steps=6,
            per_device_train_batch_size=2,
            gradient_accumulation_steps=2,
            save_strategy="steps",
            save_steps=3,
            learning_rate=1e-2,
            **options,
        )
        return FDistillTrainer(
            tiny_model("t5", 1),
            tiny_model("t5", 2),
            args,
            with_draws("t5", several=2),
            processing_class=tokenizer_for("t5"),
        )

    whole = trainer_in(tmp_path / "run")
    whole.train()
    resumed = trainer_in(tmp_path / "run")
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-3"))
    for (key, value), (other, found) in zip(
        whole.model.state_dict().items(), resumed.model.state_dict().items(), strict=True
    ):
        assert key == other and torch.equal(value, found), key
    timed = ("tokens_per_second", "train_runtime", "train_samples_per_second", "train_steps_per_second", "train_loss")
    lines = [
        [{key: x for key, x in line.items() if key not in timed} for line in run.state.log_history if "loss" in line]
        for run in (whole, resumed)
    ]
    assert lines[0] == lines[1] and len(lines[0]) == 6
    names = {path.name for path in (tmp_path / "run" / "checkpoint-6").iterdir()}
    assert not [name for name in names if name.endswith(".bin")]


def test_two_runs_of_one_seed_are_equal_and_of_another_not(tmp_path):
    def weights(seed):
        args = config(tmp_path, objective="rkl", seed=seed, learning_rate=1e-2)
        trainer, _, _ = run_steps(tiny_model("t5", 1), tiny_model("t5", 2), args, ROWS[:4], "t5")
        return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


@pytest.mark.parametrize("reduction", ["sequence", "token"])
def test_the_evaluation_loss_depends_neither_on_batches_nor_on_when(reduction, tmp_path):
    losses = []
    for size in (1, 3, 8):
        args = config(tmp_path, reduction=reduction, per_device_eval_batch_size=size, learning_rate=0.0)
        trainer, _, _ = run_steps(tiny_model("t5", 1), tiny_model("t5", 2), args, with_draws("t5"), "t5")
        losses += [trainer.evaluate(trainer.train_dataset)["eval_loss"] for _ in range(2)]
    assert losses[0] == losses[1]
    assert losses == pytest.approx([losses[0]] * 6, rel=1e-6)


def test_the_best_checkpoint_by_evaluation_loss_is_loaded_at_the_end(tmp_path):
    args = config(
        tmp_path,
        max_steps=6,
        eval_strategy="steps",
        eval_steps=2,
        save_strategy="steps",
        save_steps=2,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        learning_rate=0.05,
    )
    evaluation = {"eval_dataset": with_draws("t5")[4:]}
    trainer, _, _ = run_steps(tiny_model("t5", 1), tiny_model("t5", 2), args, with_draws("t5")[:4], "t5", **evaluation)
    losses = {line["step"]: line["eval_loss"] for line in trainer.state.log_history if "eval_loss" in line}
    assert set(losses) == {2, 4, 6}
    assert trainer.evaluate()["eval_loss"] == pytest.approx(min(losses.values()), rel=1e-6)


@pytest.mark.parametrize(("metric", "best"), [("chrf", max), ("eval_ter", min)])
@pytest.mark.parametrize("family", ["t5", "gpt2"])
def test_the_best_checkpoint_by_a_text_metric_is_loaded_at_the_end(family, metric, best, tmp_path):
    args = config(
        tmp_path,
        max_steps=6,
        eval_strategy="steps",
        eval_steps=2,
        save_strategy="steps",
        save_steps=2,
        load_best_model_at_end=True,
        metric_for_best_model=metric,
        eval_num_beams=2,
        learning_rate=0.05,
        per_device_eval_batch_size=3,
    )
    rows = [{**row, "references": [row["completion"], "Place"]} for row in with_draws(family)[4:]]
    student, teacher = tiny_model(family, 1), tiny_model(family, 2)
    trainer, _, _ = run_steps(student, teacher, args, with_draws(family)[:4], family, eval_dataset=rows)
    key = f"eval_{metric.removeprefix('eval_')}"
    scores = {line["step"]: line[key] for line in trainer.state.log_history if key in line}
    assert set(scores) == {2, 4, 6}
    assert trainer.state.best_metric == best(scores.values())
    outputs = [written_by(trainer.model, tokenizer_for(family), row["prompt"], 12) for row in rows]
    judge = {"chrf": sacrebleu.CHRF, "ter": sacrebleu.TER}[metric.removeprefix("eval_")]()
    score = judge.corpus_score(outputs, [[row["references"][i] for row in rows] for i in range(2)]).score
    assert trainer.evaluate()[key] == pytest.approx(score) == pytest.approx(best(scores.values()))


def written_by(model, tokenizer, prompt, length):
    """The output of two beams for one prompt, by Transformers alone."""
    ids = torch.tensor([tokenizer(prompt)["input_ids"]])
    written = model.generate(ids, num_beams=2, max_new_tokens=length, do_sample=False)[0]
    skip = 1 if model.config.is_encoder_decoder else ids.shape[1]
    return tokenizer.decode(written[skip:], skip_special_tokens=True, clean_up_tokenization_spaces=False).strip()


def test_a_text_metric_needs_texts(tmp_path):
    rows = [{k: v for k, v in row.items() if k != "completion"} for row in with_draws("t5")]
    with pytest.raises(TrainingError, match="eval_dataset has neither 'references' nor 'completion'"):
        run_steps(
            tiny_model("t5", 1),
            tiny_model("t5", 2),
            config(tmp_path, metric_for_best_model="bleu"),
            rows,
            "t5",
            eval_dataset=rows,
        )


def test_several_evaluation_sets_have_names(tmp_path):
    rows = with_draws("t5")
    evaluation = {"eval_dataset": {"one": rows[:2], "two": rows[2:5]}}
    trainer, _, _ = run_steps(tiny_model("t5", 1), tiny_model("t5", 2), config(tmp_path), rows[:4], "t5", **evaluation)
    assert {"eval_one_loss", "eval_two_loss"} <= trainer.evaluate().keys()


def test_log_lines_hold_terms_lengths_entropy_and_speed(tmp_path, caplog):
    args = config(tmp_path, max_steps=4, logging_steps=2, log_completions=2)
    with caplog.at_level(logging.INFO, "fdistill"):
        trainer, _, _ = run_steps(tiny_model("gpt2", 1), tiny_model("gpt2", 2), args, with_draws("gpt2")[:4], "gpt2")
    lines = [line for line in trainer.state.log_history if "loss" in line]
    assert len(lines) == 2
    for line in lines:
        terms = line["loss/teacher_kl_to_middle"] + line["loss/student_reverse_kl_to_middle"]
        assert terms == pytest.approx(line["loss"], rel=1e-5)
        assert 0 < line["length/student"] <= 12 and 0 < line["entropy/student"] < math.log(290)
        assert line["tokens_per_second"] > 0
    assert len([record for record in caplog.records if " -> " in record.getMessage()]) == 4


def test_tensorboard_gets_them_too(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    args = config(tmp_path, report_to="tensorboard")
    run_steps(tiny_model("t5", 1), tiny_model("t5", 2), args, with_draws("t5")[:4], "t5")
    folders = {path.parent for path in tmp_path.rglob("events.out.tfevents*")}
    assert len(folders) == 1
    events = EventAccumulator(str(folders.pop()))
    events.Reload()
    assert {"train/loss/teacher_kl_to_middle", "train/length/student"} <= set(events.Tags()["scalars"])


# ---- stores


def stored(folder, teacher, family="t5", **options):
    prompts = [row["prompt"] for row in ROWS]
    return build_store(folder, teacher, tokenizer_for(family), prompts, max_completion_length=12, **options)


@pytest.mark.parametrize("family", ["t5", "bart", "gpt2"])
def test_kl_from_a_store_of_the_whole_vocabulary_is_kl_with_the_teacher(family, tmp_path):
    teacher = tiny_model(family, 2)
    whole = stored(tmp_path / "whole", teacher, family, top_k=290)
    plain = stored(tmp_path / "plain", teacher, family)
    args = {"objective": "kl", "max_steps": 3, "learning_rate": 1e-2}
    alone, _, _ = run_steps(tiny_model(family, 1), whole, config(tmp_path / "a", **args), ROWS, family)
    assert alone.teacher is None and alone.distillation.teacher is None
    both, _, _ = run_steps(tiny_model(family, 1), teacher, config(tmp_path / "b", **args), ROWS, family, store=plain)
    assert both.teacher is not None
    one, other = ([line["loss"] for line in run.state.log_history if "loss" in line] for run in (alone, both))
    # A store keeps log-probabilities in 16 bits where the vocabulary is large; see its own tests for what that costs.
    assert one == pytest.approx(other, rel=2e-3)


def test_a_small_top_k_never_exceeds_the_whole(tmp_path):
    teacher = tiny_model("t5", 2)
    losses = []
    for k in (4, 64, 290):
        store = stored(tmp_path / f"k{k}", teacher, top_k=k)
        run, _, _ = run_steps(tiny_model("t5", 1), store, config(tmp_path, objective="kl"), ROWS[:8], "t5")
        losses.append(run.state.log_history[0]["loss"])
    assert 0 < losses[0] <= losses[1] * (1 + 1e-3) and losses[1] <= losses[2] * (1 + 1e-3)


def test_js_scores_by_the_store_what_the_teacher_wrote_and_by_the_teacher_the_rest(tmp_path):
    teacher = tiny_model("t5", 2)
    store = stored(tmp_path / "store", teacher, top_k=290)
    rows = []
    hook = teacher.get_decoder().register_forward_pre_hook(
        lambda module, args, kwargs: rows.append(kwargs["input_ids"].shape[0]), with_kwargs=True
    )
    args = config(tmp_path, per_device_train_batch_size=8)
    run, _, _ = run_steps(tiny_model("t5", 1), teacher, args, ROWS, "t5", store=store)
    hook.remove()
    assert rows == [8], "student completions alone"
    without, _, _ = run_steps(tiny_model("t5", 1), teacher, args, [
        {**row, "teacher_completion_ids": store.get(index).tokens} for index, row in enumerate(ROWS)
    ], "t5")  # fmt: skip
    assert run.state.log_history[0]["loss"] == pytest.approx(without.state.log_history[0]["loss"], rel=2e-3)


def test_seqkd_learns_from_the_stores_beams(tmp_path):
    teacher = tiny_model("t5", 2)
    store = stored(tmp_path / "store", teacher, beams=3, draws=0)
    run, _, _ = run_steps(tiny_model("t5", 1), store, config(tmp_path, objective="seqkd"), ROWS, "t5")
    batch, _ = run.batches[0]
    for example, tokens, mask in zip(batch["example"], batch["teacher_tokens"], batch["teacher_mask"], strict=True):
        assert tokens[mask].tolist() == store.get(int(example), 0, "beam").tokens


def test_online_beams_are_those_of_beam_search(tmp_path):
    teacher = tiny_model("t5", 2)
    args = config(tmp_path, objective="seqkd", num_beams=3)
    run, _, _ = run_steps(tiny_model("t5", 1), teacher, args, ROWS[:4], "t5")
    batch, _ = run.batches[0]
    from fdistill.trainer.step import prompts_of

    beams = beam_search(teacher, prompts_of(batch), num_beams=3, max_length=run.distillation.max_length, vocab_size=290)
    assert run.state.log_history[0]["length/teacher"] == pytest.approx(float(beams.mask.sum() / 4))


def test_a_teacher_that_is_never_run_is_not_loaded(tmp_path):
    store = stored(tmp_path / "store", tiny_model("t5", 2), top_k=8)
    args = config(tmp_path, objective="kl")
    run, _, _ = run_steps(tiny_model("t5", 1), "no/such/teacher", args, ROWS, "t5", store=store)
    assert run.teacher is None


def test_models_by_folder_and_settings_by_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    teacher = tiny_model("t5", 2)
    for name, model in (("teacher", teacher), ("student", make_student(teacher, 1, 1))):
        model.save_pretrained(name)
        tokenizer_for("t5").save_pretrained(name)
    trainer = FDistillTrainer("student", "teacher", train_dataset=with_draws("t5"))
    assert trainer.args.objective == "js" and trainer.processing_class.eos_token_id == 1
    assert Path(trainer.args.output_dir).name == "trainer_output"
    assert json.loads((Path("student") / "config.json").read_text())["num_layers"] == 1


def test_training_needs_neither_datasets_nor_pydantic(tmp_path):
    code = """
import sys
for name in ("datasets", "pydantic", "typer", "matplotlib"):
    sys.modules[name] = None
from tests.trainer_kit import *
from fdistill.predistill import PredistillTrainer
run_steps(tiny_model("gpt2", 1), tiny_model("gpt2", 2), config(sys.argv[1]), with_draws("gpt2")[:4], "gpt2")
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


def test_an_uneven_last_step_counts_what_it_has(tmp_path):
    _, record, _ = run_steps(
        tiny_model("t5", 1), tiny_model("t5", 2), config(tmp_path, objective="kl"), with_draws("t5")[:3], "t5"
    )
    args = config(tmp_path, objective="kl", per_device_train_batch_size=2, gradient_accumulation_steps=4)
    parts, others, _ = run_steps(tiny_model("t5", 1), tiny_model("t5", 2), args, with_draws("t5")[:3], "t5")
    assert len(parts.batches) == 2
    close(others.gradients[0], record.gradients[0])
