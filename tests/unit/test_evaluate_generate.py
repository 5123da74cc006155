"""What scoring remembers from one student to the next never stands in for other samples, another teacher or batches."""

import dataclasses

import numpy as np
import pytest

from fdistill.evaluate import generate
from fdistill.evaluate.generate import Generator
from tests.trainer_kit import ROWS, tiny_model, tokenizer_for


def generator(family: str) -> Generator:
    prompts = [row["prompt"] for row in ROWS]
    return Generator(tokenizer_for(family), prompts, max_prompt_length=16, max_completion_length=6)


def arrays(scored):
    return list(dataclasses.asdict(scored).values())


@pytest.mark.parametrize("family", ["t5", "gpt2"])
@pytest.mark.parametrize("in_one_batch", [True, False])
def test_scores_do_not_depend_on_what_was_scored_before(family, in_one_batch, monkeypatch):
    """Catches a teacher's kept pass that is taken for other samples, other rows of them, or another teacher."""
    if not in_one_batch:
        monkeypatch.setattr(generate, "ELEMENTS", 1)
    teacher, other, student = (tiny_model(family, seed) for seed in range(3))
    used = generator(family)
    first, second = used.draw(teacher, 2), used.draw(teacher, 2, step=1)
    asked = [
        (teacher, teacher, first, "teacher"),
        (teacher, student, first, "teacher"),
        (teacher, student, first, "student"),
        (teacher, student, second, "teacher"),
        (other, student, second, "teacher"),
        (other, teacher, second, "student"),
    ]
    for scoring, scored, samples, writer in asked:
        found = used.score(scoring, scored, samples, written_by=writer)
        forgetful = generator(family)
        forgetful._kept_pass = forgetful._pass
        anew = forgetful.score(scoring, scored, samples, written_by=writer)
        for a, b in zip(arrays(found), arrays(anew), strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_teacher_runs_once_over_its_own_samples(monkeypatch):
    """Catches a pass that is made anew for every student."""
    teacher, student, third = (tiny_model("t5", seed) for seed in range(3))
    used, run = generator("t5"), []
    samples = used.draw(teacher, 2)
    plain = Generator._pass
    monkeypatch.setattr(Generator, "_pass", lambda self, model, *rest: run.append(model) or plain(self, model, *rest))
    for scored in (teacher, student, third):
        used.score(teacher, scored, samples, written_by="teacher")
    assert [teacher, student, third] == run
