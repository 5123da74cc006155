"""Models from disk (safetensors only) and from configurations."""

import json
import sys

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.trainer_utils import validate_quantization_for_training

from fdistill.errors import FDistillError, RecipeError, VocabularyError
from fdistill.models import build_model, load_model, load_tokenizer, make_student, model_kind, train_tokenizer
from fdistill.models.text import SPECIAL
from fdistill.pipeline.lengths import TokenCounter
from fdistill.recipe import load_recipe
from fdistill.tasks import Example
from tests.model_kit import CONFIGS, DECODER_ONLY, FAMILIES, TEXTS, tiny_model, tokenizer_of


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_comes_back_from_disk_as_it_was(family, tmp_path):
    model = tiny_model(family, torch.float32)
    model.save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path))
    assert type(loaded) is type(model) and loaded.dtype == torch.float32
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    assert loaded.generation_config.eos_token_id == 1
    assert load_model(tmp_path, dtype="bfloat16").dtype == torch.bfloat16
    kind = "encoder-decoder" if family in DECODER_ONLY else "decoder-only"
    with pytest.raises(RecipeError, match=f"but kind is '{kind}'"):
        load_model(tmp_path, kind=kind)


def test_pickled_weights_are_not_opened(tmp_path):
    model = tiny_model("gpt2", torch.float32)
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(FDistillError, match="safetensors"):
        load_model(tmp_path)


def test_nothing_to_load_is_said_in_one_line(tmp_path):
    for load in (load_model, load_tokenizer):
        with pytest.raises(FDistillError, match="cannot load") as error:
            load(tmp_path / "nothing")
        assert "\n" not in str(error.value)


def test_a_tokenizer_without_padding_pads_with_eos(tmp_path):
    tokenizer = train_tokenizer(TEXTS, 280)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path)
    assert load_tokenizer(tmp_path).pad_token_id == 1


def test_a_tokenizer_without_eos_is_refused(tmp_path):
    tokenizer = train_tokenizer(TEXTS, 280)
    tokenizer.eos_token = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(VocabularyError, match="no end-of-text token"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_new_model_takes_vocabulary_and_roles_from_the_tokenizer(family):
    model = build_model(CONFIGS[family], tokenizer_of(family))
    assert model.config.vocab_size == 280
    assert (model.config.pad_token_id, model.config.eos_token_id) == (0, 1)
    assert model.generation_config.pad_token_id == 0 and model.generation_config.eos_token_id == 1


def test_new_models_differ_by_seed_alone_and_leave_the_random_numbers_alone():
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    one, same, other = (build_model(CONFIGS["gpt2"], tokenizer_of("gpt2"), seed=seed) for seed in (5, 5, 6))
    assert torch.equal(torch.rand(1), expected)
    weights = [model.get_input_embeddings().weight for model in (one, same, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_a_tokenizer_that_pads_with_eos_does_not_freeze_the_eos_embedding():
    tokenizer = train_tokenizer(TEXTS, 280, "decoder-only")
    tokenizer.pad_token = tokenizer.eos_token
    model = build_model(CONFIGS["llama"], tokenizer)
    model(input_ids=torch.tensor([[1, 5]])).logits.sum().backward()
    assert model.get_input_embeddings().weight.grad[1].abs().sum() > 0


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "gtp2"}, "model_type is 'gtp2'.*Did you mean 'gpt2'"),
        ({"d_model": 16}, "model_type is None"),
        ({"model_type": "t5", "d_modle": 16}, "no field 'd_modle'.*Did you mean 'd_model'"),
        ({"model_type": "gpt2", "vocab_size": 100}, "vocab_size is 100, but the tokenizer has 280"),
    ],
)
def test_configurations_that_mean_nothing_are_refused(config, message):
    with pytest.raises(RecipeError, match=message):
        build_model(config, tokenizer_of("gpt2"))


def test_a_built_model_generates_with_plain_transformers_after_loading(tmp_path):
    build_model(CONFIGS["gpt2"], tokenizer_of("gpt2")).save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert model.generate(torch.tensor([[5, 6]]), max_new_tokens=3, do_sample=False).shape[1] <= 5


# --------------------------------------------------------------------------- GGUF


def gguf_name(name):
    """What llama.cpp calls a weight of Transformers' Llama."""
    parts = {
        "model.embed_tokens": "token_embd",
        "model.norm": "output_norm",
        "model.layers": "blk",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "post_attention_layernorm": "ffn_norm",
        "input_layernorm": "attn_norm",
        "lm_head": "output",
    }
    for ours, theirs in parts.items():
        name = name.replace(ours, theirs)
    return name


def write_gguf(file, model, tokenizer):
    """A model and its tokenizer as one GGUF file of float32 weights, rotary halves interleaved as llama.cpp has them."""
    gguf = pytest.importorskip("gguf")
    writer, config = gguf.GGUFWriter(str(file), "llama"), model.config
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    state = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    words = sorted(state["vocab"], key=state["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words)
    writer.add_token_types([gguf.TokenType.CONTROL if word in SPECIAL else gguf.TokenType.NORMAL for word in words])
    writer.add_token_merges([" ".join(pair) for pair in state["merges"]])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_bos_token_id(tokenizer.bos_token_id)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, tensor in model.state_dict().items():
        array = tensor.float().numpy()
        for kind, count in heads.items():
            if kind in name:
                halves = array.reshape(count, 2, array.shape[0] // count // 2, array.shape[1])
                array = halves.swapaxes(1, 2).reshape(array.shape)
        writer.add_tensor(gguf_name(name), np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_file_is_a_model_and_a_tokenizer(tmp_path):
    model, tokenizer = tiny_model("llama", torch.float32), tokenizer_of("llama")
    write_gguf(tmp_path / "tiny.gguf", model, tokenizer)
    loaded = load_model(str(tmp_path / "tiny.gguf"))
    assert loaded.dtype == torch.float32 and type(loaded) is type(model)
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    again = load_tokenizer(tmp_path / "tiny.gguf")
    assert again.eos_token_id == tokenizer.eos_token_id
    assert again(TEXTS[1], add_special_tokens=False)["input_ids"] == tokenizer(TEXTS[1])["input_ids"]


def test_a_model_from_gguf_is_a_model_like_any_other(tmp_path):
    """Catches weights that were read to full precision and still call themselves quantised: nothing could train them."""
    file = tmp_path / "tiny.gguf"
    write_gguf(file, tiny_model("llama", torch.float32), tokenizer_of("llama"))
    assert model_kind(file) == "decoder-only"
    with pytest.raises(RecipeError, match="but kind is 'encoder-decoder'"):
        load_model(file, kind="encoder-decoder")
    loaded = load_model(file)
    validate_quantization_for_training(loaded)
    make_student(loaded, decoder_layers=1).save_pretrained(tmp_path / "saved")
    assert "quantization_config" not in json.loads((tmp_path / "saved" / "config.json").read_text())
    assert load_model(tmp_path / "saved").config.num_hidden_layers == 1
    counter = TokenCounter(load_recipe("smollm2", [f"teacher.model={file}", f"output={tmp_path / 'run'}"]))
    assert counter([Example("one two", "three")])["prompt_tokens"][0] > 0


def test_gguf_without_its_package_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    for load in (load_model, load_tokenizer):
        with pytest.raises(FDistillError, match=r"pip install fdistill\[gguf\]"):
            load(tmp_path / "tiny.gguf")
