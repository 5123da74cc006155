"""Sampling: draws that depend on their keys alone, follow the model, and are scored as they are drawn; beam search."""

import itertools
import math

import pytest
import torch
from scipy import stats

from fdistill.errors import DataError, FDistillError, TrainingError
from fdistill.models import Completions, adapter_for, special_tokens
from fdistill.sampling import DrawKeys, beam_search, choose, row_bits, sample, score, truncated, uniforms
from tests.model_kit import DECODER_ONLY, FAMILIES, tiny_batch, tiny_model

EXACT = {"rtol": 1e-9, "atol": 1e-9}
MASK = (1 << 64) - 1


def rows_of(samples):
    return samples.token_lists()


def prompts_of(model, family, rows):
    """A batch of the two tiny prompts, repeated."""
    return tiny_batch(model, family)[0].select(torch.tensor(rows))


# ---------------------------------------------------------------------------------------------- random numbers


def mix(bits):
    """SplitMix64 in Python's own integers."""
    bits = (bits + 0x9E3779B97F4A7C15) & MASK
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & MASK
    return bits ^ (bits >> 31)


def test_mixing_is_splitmix64():
    """First outputs of SplitMix64 from state 1234567, as published with it."""
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    ours = [mix((1234567 + i * 0x9E3779B97F4A7C15) & MASK) for i in range(3)]
    assert ours == expected
    top_bits = [uniforms(torch.tensor([1234567]), i, torch.float64).item() * 2**53 for i in range(3)]
    assert top_bits == [value >> 11 for value in expected]


@pytest.mark.parametrize("seed", [0, 1, 2**63 + 5, -1])
def test_row_bits_match_integers_of_any_size(seed):
    keys = DrawKeys.of(seed, [0, 1, 2**40], [0, 3, 7], step=-1)
    for row in range(3):
        bits = seed & MASK
        for part in (int(keys.example[row]), int(keys.draw[row]), -1):
            bits = mix(bits) ^ (part & MASK)
        assert int(row_bits(keys)[row]) & MASK == mix(bits)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_uniform_numbers_are_uniform_and_unrelated(dtype):
    keys = DrawKeys(7, torch.arange(20000), torch.zeros(20000, dtype=torch.long), 3)
    columns = [uniforms(row_bits(keys), position, dtype) for position in (0, 1, 2)]
    for column in columns:
        assert column.min() >= 0 and column.max() < 1
        assert stats.kstest(column.double().numpy(), "uniform").pvalue > 1e-3
    for one, other in itertools.combinations(columns, 2):
        assert abs(torch.corrcoef(torch.stack([one, other]))[0, 1]) < 0.03
    assert abs(torch.corrcoef(torch.stack([columns[0][1:], columns[0][:-1]]))[0, 1]) < 0.03


@pytest.mark.parametrize("change", [{"seed": 8}, {"example": 1}, {"draw": 1}, {"step": 1}])
def test_every_part_of_a_key_changes_the_numbers(change):
    def bits(seed=0, example=0, draw=0, step=0):
        return int(row_bits(DrawKeys.of(seed, [example], [draw], step)))

    assert bits(**change) != bits()


# ------------------------------------------------------------------------------------------------ choosing


def test_choosing_over_a_grid_gives_each_token_its_share():
    log_probs = torch.randn(50, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).mul(2).log_softmax(-1)
    n = 100_000
    grid = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    chosen = choose(log_probs.expand(n, -1), grid)
    counts = torch.bincount(chosen, minlength=50)
    assert (counts.double() / n - log_probs.exp()).abs().max() <= 1 / n + 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_impossible_tokens_are_never_chosen(dtype):
    impossible = -torch.inf
    largest = 1 - 2.0 ** (-24 if dtype == torch.float32 else -53)
    log_probs = torch.tensor([impossible, 0.3, impossible, 0.7, impossible, impossible], dtype=dtype).log_softmax(-1)
    ends = torch.tensor([0.0, largest, 0.4, 0.5], dtype=dtype)
    assert choose(log_probs.expand(4, -1), ends).tolist() == [1, 3, 1, 3]
    generator = torch.Generator().manual_seed(1)
    many = torch.randn(500, 1000, generator=generator).to(dtype) * 5
    many[torch.rand(many.shape, generator=generator) < 0.9] = impossible
    many[:, 0] = many[:, -1] = impossible
    many[:, 500] = 0.0
    many = many.log_softmax(-1)
    for uniform in (0.0, largest, 0.5):
        chosen = choose(many, torch.full((500,), uniform, dtype=dtype))
        assert torch.isfinite(many.gather(-1, chosen[:, None])).all()


