"""Every way of running a step against `sequence_loss` on the same completions, computed apart: loss and gradient."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fdistill.logits import LinearLogits
from fdistill.loss import sequence_loss
from fdistill.sampling import DrawKeys, sample
from fdistill.trainer.step import prompts_of
from tests.trainer_kit import (
    FAMILIES,
    FLOAT32_TOLERANCE,
    Record,
    RecordingTrainer,
    close,
    config,
    gradients,
    independent_loss,
    kept,
    run_steps,
    tiny_model,
    tokenizer_for,
    with_draws,
)

ROWS = 4
HERE = Path(__file__).parent


def reference(trainer, before, teacher, autocast=False, **options):
    """Loss and gradient of the recorded step, computed apart on the student as it was."""
    before.eval().zero_grad()
    context = torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext()
    with context:
        loss = independent_loss(trainer, before, teacher, **options)
    loss.backward()
    return float(loss.detach()), gradients(before)


def distance(one, other):
    """Euclidean distance of two gradients."""
    assert one.keys() == other.keys()
    return float(torch.stack([(one[name] - other[name]).norm() for name in one]).norm())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_in_float32_is_sequence_loss(family, tmp_path):
    student, teacher = tiny_model(family, 1), tiny_model(family, 2)
    trainer, record, before = run_steps(student, teacher, config(tmp_path), with_draws(family)[:ROWS], family)
    loss, wanted = reference(trainer, before, teacher)
    assert trainer.state.log_history[0]["loss"] == pytest.approx(loss, rel=1e-5)
    close(record.gradients[0], wanted)
    terms = sum(value for name, value in trainer.state.log_history[0].items() if name.startswith("loss/"))
    assert terms == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_head_left_to_the_loss_changes_nothing(family, bf16, tmp_path, monkeypatch):
    """Past the size limit logits are never written down; loss and gradient are those of written-down ones."""
    seen = []

    def spy(*args, **kwargs):
        seen.append((type(kwargs["student_logits"]), type(kwargs["teacher_logits"])))
        return sequence_loss(*args, **kwargs)

    monkeypatch.setattr("fdistill.trainer.step.sequence_loss", spy)
    found = []
    for limit in (0, 1 << 30):
        args = config(tmp_path, bf16=bf16)
        record = Record()
        trainer = RecordingTrainer(
            tiny_model(family, 1),
            tiny_model(family, 2),
            args,
            with_draws(family)[:ROWS],
            processing_class=tokenizer_for(family),
            callbacks=[record],
        )
        trainer.distillation = replace(trainer.distillation, max_logits=limit)
        trainer.train()
        found.append((trainer.state.log_history[0]["loss"], record.gradients[0]))
    assert seen == [(LinearLogits, LinearLogits)] * 2 + [(torch.Tensor, torch.Tensor)] * 2
    (loss, gradient), (written_loss, written_gradient) = found
    assert loss == pytest.approx(written_loss, rel=2**-8 if bf16 else 1e-5)
    close(gradient, written_gradient, 2**-6 if bf16 else FLOAT32_TOLERANCE)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_in_bfloat16_autocast_is_as_near_as_bfloat16_allows(family, tmp_path):
    student, teacher = tiny_model(family, 1), tiny_model(family, 2)
    args = config(tmp_path, bf16=True)
    trainer, record, before = run_steps(student, teacher, args, with_draws(family)[:ROWS], family)
    exact, exact_gradient = reference(trainer, copy.deepcopy(before), teacher)
    rough, rough_gradient = reference(trainer, before, teacher, autocast=True)
    # What autocast itself costs, batch by batch or example by example, differs by rounding alone.
    assert distance(record.gradients[0], exact_gradient) <= 2 * distance(rough_gradient, exact_gradient)
    assert abs(trainer.state.log_history[0]["loss"] - exact) <= 2 * abs(rough - exact) + 2**-8 * exact
    assert distance(record.gradients[0], exact_gradient) > 0, "autocast was not on"


@pytest.mark.parametrize("family", FAMILIES)
def test_student_samples_are_those_of_their_keys(family, tmp_path):
    student, teacher = tiny_model(family, 1), tiny_model(family, 2)
    trainer, _, before = run_steps(student, teacher, config(tmp_path), with_draws(family)[:ROWS], family)
    (batch, outputs) = trainer.batches[0]
    for row in range(ROWS):
        example = batch["example"][row : row + 1]
        keys = DrawKeys(trainer.args.seed, example, torch.zeros_like(example), 0)
        alone = {key: batch[key][row : row + 1] for key in ("input_ids", "attention_mask")}
        drawn = sample(
            before,
            prompts_of(alone),
            keys,
            max_length=trainer.distillation.max_length,
            vocab_size=trainer.distillation.vocab_size,
        )
        together = kept(outputs["student_tokens"], outputs["student_mask"])[row]
        assert kept(drawn.tokens, drawn.mask)[0] == together


@pytest.mark.parametrize("reduction", ["sequence", "token"])
@pytest.mark.parametrize("family", ["t5", "gpt2"])
def test_accumulated_micro_batches_are_one_batch(family, reduction, tmp_path):
    teacher, rows = tiny_model(family, 2), with_draws(family)[:ROWS]
    whole = run_steps(tiny_model(family, 1), teacher, config(tmp_path, reduction=reduction), rows, family)
    args = config(tmp_path, reduction=reduction, per_device_train_batch_size=1, gradient_accumulation_steps=ROWS)
    parts = run_steps(tiny_model(family, 1), teacher, args, rows, family)
    assert len(parts[0].batches) == ROWS
    close(parts[1].gradients[0], whole[1].gradients[0])
    one, other = whole[0].state.log_history[0], parts[0].state.log_history[0]
    for name in one:
        if name.split("/")[0] in ("loss", "entropy", "length"):
            assert other[name] == pytest.approx(one[name], rel=1e-5), name
    _, wanted = reference(whole[0], whole[2], teacher)
    close(whole[1].gradients[0], wanted)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_checkpointing_changes_nothing(family, tmp_path):
    student, teacher = tiny_model(family, 1), tiny_model(family, 2)
    args = config(tmp_path, gradient_checkpointing=True)
    trainer, record, before = run_steps(student, teacher, args, with_draws(family)[:ROWS], family)
    assert trainer.model.is_gradient_checkpointing
    if hasattr(before, "gradient_checkpointing_disable"):
        before.gradient_checkpointing_disable()
    _, wanted = reference(trainer, before, teacher)
    close(record.gradients[0], wanted)


@pytest.mark.parametrize("family", ["t5", "llama"])
def test_lora_trains_the_adapters_alone(family, tmp_path):
    peft = pytest.importorskip("peft")
    # In float64, T5's softmax apart: adapters of random weights are too ill-conditioned for float32 to say much.
    student, teacher = tiny_model(family, 1).double(), tiny_model(family, 2).double()
    modules = ["q", "v"] if family == "t5" else ["q_proj", "v_proj"]
    adapters = peft.LoraConfig(r=2, target_modules=modules, init_lora_weights=False, lora_dropout=0.3)
    trainer, record, before = run_steps(
        student, teacher, config(tmp_path), with_draws(family)[:ROWS], family, peft_config=adapters
    )
    before.eval().zero_grad()
    loss = independent_loss(trainer, before.get_base_model(), teacher)
    loss.backward()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(float(loss.detach()), rel=1e-5)
    assert record.gradients[0] and all("lora" in name for name in record.gradients[0])
    close(record.gradients[0], gradients(before), tolerance=1e-6)


def test_two_processes_are_one_batch(tmp_path):
    family, reductions = "t5", ("sequence", "token")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([".", "reference"])}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*command, str(HERE / "two_processes.py"), family, str(tmp_path), *reductions],
        cwd=HERE.parents[1],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for reduction in reductions:
        found = torch.load(tmp_path / f"{reduction}.pt", weights_only=True)
        teacher = tiny_model(family, 2)
        args = config(tmp_path, reduction=reduction)
        trainer, record, before = run_steps(tiny_model(family, 1), teacher, args, with_draws(family)[:ROWS], family)
        close(found["gradients"], record.gradients[0])
        for name, value in found["logs"].items():
            assert value == pytest.approx(trainer.state.log_history[0][name], rel=1e-5), name
        _, wanted = reference(trainer, before, teacher)
        close(record.gradients[0], wanted)
        assert found["eval_loss"] == pytest.approx(trainer.evaluate(trainer.train_dataset)["eval_loss"], rel=1e-5)
