"""The harness of `make bench`, and the ratios that must not get lost: what is measured here is never seconds."""

from __future__ import annotations

import time
from importlib.util import find_spec

import pytest
import torch

from benchmarks import heads, kernels, losses, memory, peers, step
from benchmarks.results import Answer, Goal, Table, load, number, publish, save
from benchmarks.timing import ratio, take_turns
from benchmarks.turns import train_in_turns
from fdistill.loss import kernels as loss_kernels
from fdistill.models import Prompts, adapter_for
from fdistill.sampling import DrawKeys, sample

#: How much slower than expected a ratio may be before it counts as lost: other work on the machine shifts medians.
SLACK = 2.0


def test_contenders_take_turns_and_warmups_do_not_count():
    order = []
    works = {name: lambda name=name: order.append(name) for name in "ab"}
    times = take_turns(works, rounds=3, warmups=2)
    assert "".join(order) == "ababababab"
    assert [len(times[name]) for name in "ab"] == [3, 3]


def test_a_ratio_is_the_median_of_pairs_and_not_of_seconds():
    """A machine that gets three times slower halfway changes neither half's ratio."""
    assert ratio({"slow": [2.0, 2.0, 6.0, 6.0, 6.0], "fast": [1.0, 1.0, 3.0, 3.0, 3.0]}, "slow", "fast") == 2.0


def test_training_runs_take_turns_step_by_step():
    order = []

    def run(name):
        def train(turn, steps):
            turn.begin()
            for _ in range(steps):
                order.append(name)
                time.sleep(0.01 if name == "a" else 0.0)
                turn.step_done()

        return train

    times = train_in_turns({name: run(name) for name in "abc"}, steps=3, warmups=1)
    assert "".join(order) == "abc" * 4
    assert {name: len(seconds) for name, seconds in times.items()} == {"a": 3, "b": 3, "c": 3}
    assert min(times["a"]) >= 0.01 > max(times["b"])


def test_a_run_that_fails_ends_the_round():
    def fails(turn, steps):
        turn.begin()
        raise KeyError("broken")

    def waits(turn, steps):
        turn.begin()
        for _ in range(steps):
            turn.step_done()

    with pytest.raises(KeyError, match="broken"):
        train_in_turns({"a": waits, "b": fails}, steps=2)


@pytest.mark.skipif(not memory.STATUS.exists(), reason="peak memory is read from /proc")
def test_peak_memory_counts_what_plain_torch_holds():
    """Plain torch keeps both log-probabilities and the gradient: at least three tensors of the logits' size."""
    size = {"rows": 256, "vocab": 16384}
    one = size["rows"] * size["vocab"] * 4
    assert 3 * one < memory.peak("losses", "kl/torch", size) < 12 * one
    assert memory.peak("losses", "kl/ours", size) < 2 * one
    with pytest.raises(memory.Unmeasured, match="nobody"):
        memory.peak("losses", "kl/nobody", size)


def test_answers_survive_the_disk_and_land_between_their_markers(tmp_path):
    answer = Answer("losses", "T", "S", [Table("", ["loss", "ms"], [["kl", "3"]])], [Goal("ratio", ">=", 2.0, 1.5)])
    assert load(save(answer, tmp_path)) == answer
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- begin losses -->\nold\n<!-- end losses -->\nafter\n")
    publish([answer], page)
    publish([answer], page)
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert text.count("| kl | 3 |") == 1 and "| ratio | ≥ 2 | 1.5 | **not met** |" in text
    with pytest.raises(ValueError, match="no markers"):
        publish([Answer("step", "T", "S", [])], page)


def test_a_goal_is_met_missed_or_not_measured():
    assert Goal("", ">=", 2.0, 2.0).met and not Goal("", "<=", 2.0, 2.1).met
    assert Goal("", ">=", 2.0, None).met is None


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1.2345, "1.23"), (19.96, "20"), (123.4, "123"), (32128.0, "32,100"), (0.0123, "0.0123")],
)
def test_numbers_have_three_digits(value, text):
    assert number(value) == text


