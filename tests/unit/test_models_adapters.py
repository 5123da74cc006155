"""Adapters: aligned logits of four families, the encoder run once, heads left unapplied, vocabularies cut."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from fdistill.errors import DataError
from fdistill.models import Encoded, Prompts, adapter_for, has_linear_head, special_tokens, unwrap
from fdistill.models.heads import FEW_ROWS, KNOWN_HEADS, linear_logits, next_token_logits
from tests.model_kit import DECODER_ONLY, FAMILIES, randomise, tiny_batch, tiny_model

EXACT = {"rtol": 1e-9, "atol": 1e-9}  # float64, other batch shapes


def naive_logits(model, family, prompt_ids, tokens):
    """Logits of every token by one call a token, on the unpadded prefix alone: what alignment means."""
    rows = []
    for t in range(len(tokens)):
        if family in DECODER_ONLY:
            output = model(input_ids=torch.tensor([prompt_ids + tokens[:t]]))
        else:
            start = model.config.decoder_start_token_id
            output = model(input_ids=torch.tensor([prompt_ids]), decoder_input_ids=torch.tensor([[start, *tokens[:t]]]))
        rows.append(output.logits[0, -1])
    return torch.stack(rows)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_at_t_predict_token_t(family):
    model = tiny_model(family)
    prompts, completions = tiny_batch(model, family)
    logits = adapter_for(model).logits(model, prompts, completions.tokens)
    assert logits.shape == (*completions.tokens.shape, model.config.vocab_size)
    for row in range(2):
        prompt = prompts.ids[row][prompts.mask[row]].tolist()
        last = int(completions.mask[row].nonzero()[-1]) + 1
        expected = naive_logits(model, family, prompt, completions.tokens[row, :last].tolist())
        torch.testing.assert_close(logits[row, :last], expected, **EXACT)


@pytest.mark.parametrize("family", DECODER_ONLY)
def test_dialogue_logits_are_not_off_by_one(family):
    """The published code compares positions [1:] under the mask of targets [1:], one step late."""
    model = tiny_model(family)
    prompts, completions = tiny_batch(model, family)
    ours = adapter_for(model).logits(model, prompts.select(torch.tensor([1])), completions.tokens[1:])[0]
    prompt = prompts.ids[1][prompts.mask[1]].tolist()
    tokens = completions.tokens[1][completions.mask[1]].tolist()
    naive = naive_logits(model, family, prompt, tokens)
    whole = model(input_ids=torch.tensor([prompt + tokens])).logits[0]
    late = whole[len(prompt) :]
    torch.testing.assert_close(ours[: len(tokens)], naive, **EXACT)
    torch.testing.assert_close(whole[len(prompt) - 1 : -1], naive, **EXACT)
    assert (late - naive).abs().max() > 0.1


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_and_junk_under_the_mask_change_nothing(family):
    model = tiny_model(family)
    adapter, pad = adapter_for(model), special_tokens(model).pad
    prompts, completions = tiny_batch(model, family)
    logits = adapter.logits(model, prompts, completions.tokens)
    junk = completions.tokens.clone()
    after_end = completions.mask.flip(1).cumsum(1).flip(1) == 0
    junk[after_end] = -100
    filler = torch.full((2, 3), pad)
    wider = [prompts.ids, filler] if family not in DECODER_ONLY else [filler, prompts.ids]
    masks = (
        [prompts.mask, filler.bool() & False] if family not in DECODER_ONLY else [filler.bool() & False, prompts.mask]
    )
    padded = Prompts(torch.cat(wider, 1), torch.cat(masks, 1))
    again = adapter.logits(model, padded, torch.cat([junk, torch.full((2, 2), -100)], 1))[:, : junk.shape[1]]
    torch.testing.assert_close(again[completions.mask], logits[completions.mask], **EXACT)


@pytest.mark.parametrize("family", FAMILIES)
def test_linear_logits_are_the_dense_ones(family):
    model = tiny_model(family)
    prompts, completions = tiny_batch(model, family)
    dense = adapter_for(model).logits(model, prompts, completions.tokens)
    linear = adapter_for(model).logits(model, prompts, completions.tokens, linear=True)
    assert has_linear_head(model) and linear.vocab_size == model.config.vocab_size
    torch.testing.assert_close(linear.dense(), dense, **EXACT)


def test_linear_logits_of_an_unscaled_t5():
    model = tiny_model("t5", tie_word_embeddings=False)  # version 1.1
    prompts, completions = tiny_batch(model, "t5")
    linear = adapter_for(model).logits(model, prompts, completions.tokens, linear=True)
    assert linear.scale == 1.0 and tiny_model("t5").config.scale_decoder_outputs is not False
    torch.testing.assert_close(linear.dense(), adapter_for(model).logits(model, prompts, completions.tokens), **EXACT)


SMALL = {
    "vocab_size": 40,
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 32,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "num_heads": 2,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "hidden_size": 16,
    "head_dim": 8,
    "intermediate_size": 32,
    "ffn_dim": 32,
    "word_embed_proj_dim": 16,
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 2,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "attention_types": [[["global", "local"], 1]],
    "max_position_embeddings": 64,
    "final_logit_softcapping": 3.0,
    "logits_scaling": 4.0,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 0,
    "forced_eos_token_id": 2,
}


@pytest.mark.parametrize("model_type", sorted(KNOWN_HEADS))
def test_every_known_head_is_described_rightly(model_type):
    default = AutoConfig.for_model(model_type)
    config = AutoConfig.for_model(
        model_type, **{name: value for name, value in SMALL.items() if hasattr(default, name)}
    )
    kind = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    torch.manual_seed(0)
    model = kind.from_config(config).double().eval()
    randomise(model, 0.3)
    adapter = adapter_for(model)
    prompts = adapter.pad_prompts([[5, 6], [8, 9]], 0)
    tokens = torch.tensor([[5, 3, 9, 2], [4, 2, 0, 0]])
    dense = adapter.logits(model, prompts, tokens, vocab_size=37)
    linear = adapter.logits(model, prompts, tokens, vocab_size=37, linear=True)
    assert dense.shape == (2, 4, 37) and not isinstance(linear, torch.Tensor)
    torch.testing.assert_close(linear.dense(), dense, **EXACT)


def test_a_head_that_is_wrapped_gives_dense_logits():
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(tiny_model("llama"), peft.LoraConfig(target_modules=["lm_head"], r=2))
    prompts, completions = tiny_batch(unwrap(model), "llama")
    logits = adapter_for(model).logits(model, prompts, completions.tokens, linear=True)
    assert isinstance(logits, torch.Tensor)


def test_peft_models_are_taken_as_they_are():
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(tiny_model("llama"), peft.LoraConfig(target_modules=["q_proj"], r=2))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    prompts, completions = tiny_batch(unwrap(model), "llama")
    adapter = adapter_for(model)
    expected = adapter.logits(model, prompts, completions.tokens)
    torch.testing.assert_close(
        adapter.logits(model, prompts, completions.tokens, linear=True).dense(), expected, **EXACT
    )
    with model.disable_adapter():
        assert (adapter.logits(model, prompts, completions.tokens) - expected).abs().max() > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("linear", [False, True])
def test_the_vocabulary_is_cut_not_padded(family, linear):
    model = tiny_model(family, vocab_size=300)
    prompts, completions = tiny_batch(model, family)
    whole = adapter_for(model).logits(model, prompts, completions.tokens)
    cut = adapter_for(model).logits(model, prompts, completions.tokens, vocab_size=280, linear=linear)
    cut = cut.dense() if linear else cut
    assert whole.shape[-1] == 300
    torch.testing.assert_close(cut, whole[..., :280], **EXACT)


@pytest.mark.parametrize("family", ["t5", "bart"])
@pytest.mark.parametrize("linear", [False, True])
def test_the_encoder_need_not_run_again(family, linear, monkeypatch):
    model = tiny_model(family)
    adapter = adapter_for(model)
    prompts, completions = tiny_batch(model, family)
    expected = adapter.logits(model, prompts, completions.tokens)
    encoded = adapter.encode(model, prompts)
    model.get_encoder().register_forward_hook(lambda *_: pytest.fail("the encoder ran again"))
    logits = adapter.logits(model, None, completions.tokens, encoded=encoded, linear=linear)
    logits = logits.dense() if linear else logits
    torch.testing.assert_close(logits, expected, **EXACT)
    logits.sum().backward()
    assert model.get_encoder().get_input_embeddings().weight.grad is not None
    assert not encoded.detach().hidden.requires_grad


def test_encoded_rows_repeat_select_and_join():
    wide = Encoded(torch.randn(2, 3, 4), torch.ones(2, 3, dtype=torch.bool))
    narrow = Encoded(torch.randn(1, 2, 4), torch.ones(1, 2, dtype=torch.bool))
    assert torch.equal(wide.repeat_interleave(2).hidden[1], wide.hidden[0])
    assert torch.equal(wide.select(torch.tensor([1, 1])).hidden[0], wide.hidden[1])
    both = narrow.cat(wide)
    assert both.hidden.shape == (3, 3, 4) and both.mask.tolist()[0] == [True, True, False]
    assert torch.equal(both.hidden[1:], wide.hidden) and len(both) == 3


@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_states_of_every_layer_with_what_counts(family):
    model = tiny_model(family)
    adapter = adapter_for(model)
    prompts, completions = tiny_batch(model, family)
    result = adapter.hidden_states(model, prompts, completions)
    torch.testing.assert_close(result.logits, adapter.logits(model, prompts, completions.tokens), **EXACT)
    assert (
        set(result.states) == set(result.masks) == ({"decoder"} if family in DECODER_ONLY else {"encoder", "decoder"})
    )
    for stack, states in result.states.items():
        assert len(states) == (5 if stack == "encoder" or family in DECODER_ONLY else 4)
        assert all(state.shape[:2] == result.masks[stack].shape for state in states)
    if family in DECODER_ONLY:  # prompt, and every token that is read to predict another
        assert int(result.masks["decoder"].sum()) == int(prompts.mask.sum() + completions.mask.sum()) - 2
    else:
        assert torch.equal(result.masks["decoder"], completions.mask)


def test_prompts_are_padded_where_the_kind_needs_it():
    t5, gpt2 = adapter_for(tiny_model("t5")), adapter_for(tiny_model("gpt2"))
    assert t5.pad_prompts([[5], [6, 7]], 0).ids.tolist() == [[5, 0], [6, 7]]
    left = gpt2.pad_prompts([[5], [6, 7]], 0)
    assert left.ids.tolist() == [[0, 5], [6, 7]] and left.mask.tolist() == [[False, True], [True, True]]
    forced = t5.pad_completions([[5], [6, 7]], 0, forced=[9])
    assert forced.tokens.tolist() == [[9, 5, 0], [9, 6, 7]]
    assert forced.mask.tolist() == [[False, True, False], [False, True, True]]


def test_an_empty_prompt_and_a_missing_one_are_refused():
    model = tiny_model("gpt2")
    with pytest.raises(DataError, match="prompt 1 of the batch has no tokens"):
        adapter_for(model).pad_prompts([[5], []], 0)
    with pytest.raises(DataError, match="need the prompts"):
        adapter_for(model).logits(model, None, torch.tensor([[1]]))


@pytest.mark.parametrize("family", ["bart", "gpt2", "llama"])
def test_a_batch_past_the_last_position_is_refused(family):
    model = tiny_model(family)
    adapter = adapter_for(model)
    prompts = adapter.pad_prompts([[5] * 30], 0)
    with pytest.raises(DataError, match="64 positions"):
        adapter.logits(model, prompts, torch.ones(1, 70, dtype=torch.long))


def test_special_tokens_of_each_family():
    roles = {family: special_tokens(tiny_model(family)) for family in FAMILIES}
    assert all(role.eos == (1,) and role.pad == 0 for role in roles.values())
    assert (roles["t5"].start, roles["bart"].start, roles["gpt2"].start) == (0, 1, None)
    assert (roles["bart"].forced, roles["bart"].forced_last, roles["t5"].forced) == ((3,), 1, ())
    gpt2 = tiny_model("gpt2")
    gpt2.config.pad_token_id = gpt2.generation_config.pad_token_id = None
    gpt2.generation_config.eos_token_id = [1, 2]
    assert special_tokens(gpt2).pad == 1 and special_tokens(gpt2).eos == (1, 2)


@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_of_the_next_token_are_those_of_the_whole_head(family, softcap):
    """A few rows on a CPU are multiplied the other way round; scale, bias and cap must not get lost on the way."""
    model = tiny_model(family)
    model.config.final_logit_softcapping = softcap
    many = torch.randn(FEW_ROWS + 1, model.get_output_embeddings().in_features, dtype=torch.float64)
    expected = linear_logits(model, many).dense()
    torch.testing.assert_close(next_token_logits(model, many), expected, **EXACT)
    torch.testing.assert_close(next_token_logits(model, many[:3]), expected[:3], **EXACT)
    assert softcap is None or float(expected.abs().max()) < softcap


def test_a_head_that_somebody_wrapped_or_hooked_is_not_taken_for_linear():
    model = tiny_model("t5")
    assert has_linear_head(model)
    hook = model.lm_head.register_forward_hook(lambda module, inputs, output: output + 1)
    assert not has_linear_head(model)
    hook.remove()
    model.lm_head.forward = lambda hidden: torch.zeros(())
    assert not has_linear_head(model)
