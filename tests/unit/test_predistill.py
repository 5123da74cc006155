"""Pre-distillation: its three terms against their formulas, which layers are matched, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy, kl_div, layer_norm

from fdistill.errors import DataError, TrainingError
from fdistill.models import build_model, make_student
from fdistill.predistill import PredistillConfig, PredistillTrainer, matched_layers, predistill, state_error
from tests.trainer_kit import FAMILIES, ROWS, SIZES, Record, close, gradients, tiny_model, tokenizer_for

LAYERS = {"t5": ("num_layers", "num_decoder_layers"), "bart": ("encoder_layers", "decoder_layers")}


def deep_teacher(family, depth=4):
    """A teacher of `depth` layers in every stack."""
    names = LAYERS.get(family, ("n_layer",) if family == "gpt2" else ("num_hidden_layers",))
    fields = {**SIZES[family], **dict.fromkeys(names, depth)}
    model = build_model({"model_type": family, **fields}, tokenizer_for(family), seed=2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(2.0 if family == "t5" else 8.0)
    return model


def shallow(teacher, layers=2):
    encoder = {"encoder_layers": layers} if teacher.config.is_encoder_decoder else {}
    return make_student(teacher, **encoder, decoder_layers=layers)


def config(folder, **options):
    defaults = {
        "max_steps": 1,
        "per_device_train_batch_size": 4,
        "max_completion_length": 12,
        "max_grad_norm": 0.0,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
    }
    return PredistillConfig(output_dir=str(folder), **{**defaults, **options})


def run(student, teacher, args, family, rows=ROWS[:4], **kwargs):
    record = Record()
    kwargs = {"processing_class": tokenizer_for(family), "callbacks": [record], **kwargs}
    return predistill(student, teacher, args, rows, **kwargs), record


def outputs_of(model, prompt, completion, grad):
    """Logits of a completion and the hidden states that count, one example without padding."""
    ids, tokens = torch.tensor([list(prompt)]), torch.tensor([list(completion)])
    with torch.set_grad_enabled(grad):
        if model.config.is_encoder_decoder:
            read = torch.cat([torch.tensor([[model.config.decoder_start_token_id]]), tokens[:, :-1]], 1)
            out = model(input_ids=ids, decoder_input_ids=read, output_hidden_states=True)
            return out.logits[0], {"encoder": out.encoder_hidden_states, "decoder": out.decoder_hidden_states}
        out = model(input_ids=torch.cat([ids, tokens[:, :-1]], 1), output_hidden_states=True)
        return out.logits[0, len(prompt) - 1 :], {"decoder": out.hidden_states}


def formula(trainer, student, teacher, heat, alphas):
    """The loss as the paper writes it, example by example with torch's own functions."""
    forced, sums, counts = len(trainer.form.forced), {}, {}

    def add(name, value, count):
        sums[name], counts[name] = sums.get(name, 0) + value, counts.get(name, 0) + count

    data = trainer.train_dataset
    for prompt, completion in zip(data.prompts, data.completions, strict=True):
        whole = [*trainer.form.forced, *completion]
        ours, our_states = outputs_of(student, prompt, whole, True)
        theirs, their_states = outputs_of(teacher, prompt, whole, False)
        ours, theirs, tokens = ours[forced:], theirs[forced:], torch.tensor(whole[forced:])
        soft = kl_div((ours / heat).log_softmax(-1), (theirs / heat).softmax(-1), reduction="sum")
        add("ce", heat**2 * soft, len(tokens))
        add("mlm", cross_entropy(ours, tokens, reduction="sum"), len(tokens))
        for stack, pairs in trainer.matches.items():
            skipped = forced if stack == "decoder" else 0
            for i, j in pairs:
                one, other = our_states[stack][i][0, skipped:], their_states[stack][j][0, skipped:]
                if trainer.normalize:
                    one, other = (layer_norm(x, x.shape[-1:]) for x in (one, other))
                add(f"hid {stack} {i}", (one - other).square().mean(-1).sum(), len(one))
    weights = {"ce": alphas[0], "mlm": alphas[1]}
    return sum(weights.get(name, alphas[2]) * total / counts[name] for name, total in sums.items())


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_is_the_papers(family, normalize, tmp_path):
    teacher = deep_teacher(family).eval()
    student = shallow(teacher)
    before = shallow(teacher).eval()
    args = config(tmp_path, alpha_ce=0.7, alpha_mlm=0.4, alpha_hid=1.5, temperature=3.0, normalize_hidden=normalize)
    trainer, record = run(student, teacher, args, family)
    loss = formula(trainer, before, teacher, 3.0, (0.7, 0.4, 1.5))
    loss.backward()
    line = trainer.state.log_history[0]
    assert line["loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert sum(x for name, x in line.items() if name.startswith("loss/")) == pytest.approx(line["loss"], rel=1e-5)
    close(record.gradients[0], gradients(before))


@pytest.mark.parametrize(("reduction", "alpha_hid"), [("token", 1.0), ("sequence", 1.0), ("token", 0.0)])
def test_accumulation_and_evaluation_are_one_batch(reduction, alpha_hid, tmp_path):
    teacher = deep_teacher("bart")
    options = {"reduction": reduction, "alpha_hid": alpha_hid}
    whole, record = run(shallow(teacher), teacher, config(tmp_path, **options), "bart")
    small = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4}
    parts, others = run(shallow(teacher), teacher, config(tmp_path, **options, **small), "bart")
    close(others.gradients[0], record.gradients[0])
    assert parts.state.log_history[0]["loss"] == pytest.approx(whole.state.log_history[0]["loss"], rel=1e-5)
    still = config(tmp_path, **options, learning_rate=0.0, per_device_eval_batch_size=3)
    trainer, _ = run(shallow(teacher), teacher, still, "bart", eval_dataset=ROWS[:4])
    assert trainer.evaluate()["eval_loss"] == pytest.approx(trainer.state.log_history[0]["loss"], rel=1e-5)