@pytest.mark.parametrize("kind", ["kl", "rkl", "tvd"])
@pytest.mark.parametrize("question", [losses, heads])
def test_contenders_do_the_same_work(question, kind):
    """A contender that is given some of the rows only would seem fast: all gradients must point the same way."""
    size = {"rows": 128, "vocab": 96, "width": 8}
    found = {}
    for name in question.contenders(kind):
        contender = name.split("/")[1]
        if question is heads:
            (hidden, head), theirs, tokens = heads.inputs(size)
            others, leaves = (head, *theirs), [hidden, head]
        else:
            hidden, teacher, tokens, mask = losses.inputs(size["rows"], size["vocab"])
            others, leaves = (), [hidden]
        try:
            loss = (
                heads.loss_of(kind, contender, tokens)
                if question is heads
                else losses.loss_of(kind, contender, teacher, tokens, mask)
            )
        except peers.Missing:
            continue
        loss(hidden, *others).backward()
        found[contender] = [leaf.grad / leaf.grad.norm() for leaf in leaves]
    for gradients in found.values():
        for gradient, expected in zip(gradients, found["torch"], strict=True):
            torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.skipif(find_spec("triton") is None, reason="needs Triton")
@pytest.mark.parametrize("kind", ["kl", "rkl", "tvd"])
def test_contenders_on_a_gpu_do_the_same_work(kind, monkeypatch):
    """The same for the kernels' question, which needs a GPU to be asked; without one Triton interprets them."""
    monkeypatch.setattr(loss_kernels, "DEVICES", {"cpu", "cuda"})
    student, teacher, tokens, mask = losses.inputs(16, 24)
    found = {}
    for contender in ("kernels", "uncompiled", "torch"):
        student.grad = None
        kernels.loss_of(kind, contender, teacher, tokens, mask)(student).backward()
        found[contender] = student.grad / student.grad.norm()
    for gradient in found.values():
        torch.testing.assert_close(gradient, found["torch"], rtol=1e-3, atol=1e-6)
    assert kernels.works([f"{kind}/kernels", "floor"], kernels.TINY)["floor"]() is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="it would be measured")
def test_kernels_are_not_measured_without_a_gpu():
    answer = kernels.measure("quick")
    assert answer.tables == [] and answer.notes == ["kernels is skipped: it needs a CUDA device."]


# ---- ratios that are kept: generous, in one process, interleaved


@pytest.mark.parametrize("kind", losses.KINDS)
def test_a_loss_on_logits_is_not_slower_than_plain_torch(kind):
    size = losses.SIZES["quick"]
    times = take_turns(losses.works([f"{kind}/ours", f"{kind}/torch"], size), size["rounds"])
    assert ratio(times, f"{kind}/ours", f"{kind}/torch") < SLACK


@pytest.mark.parametrize("kind", heads.KINDS)
def test_a_loss_behind_a_head_is_not_slower_than_plain_torch(kind):
    size = heads.SIZES["quick"]
    times = take_turns(heads.works([f"{kind}/ours", f"{kind}/torch"], size), size["rounds"])
    assert ratio(times, f"{kind}/ours", f"{kind}/torch") < SLACK


def test_sampling_is_not_slower_than_generate():
    _, student = step.t5_pair({"vocab": 8192, "width": 128, "layers": 2})
    ids = torch.randint(3, 8192, (8, 16))
    prompts, keys = Prompts(ids, torch.ones_like(ids, dtype=torch.bool)), DrawKeys.of(0, list(range(8)))
    encoded = adapter_for(student).encode(student, prompts).detach()
    works = {
        "ours": lambda: sample(student.eval(), prompts, keys, max_length=16, encoded=encoded),
        "generate": lambda: student.generate(input_ids=ids, do_sample=True, top_k=0, max_new_tokens=16),
    }
    assert ratio(take_turns(works, 5), "ours", "generate") < 0.8 * SLACK


def test_a_step_is_not_slower_than_the_authors():
    size = step.SIZES["quick"]
    names = ["js/ours", "js/authors, 6 beams"]
    pair = step.t5_pair(size)
    times = train_in_turns({name: step.make_run(name, size, *pair) for name in names}, size["steps"])
    assert ratio(times, *names) < 0.75 * SLACK