def test_truncation_keeps_the_likeliest():
    logits = torch.tensor([[3.0, 1.0, 2.0, 0.0]], dtype=torch.float64)
    assert torch.isfinite(truncated(logits, top_k=2)).tolist() == [[True, False, True, False]]
    probs = logits.softmax(-1)
    assert torch.isfinite(truncated(logits, top_p=float(probs[0, 0]) - 1e-6)).sum() == 1
    assert torch.isfinite(truncated(logits, top_p=float(probs[0, 0]) + 1e-6)).tolist() == [[True, False, True, False]]
    for options in ({"temperature": 0.5}, {"top_k": 3}, {"top_p": 0.9}, {"top_k": 9}, {}):
        torch.testing.assert_close(truncated(logits, **options).exp().sum(-1), torch.ones(1, dtype=torch.float64))
    torch.testing.assert_close(truncated(logits, temperature=2.0), (logits / 2).log_softmax(-1))


# --------------------------------------------------------------------------------------------- what is drawn


@pytest.mark.parametrize("family", FAMILIES)
def test_draws_do_not_depend_on_the_batch(family):
    """Alone, together, in another order, beside longer prompts, with the encoder run before: the same tokens."""
    model = tiny_model(family)
    who = [(0, 0), (1, 0), (0, 1), (1, 7), (0, 2)]

    def draw(rows, **options):
        keys = DrawKeys.of(3, [who[row][0] for row in rows], [who[row][1] for row in rows], step=2)
        return rows_of(
            sample(model, prompts_of(model, family, [who[row][0] for row in rows]), keys, max_length=9, **options)
        )

    together = draw([0, 1, 2, 3, 4])
    assert [draw([row])[0] for row in range(5)] == together
    assert draw([4, 2, 0]) == [together[row] for row in (4, 2, 0)]
    assert len({tuple(row) for row in together}) == 5
    if family not in DECODER_ONLY:
        prompts = prompts_of(model, family, [0, 1, 0, 1, 0])
        assert draw([0, 1, 2, 3, 4], encoded=adapter_for(model).encode(model, prompts).detach()) == together


@pytest.mark.parametrize("family", FAMILIES)
def test_sequences_are_drawn_as_often_as_the_model_says(family):
    """All sequences of up to three tokens over a vocabulary cut to four, 6000 draws, chi-square."""
    model = tiny_model(family, noise=0.15)
    forced, draws = len(special_tokens(model).forced), 6000
    last = int(special_tokens(model).forced_last is not None)
    outcomes = [ids for n in (1, 2, 3) for ids in itertools.product(range(4), repeat=n)]
    outcomes = [ids for ids in outcomes if 1 not in ids[:-1] and (ids[-1] == 1 or len(ids) == 3)]
    prompts = prompts_of(model, family, [0])
    completions = adapter_for(model).pad_completions(outcomes, 0, forced=special_tokens(model).forced)
    scores = score(model, prompts.select(torch.zeros(len(outcomes), dtype=torch.long)), completions, vocab_size=4)
    expected = scores.sum(-1).exp()
    assert math.isclose(float(expected.sum()), 1.0, rel_tol=1e-9)
    rows = torch.arange(draws)
    drawn = sample(
        model, prompts.select(rows * 0), DrawKeys(0, rows * 0, rows), max_length=3 + forced + last, vocab_size=4
    )
    counted = {ids: 0 for ids in outcomes}
    for ids in rows_of(drawn):
        counted[tuple(ids)] += 1
    observed = torch.tensor([counted[ids] for ids in outcomes], dtype=torch.float64)
    rare = expected * draws < 5
    observed = torch.cat([observed[~rare], observed[rare].sum()[None]])
    expected = torch.cat([expected[~rare], expected[rare].sum()[None]]) * draws
    keep = expected > 0
    assert len(observed) > 5
    assert stats.chisquare(observed[keep].numpy(), expected[keep].numpy(), sum_check=False).pvalue > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("options", [{}, {"temperature": 0.5, "top_k": 20, "top_p": 0.8}])
