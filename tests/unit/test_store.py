"""The teacher store: exact, resumable after a kill at any moment, and safe against damage, full disks and other teachers."""

import errno
import io
import json
import os
import pickle
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from fdistill.errors import DataError, StoreError
from fdistill.logits import TopKLogits
from fdistill.models import adapter_for, load_model, make_student, special_tokens, tokenize_prompt, train_tokenizer
from fdistill.sampling import OFFLINE_STEP, DrawKeys, beam_search, sample, score
from fdistill.store import TeacherStore, build_store, model_fingerprint, text_fingerprint, tokenizer_fingerprint
from fdistill.store import shards as shard_files
from fdistill.store.drawing import Drawing, top_k_of
from tests.model_kit import FAMILIES, TEXTS, tiny_model, tiny_tokenizer, tokenizer_of

PROMPTS = [TEXTS[0], TEXTS[3], "name[Aromi]", TEXTS[0], "area[city centre], food[Chinese], name[The Mill]"]
SETTINGS = {"draws": 2, "beams": 2, "max_completion_length": 7, "max_prompt_length": 20, "seed": 5, "batch_size": 3}


def build(path, family="t5", model=None, **changes):
    model = tiny_model(family, torch.float32) if model is None else model
    options = SETTINGS | {"shard_draws": 4} | changes
    return build_store(path, model, tokenizer_of(family), options.pop("prompts", PROMPTS), **options)


def contents(folder):
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.name != ".lock"}


