"""The step: what is run and how often, which draws it uses, and the gradient of every objective."""

from __future__ import annotations

import math
from contextlib import contextmanager

import pytest
import torch

from fdistill.loss import compiled, sequence_loss
from fdistill.objectives import OBJECTIVES, Objective, Term
from fdistill.trainer import step as step_module
from fdistill.trainer.dropout import dropout_disabled
from tests.trainer_kit import (
    FAMILIES,
    ROWS,
    close,
    config,
    gradients,
    independent_loss,
    run_steps,
    tiny_model,
    with_draws,
)


@contextmanager
def counted(model):
    """Count the encoder's runs, and the rows and widths of every run of the decoder (or of the whole, without encoder)."""
    found = {"encoder": 0, "passes": []}
    decoder = model.get_decoder() if model.config.is_encoder_decoder else model.base_model

    def at_decoder(module, args, kwargs):
        ids = kwargs["input_ids"] if kwargs.get("input_ids") is not None else args[0]
        found["passes"].append((torch.is_grad_enabled(), tuple(ids.shape)))

    hooks = [decoder.register_forward_pre_hook(at_decoder, with_kwargs=True)]
    if model.config.is_encoder_decoder:

        def at_encoder(module, args, kwargs):
            found["encoder"] += 1

        hooks.append(model.get_encoder().register_forward_pre_hook(at_encoder, with_kwargs=True))
    yield found
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("family", ["t5", "gpt2"])
def test_js_runs_one_encoder_pass_and_one_student_pass_and_one_teacher_pass(family, tmp_path):
    student, teacher = tiny_model(family, 1), tiny_model(family, 2)
    with counted(student) as ours, counted(teacher) as theirs:
        run_steps(student, teacher, config(tmp_path), with_draws(family)[:4], family)
    scored = [shape for grad, shape in ours["passes"] if grad]
    assert [shape[0] for shape in scored] == [8], "both halves in one batch"
    assert [shape[0] for _, shape in theirs["passes"]] == [8]
    if family == "t5":
        assert (ours["encoder"], theirs["encoder"]) == (1, 1)


@pytest.mark.parametrize("name", ["mle", "seqkd"])
def test_objectives_of_hard_labels_never_run_the_teacher(name, tmp_path):
    student, teacher = tiny_model("t5", 1), tiny_model("t5", 2)
    with counted(teacher) as theirs:
        run_steps(student, teacher, config(tmp_path, objective=name), with_draws("t5")[:4], "t5")
    assert theirs == {"encoder": 0, "passes": []}


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if name != "f_divergence"])
def test_every_objective_trains_by_its_own_loss(name, tmp_path):
    student, teacher = tiny_model("gpt2", 1), tiny_model("gpt2", 2)
    args = config(tmp_path, objective=name)
    trainer, record, before = run_steps(student, teacher, args, with_draws("gpt2")[:4], "gpt2")
    before.eval().zero_grad()
    loss = independent_loss(trainer, before, teacher)
    loss.backward()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(loss.item(), rel=1e-5)
    close(record.gradients[0], gradients(before))


@pytest.mark.parametrize("options", [{}, {"baseline": "leave_one_out"}])
def test_several_samples_and_the_full_gradient(options, tmp_path):
    student, teacher = tiny_model("t5", 1), tiny_model("t5", 2)
    args = config(tmp_path, objective="rkl", objective_options={"gradient": "full"}, num_student_samples=3, **options)
    trainer, record, before = run_steps(student, teacher, args, ROWS[:2], "t5")
    _, outputs = trainer.batches[0]
    assert len(outputs["student_tokens"]) == 6
    assert len({tuple(row.tolist()) for row in outputs["student_tokens"]}) == 6, "samples of a prompt differ"
    before.eval().zero_grad()
    groups = torch.arange(2).repeat_interleave(3)
    independent_loss(trainer, before, teacher, groups=groups, **options).backward()
    close(record.gradients[0], gradients(before))


def test_an_objective_of_three_sources_is_one_pass(tmp_path):
    own = Objective((Term("data", "nll", 0.2), Term("teacher", "kl", 0.3), Term("student", "reverse_kl", 0.5)))
    student, teacher = tiny_model("llama", 1), tiny_model("llama", 2)
    args = config(tmp_path, objective=own)
    with counted(student) as ours:
        trainer, record, before = run_steps(student, teacher, args, with_draws("llama")[:4], "llama")
    assert [shape[0] for grad, shape in ours["passes"] if grad] == [12]
    before.eval().zero_grad()
    independent_loss(trainer, before, teacher).backward()
    close(record.gradients[0], gradients(before))