def test_log_probabilities_are_those_of_a_scoring_pass(family, options):
    model = tiny_model(family)
    prompts = prompts_of(model, family, [0, 1, 1])
    drawn = sample(model, prompts, DrawKeys.of(0, [0, 1, 1], [0, 0, 1]), max_length=10, vocab_size=270, **options)
    again = score(model, prompts, drawn.completions, vocab_size=270)
    torch.testing.assert_close(drawn.log_probs, again, **EXACT)
    assert (drawn.log_probs[~drawn.mask] == 0).all() and (drawn.log_probs[drawn.mask] < 0).all()


def test_truncated_draws_stay_among_the_likeliest():
    model = tiny_model("gpt2")
    prompts = prompts_of(model, "gpt2", [0] * 40)
    drawn = sample(model, prompts, DrawKeys.of(0, [0] * 40, list(range(40))), max_length=5, top_k=3)
    logits = adapter_for(model).logits(model, prompts, drawn.tokens)
    rank = (logits > logits.gather(-1, drawn.tokens[..., None])).sum(-1)
    assert int(rank[drawn.mask].max()) == 2
    cold = sample(model, prompts, DrawKeys.of(0, [0] * 40, list(range(40))), max_length=5, temperature=1e-4)
    assert {tuple(row) for row in rows_of(cold)} == {
        tuple(rows_of(beam_search(model, prompts, num_beams=1, max_length=5))[0])
    }


def ending_model(family, probability=0.3):
    """A model that ends after every token with about this probability."""
    model = tiny_model(family)
    head = model.get_output_embeddings()
    inner = head.forward

    def forward(hidden):
        logits = inner(hidden).clone()
        rest = torch.cat([logits[..., :1], logits[..., 2:]], -1).logsumexp(-1)
        logits[..., 1] = rest + math.log(probability / (1 - probability))
        return logits

    head.forward = forward
    if hasattr(model, "final_logits_bias"):
        model.final_logits_bias.zero_()
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_end_at_eos_and_others_go_on_alone(family):
    """Ended rows leave the batch; the others' draws are those that they get by themselves."""
    model = ending_model(family)
    n = 24
    prompts = prompts_of(model, family, [i % 2 for i in range(n)])
    keys = DrawKeys.of(0, [i % 2 for i in range(n)], list(range(n)))
    drawn = sample(model, prompts, keys, max_length=30)
    lengths = drawn.mask.sum(1)
    assert 1 < drawn.tokens.shape[1] <= 30 and len(set(lengths.tolist())) > 4
    forced = len(special_tokens(model).forced)
    for row, ids in enumerate(rows_of(drawn)):
        assert 1 not in ids[:-1]
        assert ids[-1] == 1 or drawn.tokens.shape[1] >= 29
        assert (drawn.tokens[row, forced + len(ids) :] == 0).all()
        alone = sample(model, prompts.select(torch.tensor([row])), DrawKeys.of(0, [row % 2], [row]), max_length=30)
        assert rows_of(alone)[0] == ids
    torch.testing.assert_close(drawn.log_probs, score(model, prompts, drawn.completions), **EXACT)


def test_an_eos_that_is_also_padding_counts_once():
    model = ending_model("gpt2", 0.5)
    model.config.pad_token_id = model.generation_config.pad_token_id = 1
    prompts = prompts_of(model, "gpt2", [0] * 16)
    for drawn in (
        sample(model, prompts, DrawKeys.of(0, [0] * 16, list(range(16))), max_length=12),
        beam_search(model, prompts, num_beams=2, max_length=12),
    ):
        assert ((drawn.tokens == 1) & drawn.mask).sum(1).max() == 1
        assert all(ids.count(1) <= 1 and (1 not in ids or ids[-1] == 1) for ids in rows_of(drawn))


