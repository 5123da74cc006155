"""make_student: alternate layers copied, a consistent config, nothing shared, loadable by plain Transformers."""

import json

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from fdistill.errors import RecipeError
from fdistill.models import adapter_for, count_parameters, make_student
from fdistill.models.students import layer_stacks, pick_layers
from tests.model_kit import DECODER_ONLY, FAMILIES, randomise, tiny_batch, tiny_model


def student_of(family, teacher, encoder_layers, decoder_layers):
    return make_student(teacher, None if family in DECODER_ONLY else encoder_layers, decoder_layers)


def logits_of(model, family):
    prompts, completions = tiny_batch(model, family)
    return adapter_for(model).logits(model, prompts, completions.tokens)


@pytest.mark.parametrize(
    ("available", "wanted", "picked"),
    [
        (12, 12, list(range(12))),
        (12, 6, [0, 2, 4, 7, 9, 11]),
        (12, 3, [0, 6, 11]),
        (12, 1, [0]),
        (6, 3, [0, 3, 5]),
        (4, 2, [0, 3]),
        (24, 4, [0, 8, 15, 23]),
        (1, 1, [0]),
        (5, None, [0, 1, 2, 3, 4]),
    ],
)
def test_layers_are_spread_evenly_with_both_ends(available, wanted, picked):
    assert pick_layers(available, wanted) == picked


@pytest.mark.parametrize("available", range(1, 15))
def test_any_depth_gives_distinct_layers_in_order(available):
    for wanted in range(1, available + 1):
        picked = pick_layers(available, wanted)
        assert len(picked) == wanted and picked == sorted(set(picked)) and picked[0] == 0
        assert wanted == 1 or picked[-1] == available - 1


@pytest.mark.parametrize("family", FAMILIES)
def test_a_student_with_all_layers_is_the_teacher(family):
    teacher = tiny_model(family)
    torch.testing.assert_close(logits_of(make_student(teacher), family), logits_of(teacher, family), rtol=0, atol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_student_has_the_layers_that_its_config_records(family):
    teacher = tiny_model(family)
    student = student_of(family, teacher, 3, 2)
    expected = {"decoder": [0, 3]} if family in DECODER_ONLY else {"encoder": [0, 2, 3], "decoder": [0, 2]}
    assert student.config.fdistill_layers == expected
    for stack, (name, layers) in layer_stacks(student).items():
        originals = dict(teacher.named_modules())[name]
        for layer, index in zip(layers, expected[stack], strict=True):
            source = originals[index].state_dict()
            for key, value in layer.state_dict().items():
                assert torch.equal(value, source[key]), (stack, index, key)
    assert count_parameters(student) < count_parameters(teacher)
    assert torch.equal(student.get_output_embeddings().weight, teacher.get_output_embeddings().weight)
    assert student.dtype == teacher.dtype and student.generation_config.eos_token_id == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_teacher_and_student_share_no_memory(family):
    teacher = tiny_model(family)
    student = student_of(family, teacher, 2, 2)
    ours = {tensor.data_ptr() for tensor in student.state_dict().values()}
    assert not ours & {tensor.data_ptr() for tensor in teacher.state_dict().values()}
    before = logits_of(teacher, family)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1.0)
    assert torch.equal(logits_of(teacher, family), before)
    assert student.config is not teacher.config and student.generation_config is not teacher.generation_config


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_student_loads_with_plain_transformers(family, tmp_path):
    student = student_of(family, tiny_model(family), 2, 1)
    student.save_pretrained(tmp_path)
    kind = AutoModelForCausalLM if family in DECODER_ONLY else AutoModelForSeq2SeqLM
    loaded, report = kind.from_pretrained(tmp_path, dtype=torch.float64, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    torch.testing.assert_close(logits_of(loaded.eval(), family), logits_of(student, family), rtol=0, atol=0)
    assert json.loads((tmp_path / "config.json").read_text())["fdistill_layers"]["decoder"] == [0]
    assert not list(tmp_path.glob("*.bin"))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_student_of_a_student_keeps_tied_weights_tied(family):
    teacher = tiny_model(family)
    student = make_student(
        student_of(family, teacher, 3, 3), *([] if family in DECODER_ONLY else [2]), decoder_layers=2
    )
    tied = teacher.get_input_embeddings().weight is teacher.get_output_embeddings().weight
    assert (student.get_input_embeddings().weight is student.get_output_embeddings().weight) == tied


def test_t5_keeps_its_relative_positions():
    teacher = tiny_model("t5")
    student = make_student(teacher, 1, 1)
    for stack in ("encoder", "decoder"):
        bias = [
            getattr(model, stack).block[0].layer[0].SelfAttention.relative_attention_bias.weight
            for model in (teacher, student)
        ]
        assert torch.equal(*bias)


@pytest.mark.parametrize(
    ("model_type", "field", "before", "after"),
    [
        ("gemma2", "layer_types", ["sliding_attention", "full_attention"] * 2, ["sliding_attention", "full_attention"]),
        ("smollm3", "no_rope_layers", [1, 1, 1, 0], [1, 0]),
    ],
)
def test_lists_with_an_entry_a_layer_follow_the_layers(model_type, field, before, after, tmp_path):
    sizes = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
    }
    sizes = {name: size for name, size in sizes.items() if hasattr(AutoConfig.for_model(model_type), name)}
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = AutoConfig.for_model(model_type, vocab_size=40, num_hidden_layers=4, **sizes, **ids, **{field: before})
    teacher = AutoModelForCausalLM.from_config(config)
    randomise(teacher, 0.1)
    student = make_student(teacher, decoder_layers=2)
    assert getattr(student.config, field) == after and student.config.num_hidden_layers == 2
    assert len(getattr(teacher.config, field)) == 4
    student.save_pretrained(tmp_path)
    assert getattr(AutoConfig.from_pretrained(tmp_path), field) == after
    student(input_ids=torch.tensor([[5, 6]]))


@pytest.mark.parametrize("wanted", [0, -1, 5])
def test_a_depth_that_the_teacher_cannot_give_is_refused(wanted):
    with pytest.raises(RecipeError, match=f"decoder_layers is {wanted}, but the teacher has 4 layers"):
        make_student(tiny_model("gpt2"), decoder_layers=wanted)


def test_encoder_layers_of_a_model_without_encoder_are_refused():
    with pytest.raises(RecipeError, match="has no encoder"):
        make_student(tiny_model("llama"), encoder_layers=2, decoder_layers=2)


def test_a_teacher_with_adapters_has_to_be_merged_first():
    peft = pytest.importorskip("peft")
    teacher = peft.get_peft_model(tiny_model("llama"), peft.LoraConfig(target_modules=["q_proj"], r=2))
    with pytest.raises(RecipeError, match="Merge its adapters first"):
        make_student(teacher, decoder_layers=2)


def test_making_a_student_leaves_the_random_numbers_alone():
    teacher = tiny_model("t5")
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    make_student(teacher, 2, 1)
    assert torch.equal(torch.rand(2), expected)


def test_the_mode_is_the_teachers():
    assert not make_student(tiny_model("t5"), 1, 1).training
    assert make_student(tiny_model("t5").train(), 1, 1).training