def test_layers_are_matched_to_what_the_next_copied_layer_reads():
    teacher = deep_teacher("t5")
    assert matched_layers(shallow(teacher, 4), teacher)["decoder"] == [(1, 1), (2, 2), (3, 3), (4, 4)]
    student = make_student(teacher, encoder_layers=2, decoder_layers=1)
    assert student.config.fdistill_layers == {"encoder": [0, 3], "decoder": [0]}
    assert matched_layers(student, teacher) == {"encoder": [(1, 3), (2, 4)], "decoder": [(1, 4)]}


def test_a_student_of_no_known_origin_spreads_its_layers_evenly():
    assert matched_layers(tiny_model("gpt2"), deep_teacher("gpt2")) == {"decoder": [(1, 2), (2, 4)]}


def test_equal_models_have_no_error_and_padding_counts_nothing():
    states, mask = torch.randn(2, 3, 5), torch.tensor([[True, True, False], [True, False, False]])
    assert state_error(states, states, mask, normalize=True).abs().max() == 0
    junk = states.clone()
    junk[~mask] = torch.nan
    assert state_error(junk, states + 1, mask, normalize=False).tolist() == pytest.approx([2.0, 1.0])


def test_defaults_follow_the_kind_of_model(tmp_path):
    found = {}
    for family in ("t5", "gpt2"):
        trainer = PredistillTrainer(
            tiny_model(family, 1), tiny_model(family, 2), config(tmp_path), ROWS, processing_class=tokenizer_for(family)
        )
        found[family] = trainer.alpha_hid, trainer.normalize, trainer.args.alpha_ce, trainer.args.alpha_mlm
    assert found == {"t5": (3.0, False, 0.8, 0.2), "gpt2": (0.1, True, 0.8, 0.2)}


def test_it_warms_a_student_up(tmp_path):
    teacher = deep_teacher("t5")
    args = config(tmp_path, max_steps=40, learning_rate=5e-3)
    trainer, _ = run(shallow(teacher, 1), teacher, args, "t5")
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    assert losses[-1] < 0.8 * losses[0]
    trainer.save_model(str(tmp_path / "student"))
    assert "# Pre-distilled student" in (tmp_path / "student" / "README.md").read_text()