def test_any_of_several_eos_ends_a_row():
    model = tiny_model("llama")
    model.generation_config.eos_token_id = [1, 2]
    drawn = sample(
        model,
        prompts_of(model, "llama", [0] * 40),
        DrawKeys.of(0, [0] * 40, list(range(40))),
        max_length=6,
        vocab_size=4,
    )
    assert {ids[-1] for ids in rows_of(drawn) if len(ids) < 6} == {1, 2}
    assert all(not {1, 2} & set(ids[:-1]) for ids in rows_of(drawn))


def test_forced_tokens_are_given_and_do_not_count():
    model = tiny_model("bart")  # forced first: 3, forced last: 1
    prompts = prompts_of(model, "bart", [0, 1])
    drawn = sample(model, prompts, DrawKeys.of(0, [0, 1]), max_length=6)
    assert drawn.tokens[:, 0].tolist() == [3, 3] and not drawn.mask[:, 0].any() and (drawn.log_probs[:, 0] == 0).all()
    assert drawn.mask.sum(1).max() <= 4
    only_forced = sample(model, prompts, DrawKeys.of(0, [0, 1]), max_length=1)
    assert not only_forced.mask.any() and rows_of(only_forced) == [[], []]


@pytest.mark.parametrize("family", FAMILIES)
def test_dropout_is_off_and_the_mode_comes_back(family):
    model = tiny_model(family)
    prompts, keys = prompts_of(model, family, [0, 1]), DrawKeys.of(0, [0, 1])
    expected = rows_of(sample(model, prompts, keys, max_length=8))
    model.train()
    frozen = model.get_output_embeddings().eval()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    assert rows_of(sample(model, prompts, keys, max_length=8)) == expected
    beam_search(model, prompts, num_beams=2, max_length=3)
    assert model.training and not frozen.training
    assert all(module.training for module in model.modules() if module is not frozen)


def test_no_gradient_and_no_global_random_numbers_are_used():
    model = tiny_model("t5")
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    drawn = sample(model, prompts_of(model, "t5", [0]), DrawKeys.of(0, [0]), max_length=4)
    assert torch.equal(torch.rand(1), expected) and not drawn.log_probs.requires_grad


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_half_precision_models_draw_possible_tokens(dtype):
    model = tiny_model("llama", dtype)
    drawn = sample(model, prompts_of(model, "llama", [0, 1]), DrawKeys.of(0, [0, 1]), max_length=8)
    assert drawn.log_probs.dtype == torch.float32 and torch.isfinite(drawn.log_probs).all()


def test_a_model_of_nan_is_named():
    model = tiny_model("gpt2")
    with torch.no_grad():
        model.get_output_embeddings().weight.fill_(torch.nan)
    with pytest.raises(TrainingError, match="NaN"):
        sample(model, prompts_of(model, "gpt2", [0]), DrawKeys.of(0, [0]), max_length=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 0}, "room for at least one token"),
        ({"max_length": 2, "temperature": 0.0}, "temperature is 0.0"),
        ({"max_length": 2, "top_p": 0.0}, "top_p is 0.0"),
        ({"max_length": 2, "top_k": -1}, "top_k is -1"),
    ],
)
def test_settings_that_mean_nothing_are_refused(options, message):
    model = tiny_model("gpt2")
    with pytest.raises(FDistillError, match=message):
        sample(model, prompts_of(model, "gpt2", [0]), DrawKeys.of(0, [0]), **options)


def test_one_key_a_row_and_room_for_every_token_are_needed():
    model = tiny_model("gpt2")
    with pytest.raises(FDistillError, match="2 prompts but 1 draw keys"):
        sample(model, prompts_of(model, "gpt2", [0, 1]), DrawKeys.of(0, [0]), max_length=3)
    with pytest.raises(DataError, match="64 positions"):
        sample(model, prompts_of(model, "gpt2", [0]), DrawKeys.of(0, [0]), max_length=64)


