"""The code that readers copy: the README's blocks, the notebook, the script for many GPUs, the loss that is judged."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from fdistill import FDistillConfig, make_student
from fdistill.cli.app import app
from tests.trainer_kit import ROWS, tiny_model, tokenizer_for, with_draws

from .pages import DOCS, ROOT, fences

NOTEBOOK = DOCS / "notebooks" / "five_lines.ipynb"
SMALL = {"max_steps": 2, "max_completion_length": 12, "use_cpu": True, "report_to": "none", "disable_tqdm": True}


def blocks(page: Path, language: str) -> list[str]:
    return [fence.text for fence in fences(page.read_text(encoding="utf-8")) if fence.language == language]


def code_cells() -> list[str]:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def batches() -> dict[str, dict[str, torch.Tensor]]:
    """What the README's second block needs: a batch of each source."""
    noise = torch.Generator().manual_seed(0)
    tokens, mask = torch.randint(7, (2, 5), generator=noise), torch.ones(2, 5, dtype=torch.bool)
    logits = [torch.randn(2, 5, 7, generator=noise, requires_grad=True) for _ in range(2)]
    batch = {"student_logits": logits[0], "teacher_logits": logits[1], "tokens": tokens, "mask": mask}
    return {"teacher": batch, "student": batch}


@pytest.mark.slow
def test_the_blocks_of_the_readme_run(tmp_path, monkeypatch):
    """Catches a front page that does not work: the five lines train, the loss has a gradient."""
    monkeypatch.chdir(tmp_path)
    # The front page leaves everything at its default, which is three epochs.
    monkeypatch.setattr("fdistill.FDistillConfig", lambda **given: FDistillConfig(**{**SMALL, **given}))
    names = {
        "teacher": tiny_model("t5", 2),
        "tokenizer": tokenizer_for("t5"),
        "rows": with_draws("t5"),
        "batches": batches(),
    }
    training, loss = blocks(ROOT / "README.md", "python")
    exec(training, names)
    assert names["trainer"].state.global_step == 2
    assert names["student"].config.num_decoder_layers == 1
    exec(loss, names)
    names["loss"].backward()
    assert names["loss"] > 0 and names["batches"]["student"]["student_logits"].grad.abs().sum() > 0
    assert names["batches"]["teacher"]["teacher_logits"].grad is None


def test_the_notebook_shows_the_lines_of_the_readme():
    """Catches a front page and a notebook that drift apart; the notebook adds settings and nothing else."""
    training = blocks(ROOT / "README.md", "python")[0]
    shown = next(cell for cell in code_cells() if "make_student(teacher, decoder_layers=1)   " in cell)
    for line in training.replace("trainer.train()", "result = trainer.train()").splitlines():
        assert line.rstrip(")") in shown


@pytest.mark.slow
def test_the_notebook_runs_and_its_student_comes_closer(tmp_path, monkeypatch, capsys):
    """Catches a notebook that fails, and one whose last cell no longer shows what it says."""
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    quiet = logging.root.manager.disable
    try:
        for cell in code_cells():
            exec(cell, names)
    finally:
        logging.disable(quiet)  # the notebook keeps warnings away, which later tests look for
    for name in ("kl", "rkl", "js", "tvd"):
        assert names["after"][name] < names["before"][name]
    assert "after twelve steps" in capsys.readouterr().out


@pytest.mark.slow
def test_the_script_for_many_gpus_runs_on_two_processes(tmp_path):
    """Catches a script that accelerate cannot launch as the page says."""
    (script,) = blocks(DOCS / "guide" / "gpus.md", "python")
    (tmp_path / "train.py").write_text(script.replace("max_steps=100", "max_steps=2").replace('"js"', '"kl"'))
    tiny_model("t5", 2).save_pretrained(tmp_path / "teacher")
    tokenizer_for("t5").save_pretrained(tmp_path / "teacher")
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    launch = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "train.py"]
    done = subprocess.run([sys.executable, *launch], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    student = json.loads((tmp_path / "student" / "config.json").read_text())
    assert (
        student["num_decoder_layers"] == make_student(tiny_model("t5", 2), decoder_layers=1).config.num_decoder_layers
    )


def test_the_loss_that_is_judged_gets_the_verdict_that_the_page_shows(tmp_path, monkeypatch):
    """Catches a verdict that was copied from an older version."""
    page = DOCS / "guide" / "judge.md"
    (code,), (answer,) = blocks(page, "python"), blocks(page, "text")
    (tmp_path / "mine.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    asked = "fdistill verify --loss mine:jsd --as js --with beta=0.25"
    assert f"```\n{asked}\n```" in page.read_text(encoding="utf-8")
    given = CliRunner().invoke(app, asked.split()[1:])
    assert given.exit_code == 0 and given.stdout.strip() == answer.strip()