@pytest.mark.parametrize("name", ["kl", "seqkd"])
def test_the_teacher_writes_what_nobody_attached(name, tmp_path):
    student, teacher = tiny_model("t5", 1), tiny_model("t5", 2)
    args = config(tmp_path, objective=name, num_beams=2)
    trainer, _, _ = run_steps(student, teacher, args, ROWS[:4], "t5")
    assert trainer.state.log_history[0]["length/teacher"] > 0
    assert math.isfinite(trainer.state.log_history[0]["loss"])


@pytest.mark.parametrize("samples", [1, 2])
def test_a_teacher_that_equals_the_student_still_writes_something_else(samples, tmp_path, monkeypatch):
    """Catches random numbers that the two share: their halves of js would then be the same sample twice."""
    written = {}
    real = step_module.sequence_loss

    def spy(objective, source, **kwargs):
        written[source] = kwargs["tokens"].tolist()
        return real(objective, source, **kwargs)

    monkeypatch.setattr(step_module, "sequence_loss", spy)
    args = config(tmp_path, num_student_samples=samples)
    run_steps(tiny_model("t5", 1), tiny_model("t5", 1), args, ROWS[:4], "t5")
    for example, row in enumerate(written["teacher"]):
        own = written["student"][example * samples : (example + 1) * samples]
        assert all(row[: len(sample)] != sample[: len(row)] for sample in own)


def test_a_schedule_moves_with_the_steps(tmp_path, monkeypatch):
    seen = []
    real = step_module.sequence_loss

    def spy(objective, source, **kwargs):
        seen.append(objective)
        return real(objective, source, **kwargs)

    monkeypatch.setattr(step_module, "sequence_loss", spy)
    args = config(tmp_path, objective_options={"teacher_weight": [0.2, 0.8]}, max_steps=4)
    run_steps(tiny_model("t5", 1), tiny_model("t5", 2), args, with_draws("t5")[:4], "t5")
    weights = [objective.terms[0].weight for objective in seen[::2]]
    assert weights == pytest.approx([0.2, 0.35, 0.5, 0.65])


@pytest.mark.parametrize("family", FAMILIES)
def test_dropout_is_off_inside_and_back_outside(family):
    model = tiny_model(family).train()
    ids = torch.tensor([[5, 6, 7, 8]])
    inputs = {"input_ids": ids, "decoder_input_ids": ids} if model.config.is_encoder_decoder else {"input_ids": ids}
    drops = family != "llama"  # Llama has no dropout

    def varies():
        return not torch.equal(model(**inputs).logits, model(**inputs).logits)

    assert varies() == drops
    with dropout_disabled(model):
        assert model.training and not varies()
        inside = model(**inputs).logits
    assert varies() == drops
    torch.testing.assert_close(model.eval()(**inputs).logits, inside)


def test_dropout_stays_on_where_asked(tmp_path):
    args = config(tmp_path, objective="mle", disable_dropout=False, max_steps=2, learning_rate=0.0)
    trainer, _, _ = run_steps(tiny_model("t5", 1), None, args, ROWS[:4], "t5")
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    assert losses[0] != losses[1]
    args = config(tmp_path, objective="mle", max_steps=2, learning_rate=0.0)
    trainer, _, _ = run_steps(tiny_model("t5", 1), None, args, ROWS[:4], "t5")
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_fresh_samples_differ_from_step_to_step(tmp_path):
    args = config(tmp_path, objective="rkl", max_steps=2, learning_rate=0.0)
    trainer, _, _ = run_steps(tiny_model("t5", 1), tiny_model("t5", 2), args, ROWS[:4], "t5")
    one, other = ({int(e): row.tolist() for e, row in zip(batch["example"], out["student_tokens"], strict=True)}
                  for batch, out in trainer.batches)  # fmt: skip
    assert one.keys() == other.keys() and all(one[example] != other[example] for example in one)


@pytest.mark.parametrize(
    ("setting", "elements", "expected"),
    [(True, 10**30, True), (False, 0, False), (None, 10**30, False), (None, 1, True)],
)
def test_the_loss_is_compiled_where_asked_for_or_worth_it(setting, elements, expected, tmp_path, monkeypatch):
    """A setting decides; without one, whether the run's logits are enough: here the least number of them is moved."""
    asked = []

    def spy(*args, **kwargs):
        asked.append(kwargs.pop("compiled"))
        return sequence_loss(*args, **kwargs)

    monkeypatch.setattr(step_module, "sequence_loss", spy)
    monkeypatch.setattr(compiled, "WORTH_COMPILING", elements)
    monkeypatch.setattr(compiled, "_has_compiler", lambda device: True)
    args = config(tmp_path, compile_loss=setting)
    run_steps(tiny_model("t5", 1), tiny_model("t5", 2), args, with_draws("t5")[:4], "t5")
    assert asked == [expected] * 2