# --------------------------------------------------------------------------------------------------- beam search


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_decoding_takes_the_likeliest_token_every_time(family):
    model = tiny_model(family)
    prompts = prompts_of(model, family, [0, 1])
    drawn = beam_search(model, prompts, num_beams=1, max_length=8, scored=True)
    logits = adapter_for(model).logits(model, prompts, drawn.tokens)
    assert torch.equal(logits.argmax(-1)[drawn.mask], drawn.tokens[drawn.mask])
    torch.testing.assert_close(drawn.log_probs, score(model, prompts, drawn.completions), **EXACT)
    alone = beam_search(model, prompts.select(torch.tensor([1])), num_beams=1, max_length=8)
    assert rows_of(alone)[0] == rows_of(drawn)[1]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_beam_as_wide_as_everything_finds_the_likeliest_sequence(family):
    model = tiny_model(family, noise=0.15)
    special = special_tokens(model)
    forced, last = len(special.forced), int(special.forced_last is not None)
    outcomes = [ids for n in (1, 2, 3) for ids in itertools.product(range(4), repeat=n)]
    outcomes = [ids for ids in outcomes if 1 not in ids[:-1] and (ids[-1] == 1 or len(ids) == 3)]
    prompts = prompts_of(model, family, [0])
    completions = adapter_for(model).pad_completions(outcomes, 0, forced=special.forced)
    scores = score(model, prompts.select(torch.zeros(len(outcomes), dtype=torch.long)), completions, vocab_size=4).sum(
        -1
    )
    drawn = beam_search(
        model, prompts, num_beams=27, max_length=3 + forced + last, length_penalty=0.0, vocab_size=4, scored=True
    )
    assert tuple(rows_of(drawn)[0]) == outcomes[int(scores.argmax())]
    torch.testing.assert_close(drawn.log_probs.sum(), scores.max(), **EXACT)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_models_own_generation_settings_take_no_part(family):
    model = tiny_model(family)
    prompts = prompts_of(model, family, [0])
    plain = rows_of(beam_search(model, prompts, num_beams=2, max_length=8))
    own = model.generation_config
    own.no_repeat_ngram_size, own.min_length, own.repetition_penalty, own.num_beams = 1, 5, 3.0, 4
    assert rows_of(beam_search(model, prompts, num_beams=2, max_length=8)) == plain
    assert model.generation_config is own


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_a_decoder_deeper_than_its_encoder_decodes(family):
    layers = {"t5": {"num_layers": 1, "num_decoder_layers": 3}, "bart": {"encoder_layers": 1, "decoder_layers": 3}}
    model = tiny_model(family, **layers[family])
    prompts = prompts_of(model, family, [0, 1])
    drawn = beam_search(model, prompts, num_beams=2, max_length=6)
    assert family == "bart" or model.config.num_layers == 1
    uncached = model.generate(
        prompts.ids, attention_mask=prompts.mask.long(), num_beams=2, max_new_tokens=6, use_cache=False
    )[:, 1:]
    assert drawn.tokens.tolist() == uncached.tolist()


def test_beams_use_the_encoder_output_that_is_there():
    model = tiny_model("bart")
    prompts = prompts_of(model, "bart", [0, 1])
    encoded = adapter_for(model).encode(model, prompts).detach()
    kept = encoded.hidden.clone()
    expected = rows_of(beam_search(model, prompts, num_beams=3, max_length=6))
    model.get_encoder().register_forward_hook(lambda *_: pytest.fail("the encoder ran again"))
    assert rows_of(beam_search(model, prompts, num_beams=3, max_length=6, encoded=encoded, scored=True)) == expected
    assert torch.equal(encoded.hidden, kept)


def test_beams_mark_what_decoding_forced():
    model = tiny_model("bart")
    drawn = beam_search(model, prompts_of(model, "bart", [0, 1]), num_beams=2, max_length=5)
    assert not drawn.mask[:, 0].any() and drawn.tokens.shape[1] <= 5
    if drawn.tokens.shape[1] == 5:
        assert not drawn.mask[:, 4].any()
    with pytest.raises(FDistillError, match="num_beams is 0"):
        beam_search(model, prompts_of(model, "bart", [0]), num_beams=0, max_length=5)


def test_scores_ignore_what_does_not_count():
    model = tiny_model("t5")
    prompts, completions = tiny_batch(model, "t5")
    tokens = completions.tokens.masked_fill(~completions.mask, -100)
    again = score(model, prompts, Completions(tokens, completions.mask))
    torch.testing.assert_close(again, score(model, prompts, completions), **EXACT)