def prompts_of(model, family, examples):
    adapter = adapter_for(model)
    ids = [tokenize_prompt(tokenizer_of(family), adapter, PROMPTS[example], 20) for example in examples]
    return adapter.pad_prompts(ids, special_tokens(model).pad)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A store that no test changes."""
    folder = tmp_path_factory.mktemp("store") / "teacher"
    build(folder, top_k=5)
    return folder


# -------------------------------------------------------------------------------------------------- what it holds


@pytest.mark.parametrize("family", FAMILIES)
def test_a_store_holds_what_sampling_and_beam_search_give(family, tmp_path):
    model = tiny_model(family)  # float64: batches do not matter
    store = build(tmp_path, family, model)
    assert (len(store), store.kinds, store.draws, store.examples, store.top_k) == (15, ("sample", "beam"), 2, 5, 0)
    for example in range(5):
        prompts = prompts_of(model, family, [example])
        for draw in range(2):
            keys = DrawKeys.of(5, [example], [draw], OFFLINE_STEP)
            drawn = sample(model, prompts, keys, max_length=7, vocab_size=280)
            stored = store.get(example, draw)
            assert stored.tokens == drawn.token_lists()[0] and stored.top_k is None
            np.testing.assert_allclose(stored.log_probs, drawn.log_probs[drawn.mask], rtol=1e-6)
        beam = store.get(example, kind="beam")
        expected = beam_search(model, prompts, num_beams=2, max_length=7, vocab_size=280, scored=True)
        assert beam.tokens == expected.token_lists()[0]
        np.testing.assert_allclose(beam.log_probs, expected.log_probs[expected.mask], rtol=1e-6)
    assert store.get(0, 0).tokens != store.get(3, 0).tokens  # equal prompts are examples of their own


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("k", [1, 6, 280])
def test_top_k_logits_are_the_teachers(family, k, tmp_path):
    model = tiny_model(family, torch.float32)
    store = build(tmp_path, family, model, top_k=k, beams=0)
    draws = [store.get(example, 1) for example in range(5)]
    forced = special_tokens(model).forced
    completions = adapter_for(model).pad_completions([draw.tokens for draw in draws], 0, forced=forced)
    top = store.batch_top_k(draws, completions.tokens.shape[1], forced=len(forced))
    prompts = prompts_of(model, family, range(5))
    log_probs = adapter_for(model).logits(model, prompts, completions.tokens).log_softmax(-1)
    mask = completions.mask
    exact = k == 280
    tolerance = {"atol": 1e-5, "rtol": 1e-5} if exact else {"atol": 2e-3, "rtol": 2e-3}
    assert isinstance(top, TopKLogits) and top.ids.shape == (*mask.shape, k)
    torch.testing.assert_close(top.log_probs[mask], log_probs.gather(-1, top.ids)[mask], **tolerance)
    torch.testing.assert_close(top.token_log_probs, score(model, prompts, completions), atol=1e-5, rtol=1e-5)
    tails = log_probs.scatter(-1, top.ids, -torch.inf).logsumexp(-1)
    torch.testing.assert_close(top.tail_log_prob[mask], tails[mask], **tolerance)
    total = torch.cat([top.log_probs, top.tail_log_prob[..., None]], -1).logsumexp(-1)
    assert total.abs().max() < 2e-6
    if exact:
        assert (top.tail_log_prob == -torch.inf).all()
        assert all(sorted(row) == list(range(280)) for row in top.ids[mask].tolist())


def test_the_tail_keeps_its_digits_where_one_minus_the_rest_has_none():
    log_probs = torch.tensor([[[40.0, 1.0, 0.0, -1.0]]]).log_softmax(-1)
    token, ids, top, tail = top_k_of(log_probs, torch.tensor([[2]]), 1)
    exact = torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64).logsumexp(-1) - 40.0
    assert float(1 - top.exp()) == 0.0
    assert abs(float(tail) - float(exact)) < 1e-5 and ids.tolist() == [[[0]]] and abs(float(token) + 40) < 1e-5


def test_a_sparse_store_is_at_most_300_bytes_a_token(tmp_path):
    store = build(tmp_path, top_k=64, beams=0, draws=6, max_completion_length=30, shard_draws=512)
    tokens = sum(len(store.get(example, draw)) for example in range(5) for draw in range(6))
    size = sum(file.stat().st_size for file in tmp_path.glob("*.arrow"))
    assert size / tokens <= 300


def test_draws_are_padded_like_completions(finished):
    store = TeacherStore.open(finished)
    draws = [store.get(0), store.get(1)]
    log_probs = store.batch_log_probs(draws, 12, forced=1)
    assert log_probs.shape == (2, 12) and (log_probs[:, 0] == 0).all()
    assert log_probs[0, 1 : 1 + len(draws[0])].tolist() == pytest.approx(draws[0].log_probs)
    assert store.batch_top_k(draws).ids.shape == (2, max(map(len, draws)), 5)
    with pytest.raises(StoreError, match="needs"):
        store.batch_log_probs(draws, 1)


def test_a_store_travels_to_other_processes(finished):
    store = TeacherStore.open(finished)
    expected = store.get(2, 1)
    copy = pickle.loads(pickle.dumps(store))
    assert copy.get(2, 1).tokens == expected.tokens and len(copy) == len(store)


def test_no_file_of_a_store_is_a_pickle(finished):
    kinds = {file.suffix for file in finished.iterdir() if file.name != ".lock"}
    assert kinds == {".arrow", ".json"}
    assert all(data[:6] == b"ARROW1" for name, data in contents(finished).items() if name.endswith(".arrow"))


def test_what_a_store_does_not_hold_is_named(finished, tmp_path):
    store = TeacherStore.open(finished)
    for arguments, message in (
        ((5, 0), "has no sample 0 of example 5"),
        ((0, 2), "has no sample 2 of example 0"),
        ((-1, 0), "no sample 0 of example -1"),
        ((0, 1, "beam"), "no beam 1 of example 0"),
        ((0, 0, "greedy"), "holds no 'greedy' draws"),
    ):
        with pytest.raises(StoreError, match=message):
            store.get(*arguments)
    plain = build(tmp_path, beams=0)
    with pytest.raises(StoreError, match="holds no 'beam' draws, only sample"):
        plain.get(0, 0, "beam")
    with pytest.raises(StoreError, match="keeps no top-k"):
        plain.batch_top_k([plain.get(0)])


def test_progress_counts_to_the_end(tmp_path):
    seen = []
    build(tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (15, 15) and seen == sorted(seen) and len(seen) > 5
    seen.clear()
    build(tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (15, 15)


def test_a_store_is_made_with_dropout_off_and_without_gradients(tmp_path, finished):
    model = tiny_model("t5", torch.float32).train()
    build(tmp_path / "train", model=model, top_k=5)
    assert model.training
    assert contents(tmp_path / "train") == contents(finished)


def test_nothing_to_sample_is_refused(tmp_path):
    with pytest.raises(DataError, match="no prompts"):
        build(tmp_path, prompts=[])
    with pytest.raises(StoreError, match="draws is 0 and beams is 0"):
        build(tmp_path, draws=0, beams=0)


# ------------------------------------------------------------------------------------------- stopping and resuming


class Stopped(Exception):
    pass


@pytest.mark.parametrize("batches", range(1, 8))
def test_a_build_stopped_anywhere_ends_as_if_it_had_not_been(batches, tmp_path, finished, monkeypatch):
    calls = []

    def stop(done, total):
        calls.append(done)
        if len(calls) == batches:
            raise Stopped

    with pytest.raises(Stopped):
        build(tmp_path, top_k=5, progress=stop)
    with pytest.raises(StoreError, match=r"unfinished: . of 5 shards"):
        TeacherStore.open(tmp_path)
    kept = sum(entry["draws"] for entry in json.loads((tmp_path / "store.json").read_text())["shards"])
    draw, drawn = Drawing.draw, []
    monkeypatch.setattr(Drawing, "draw", lambda self, kind, rows: drawn.extend(rows) or draw(self, kind, rows))
    build(tmp_path, top_k=5)
    assert contents(tmp_path) == contents(finished)
    assert len(drawn) == 15 - kept  # what was there was not drawn again


@pytest.mark.parametrize("renames", range(1, 8))
def test_a_build_killed_between_two_files_ends_as_if_it_had_not_been(renames, tmp_path, finished, monkeypatch):
    """Shards and store.json are written one after the other; a kill can come before or after each."""
    replace, count = os.replace, []

    def killed(source, target):
        count.append(target)
        if len(count) == renames:
            raise Stopped
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(Stopped):
        build(tmp_path, top_k=5)
    monkeypatch.undo()
    build(tmp_path, top_k=5)
    assert contents(tmp_path) == contents(finished)


def test_a_killed_process_leaves_a_store_that_goes_on(tmp_path):
    script = textwrap.dedent("""
        import sys
        from pathlib import Path
        from tests.unit.test_store import build
        build(Path(sys.argv[1]), draws=10, shard_draws=10, progress=lambda done, total: print(done, flush=True))
    """)
    command = [sys.executable, "-c", script, str(tmp_path / "killed")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if int(line) >= 25:
                process.kill()
                break
    (tmp_path / "killed" / "sample-00009.arrow.partial").write_bytes(b"half a shard")
    assert 2 <= len(list((tmp_path / "killed").glob("*.arrow"))) < 6
    for name in ("killed", "whole"):
        build(tmp_path / name, draws=10, shard_draws=10)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_a_finished_store_is_not_drawn_again(tmp_path, monkeypatch):
    build(tmp_path)
    monkeypatch.setattr(Drawing, "draw", lambda *_: pytest.fail("drew again"))
    assert len(build(tmp_path)) == 15


def test_one_process_at_a_time_builds_a_store(tmp_path):
    with shard_files.locked(tmp_path), pytest.raises(StoreError, match="another process is building"):
        build(tmp_path)


# --------------------------------------------------------------------------------------------------------- damage


@pytest.fixture
def damaged(tmp_path):
    folder = tmp_path / "store"
    build(folder)
    return folder


def test_a_changed_byte_is_found_and_mended(damaged):
    shard = damaged / "sample-00001.arrow"
    good = shard.read_bytes()
    middle = len(good) // 2
    shard.write_bytes(good[:middle] + bytes([good[middle] ^ 255]) + good[middle + 1 :])
    store = TeacherStore.open(damaged)
    with pytest.raises(StoreError, match=r"sample-00001.arrow is damaged: .*SHA-256.*Run the sample stage again"):
        for example in range(5):
            store.get(example), store.get(example, 1)
    with pytest.raises(StoreError, match="SHA-256"):
        TeacherStore.open(damaged).verify()
    build(damaged).verify()
    assert shard.read_bytes() == good


def test_a_truncated_or_missing_shard_is_found_and_mended(damaged):
    whole = contents(damaged)
    shard = damaged / "beam-00000.arrow"
    shard.write_bytes(whole["beam-00000.arrow"][:100])
    with pytest.raises(StoreError, match=r"it has 100 bytes where store\.json says"):
        TeacherStore.open(damaged)
    shard.unlink()
    with pytest.raises(StoreError, match=r"beam-00000.arrow is missing"):
        TeacherStore.open(damaged)
    build(damaged)
    assert contents(damaged) == whole


@pytest.mark.parametrize("text", ["", "{", "[]", '{"no": "version"}', "\x00\x01"])
def test_a_damaged_index_is_named(text, tmp_path):
    (tmp_path / "store.json").write_text(text)
    with pytest.raises(StoreError, match=r"store.json is damaged"):
        TeacherStore.open(tmp_path)


def test_another_format_and_no_store_are_named(tmp_path):
    with pytest.raises(StoreError, match="there is no teacher store at"):
        TeacherStore.open(tmp_path)
    (tmp_path / "store.json").write_text('{"version": 99}')
    with pytest.raises(StoreError, match="format 99"):
        TeacherStore.open(tmp_path)


def test_a_full_disk_loses_nothing(tmp_path, finished, monkeypatch):
    real, opened = open, []

    class Full(io.FileIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    def limited(path, mode="r", *args, **kwargs):
        if str(path).endswith(".arrow.partial"):
            opened.append(path)
            if len(opened) == 3:
                return Full(path, "w")
        return real(path, mode, *args, **kwargs)

    monkeypatch.setattr("builtins.open", limited)
    with pytest.raises(StoreError, match=r"the disk is full.*run the same command again") as error:
        build(tmp_path, top_k=5)
    monkeypatch.undo()
    assert "\n" not in str(error.value)
    assert len(list(tmp_path.glob("*.arrow"))) == 2 and not list(tmp_path.glob("*.partial"))
    build(tmp_path, top_k=5)
    assert contents(tmp_path) == contents(finished)


# --------------------------------------------------------------------------------------------------- fingerprints


def test_a_store_of_another_teacher_tokenizer_or_data_is_refused(damaged):
    other = tiny_model("t5", torch.float32)
    with torch.no_grad():
        other.get_input_embeddings().weight[7, 3] += 1e-3
    with pytest.raises(StoreError, match=r"made with another teacher \(teacher .*Delete that folder"):
        build(damaged, model=other)
    with pytest.raises(StoreError, match="another data "):
        build(damaged, prompts=[*PROMPTS[:4], "name[Other]"])
    with pytest.raises(StoreError, match="another sampling settings"):
        build(damaged, seed=6)
    with pytest.raises(StoreError, match="of 5 examples, and there are 4 prompts"):
        build(damaged, prompts=PROMPTS[:4], data_fingerprint=text_fingerprint(PROMPTS))
    store = TeacherStore.open(damaged)
    store.check({"teacher": model_fingerprint(tiny_model("t5", torch.float32)), "data": text_fingerprint(PROMPTS)})
    with pytest.raises(StoreError, match="another tokenizer and data"):
        store.check({"tokenizer": "a" * 64, "data": "b" * 64})
    with pytest.raises(StoreError, match=r"has no \['teecher'\]"):
        store.check({"teecher": ""})


@pytest.mark.parametrize("family", FAMILIES)
def test_a_fingerprint_is_of_the_content_not_of_the_path(family, tmp_path):
    model, tokenizer = tiny_model(family, torch.float32), tokenizer_of(family)
    fingerprints = set()
    for name in ("one", "two"):
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        fingerprints.add(model_fingerprint(load_model(tmp_path / name)))
        loaded = AutoTokenizer.from_pretrained(tmp_path / name)
        loaded(["a", "b b b b"], padding=True, truncation=True, max_length=3)
        assert tokenizer_fingerprint(loaded) == tokenizer_fingerprint(tokenizer)
    assert fingerprints == {model_fingerprint(model)}


def test_fingerprints_tell_models_and_tokenizers_apart():
    model = tiny_model("t5", torch.float32)
    models = [model, tiny_model("t5", torch.bfloat16), make_student(model, 2, 2), tiny_model("t5", torch.float32, 0.2)]
    assert len({model_fingerprint(each) for each in models}) == 4
    scaled = tiny_model("t5", torch.float32)
    scaled.config.scale_decoder_outputs = False
    assert model_fingerprint(scaled) != model_fingerprint(model)
    others = [tiny_tokenizer(), tiny_tokenizer("decoder-only"), train_tokenizer(TEXTS, 281)]
    assert len({tokenizer_fingerprint(each) for each in others}) == 3
    assert text_fingerprint(["ab", "c"]) != text_fingerprint(["a", "bc"])


def test_the_index_says_in_words_how_the_store_was_made(finished):
    index = json.loads((finished / "store.json").read_text())
    assert index["settings"]["draws"] == 2 and index["settings"]["seed"] == 5 and index["settings"]["vocab_size"] == 280
    assert set(index["fingerprint"]) == {"teacher", "tokenizer", "data", "sampling"}
    assert [entry["draws"] for entry in index["shards"]] == [4, 4, 2, 4, 1]