def test_embeddings_can_be_left_alone(tmp_path):
    teacher = deep_teacher("t5")
    student = shallow(teacher)
    table = student.get_input_embeddings().weight
    before = table.detach().clone()
    run(student, teacher, config(tmp_path, freeze_embeddings=True, learning_rate=0.1), "t5")
    assert torch.equal(table, before) and table.requires_grad


def narrow_and_wide():
    """A student of width 16 and a teacher of width 32."""
    wide = build_model(
        {"model_type": "gpt2", **SIZES["gpt2"], "n_embd": 32, "n_layer": 4}, tokenizer_for("gpt2"), seed=2
    )
    return tiny_model("gpt2"), wide


def test_states_of_another_width_are_compared_through_a_learned_map(tmp_path):
    student, wide = narrow_and_wide()
    untouched = set(student.state_dict())
    args = config(tmp_path, max_steps=30, learning_rate=1e-2, alpha_ce=0.0, alpha_mlm=0.0, alpha_hid=1.0)
    trainer, _ = run(student, wide, args, "gpt2")
    map_ = trainer.projections["decoder"].weight
    start = PredistillTrainer(student, wide, args, ROWS, processing_class=tokenizer_for("gpt2")).projections["decoder"]
    assert map_.shape == (32, 16) and not torch.equal(map_, start.weight)
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    assert losses[-1] < 0.7 * losses[0]
    trainer.save_model(str(tmp_path / "student"))
    assert set(student.state_dict()) == untouched
    assert not (tmp_path / "student" / "fdistill_projections.safetensors").exists()
    assert "fdistill_projections" not in load_file(tmp_path / "student" / "model.safetensors")


def test_a_resumed_training_finds_its_map_again(tmp_path):
    options = {"learning_rate": 1e-2, "max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    student, wide = narrow_and_wide()
    whole, _ = run(student, wide, config(tmp_path / "a", **options), "gpt2")
    again, _ = narrow_and_wide()
    trainer = PredistillTrainer(
        again, wide, config(tmp_path / "b", **options), ROWS[:4], processing_class=tokenizer_for("gpt2")
    )
    trainer.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-2"))
    assert torch.equal(trainer.projections["decoder"].weight, whole.projections["decoder"].weight)
    for name, tensor in student.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_a_student_deeper_than_its_teacher_spreads_the_teachers_layers(tmp_path):
    assert matched_layers(deep_teacher("gpt2"), tiny_model("gpt2")) == {"decoder": [(2, 1), (4, 2)]}
    assert matched_layers(deep_teacher("bart", 3), tiny_model("bart"))["encoder"] == [(1, 1), (3, 2)]
    trainer, _ = run(deep_teacher("gpt2"), tiny_model("gpt2"), config(tmp_path), "gpt2")
    assert trainer.state.log_history[0]["loss/hidden_decoder"] > 0


def test_adafactor_trains_a_t5(tmp_path):
    teacher = deep_teacher("t5")
    args = config(tmp_path, max_steps=30, learning_rate=1e-2, optim="adafactor")
    trainer, _ = run(shallow(teacher, 1), teacher, args, "t5")
    assert type(trainer.optimizer.optimizer).__name__ == "Adafactor"
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    assert losses[-1] < 0.8 * losses[0]


def test_references_and_a_teacher_are_needed(tmp_path):
    with pytest.raises(DataError, match="train_dataset has no column 'completion'"):
        run(tiny_model("t5", 1), tiny_model("t5", 2), config(tmp_path), "t5", rows=[{"prompt": "a"}])
    with pytest.raises(TrainingError, match="there is no teacher"):
        run(tiny_model("t5", 1), None, config(tmp_path), "t5")


def test_bfloat16_and_checkpointing_run_too(tmp_path):
    teacher = deep_teacher("llama")
    exact, record = run(shallow(teacher), teacher, config(tmp_path), "llama")
    rough, _ = run(shallow(teacher), teacher, config(tmp_path, bf16=True), "llama")
    assert rough.state.log_history[0]["loss"] == pytest.approx(exact.state.log_history[0]["loss"], rel=0.05)
    _, others = run(shallow(teacher), teacher, config(tmp_path, gradient_checkpointing=True), "llama")
    close(others.gradients[0], record.gradients[0])
