"""What a person reads where a file of a run was damaged or cannot be written, and that doing as told loses nothing."""

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fdistill.errors import FDistillError
from fdistill.pipeline import Pipeline
from fdistill.pipeline.training import arguments, last_checkpoint, train
from fdistill.recipe import load_recipe
from fdistill.trainer import FDistillTrainer
from tests.integration.test_run_small import ENVIRONMENT, recipe_in
from tests.trainer_kit import ROWS, tiny_model, tokenizer_for


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A short run that nobody disturbed, and its recipe."""
    path = recipe_in(tmp_path_factory.mktemp("finished"), objectives=["mle", "kl"])
    Pipeline(load_recipe(path), verify=False).run()
    return path


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of it that may be damaged."""
    return shutil.copytree(finished.parent / "run", tmp_path / "run")


def again(recipe: Path, run: Path, *settings: str) -> dict:
    """Run the recipe in a folder and return the metrics."""
    return Pipeline(load_recipe(recipe, [f"output={run}", *settings]), verify=False).run()


def complaint(recipe: Path, run: Path, *settings: str) -> str:
    """Return the line that the same command gets."""
    with pytest.raises(FDistillError) as caught:
        again(recipe, run, *settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def numbers(run: Path) -> dict:
    return json.loads((run / "metrics.json").read_text())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A training with its last two checkpoints, as one that was interrupted leaves them."""
    folder = tmp_path_factory.mktemp("trained")
    section = {"max_steps": 5, "save_steps": 2, "per_device_train_batch_size": 4, "use_cpu": True}
    args = arguments(section, folder, 0, objective="mle")
    train(FDistillTrainer(tiny_model("t5"), None, args, ROWS, processing_class=tokenizer_for("t5")), folder, print)
    return folder


def test_a_whole_checkpoint_passes(trained):
    found = last_checkpoint(trained)
    assert found is not None and found.name == "checkpoint-5"


@pytest.mark.parametrize("how", ["cut", "changed", "gone"])
@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"]
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_goes_on(name, how, trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "trained")
    path = folder / "checkpoint-5" / name
    content = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 2] if how == "cut" else content[:-9] + b"\x00" * 9)
    with pytest.raises(
        FDistillError, match=rf"{name} is damaged or gone.* Delete {path.parent} .* goes on from checkpoint-4"
    ):
        last_checkpoint(folder)
    shutil.rmtree(path.parent)
    found = last_checkpoint(folder)
    assert found is not None and found.name == "checkpoint-4"


def test_the_only_checkpoint_damaged_means_from_the_beginning(trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "trained")
    shutil.rmtree(folder / "checkpoint-4")
    (folder / "checkpoint-5" / "whole").write_text("{half")
    with pytest.raises(FDistillError, match=r"checkpoint-5/whole is damaged .* from its beginning"):
        last_checkpoint(folder)


@pytest.mark.parametrize("name, size", [("model.safetensors", 2000), ("model.safetensors", 0), ("config.json", 40)])
def test_a_damaged_model_is_made_again_with_the_same_numbers(name, size, finished, copy):
    before = numbers(copy)
    os.truncate(copy / "students" / "kl" / name, size)
    shutil.rmtree(copy / "checkpoints" / "evaluate")
    line = complaint(finished, copy)
    assert (
        "cannot load a model from" in line
        and f"delete {copy / 'students' / 'kl'} and run the same command again" in line
    )
    shutil.rmtree(copy / "students" / "kl")
    assert again(finished, copy) == before


def test_a_damaged_tokenizer_is_named(finished, copy):
    os.truncate(copy / "teacher" / "tokenizer.json", 500)
    shutil.rmtree(copy / "checkpoints" / "evaluate")
    assert f"cannot load a tokenizer from '{copy / 'teacher'}'" in complaint(finished, copy)


def test_a_damaged_record_is_named_and_what_it_was_of(finished, copy):
    before, record = numbers(copy), copy / "checkpoints" / "students" / "kl"
    os.truncate(record / "stage.json", 20)
    line = complaint(finished, copy)
    assert line.startswith(f"{record / 'stage.json'} is damaged")
    assert f"delete both {record} and {copy / 'students' / 'kl'} to make it again" in line
    shutil.rmtree(record)
    shutil.rmtree(copy / "students" / "kl")
    assert again(finished, copy) == before


@pytest.mark.parametrize("name", ["environment.json", "checkpoints/evaluate/kl.json"])
def test_a_damaged_result_is_named_and_made_again(name, finished, copy):
    before = numbers(copy)
    os.truncate(copy / name, 15)
    assert complaint(finished, copy).startswith(f"{copy / name} is damaged")
    (copy / name).unlink()
    assert again(finished, copy) == before


def test_a_damaged_store_is_mended_before_a_student_reads_it(finished, copy, caplog):
    shard = next((copy / "store").glob("sample-*.arrow"))
    whole = shard.read_bytes()
    shard.write_bytes(whole[:100] + bytes(len(whole) - 100))
    with caplog.at_level(logging.WARNING, "fdistill"):
        assert "js" in again(finished, copy, "objectives=mle,kl,js")
    assert shard.read_bytes() == whole and "is damaged" in caplog.text


def test_an_output_that_is_a_file_is_refused(finished, tmp_path):
    (tmp_path / "run").write_text("mine")
    assert "is a file" in complaint(finished, tmp_path / "run")
    assert "is a file, or lies below one" in complaint(finished, tmp_path / "run" / "below")
    assert (tmp_path / "run").read_text() == "mine"


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process are Unix")
@pytest.mark.parametrize("save", ["torch.save(values, path)", "safetensors.torch.save_file(values, path)"])
def test_a_disk_that_takes_no_more_gets_one_line_whoever_writes(save, tmp_path):
    code = (
        "import resource, safetensors.torch, sys, torch\n"
        "from fdistill.errors import FDistillError\n"
        "from fdistill.pipeline.folder import full_disk\n"
        "path, values = sys.argv[1], {'a': torch.zeros(100_000)}\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "try:\n"
        "    with full_disk(path):\n"
        f"        {save}\n"
        "except FDistillError as error:\n"
        "    print(error)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "file")]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.stdout.startswith(f"cannot write to {tmp_path / 'file'}: the disk is full, or refuses"), done.stderr
    assert done.stdout.count("\n") == 1 and "goes on where it stopped" in done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process are Unix")
def test_a_disk_that_fills_up_during_a_run_loses_nothing(finished, tmp_path):
    """The teacher's samples do not fit, then a student's weights; with room again the run ends as if nothing had been."""
    code = (
        "import resource, sys\n"
        "from fdistill.cli import run\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))\n"
        "sys.exit(run([*sys.argv[2:4], '--set', f'output={sys.argv[4]}', *sys.argv[5:]]))\n"
    )

    def command(stage: str, limit: int = 1 << 30) -> str:
        """Run a stage with files of at most `limit` bytes; return its last line where it failed."""
        unchecked = [] if stage == "sample" else ["--no-verify"]
        words = [sys.executable, "-c", code, str(limit), stage, str(finished), str(tmp_path / "run"), *unchecked]
        done = subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True)
        assert "Traceback" not in done.stderr, done.stderr
        return done.stderr.strip().splitlines()[-1] if done.returncode else ""

    assert command("teacher") == ""
    for limit, reached in ((5_000, "sample"), (40_000, "predistill")):
        line = command("run", limit)
        assert line.startswith("fdistill: cannot write ") and "File too large" in line, line
        assert command(reached) == ""
    assert again(finished, tmp_path / "run") == again(finished, finished.parent / "run")


def test_other_errors_of_training_are_not_taken_for_a_full_disk(tmp_path):
    from fdistill.pipeline.folder import full_disk

    with pytest.raises(RuntimeError, match="shapes"), full_disk(tmp_path):
        raise RuntimeError("shapes do not fit")
