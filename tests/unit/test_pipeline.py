"""A run's folder: files that are whole or untouched, records that refuse other settings, what is planned, where a run stands."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fdistill.errors import FDistillError
from fdistill.pipeline.folder import RunFolder, fingerprint, flatten, read_json, replace_folder, write_json, write_text
from fdistill.pipeline.plan import STAGES, rows_of, weights
from fdistill.pipeline.status import run_status
from fdistill.recipe import load_recipe


def finish(folder: RunFolder, stage: str, output: Path, inputs: dict) -> None:
    assert folder.begin(stage, inputs, output)
    output.mkdir(parents=True)
    folder.complete(stage)


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "metrics.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError):
        write_json(path, {"a": float("nan")})
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "half a pair: \ud800")
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.json"]


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    target = tmp_path / "students" / "kl"
    replace_folder(target, lambda folder: (folder / "new").write_text("1"))

    def fail(folder: Path) -> None:
        (folder / "half").write_text("2")
        raise OSError("disk full")

    with pytest.raises(OSError):
        replace_folder(target, fail)
    assert [p.name for p in target.iterdir()] == ["new"] and [p.name for p in tmp_path.iterdir()] == ["students"]
    assert [p.name for p in target.parent.iterdir()] == ["kl"]


def test_what_a_dead_process_left_half_written_is_removed(tmp_path):
    folder = RunFolder(tmp_path)
    (tmp_path / ".writing-abc").mkdir()
    (tmp_path / ".metrics.json.x.tmp").write_text("half")
    (tmp_path / "metrics.json").write_text("{}")
    folder.clean()
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.json"]


def test_a_complete_stage_is_skipped_and_its_checkpoints_are_gone(tmp_path):
    folder, output = RunFolder(tmp_path), tmp_path / "teacher"
    assert folder.begin("teacher", {"seed": 0}, output)
    (folder.checkpoints / "teacher" / "checkpoint-5").mkdir()
    output.mkdir()
    folder.complete("teacher")
    assert not folder.begin("teacher", {"seed": 0}, output) and folder.is_complete("teacher", output)
    assert [p.name for p in (folder.checkpoints / "teacher").iterdir()] == ["stage.json"]


def test_an_interrupted_stage_runs_again_and_keeps_its_checkpoints(tmp_path):
    folder, output = RunFolder(tmp_path), tmp_path / "teacher"
    folder.begin("teacher", {"seed": 0}, output)
    (folder.checkpoints / "teacher" / "checkpoint-5").mkdir()
    assert folder.begin("teacher", {"seed": 0}, output)
    assert (folder.checkpoints / "teacher" / "checkpoint-5").exists()


@pytest.mark.parametrize("complete", [True, False])
def test_other_settings_are_refused_with_what_was_and_is(tmp_path, complete):
    folder, output = RunFolder(tmp_path), tmp_path / "students" / "kl"
    folder.begin("students/kl", {"training.max_steps": 4, "a": 1}, output)
    if complete:
        output.mkdir(parents=True)
        folder.complete("students/kl")
    with pytest.raises(
        FDistillError, match=r"training\.max_steps was 4 and is 5, b was unset and is 2\. .*delete"
    ) as error:
        folder.begin("students/kl", {"training.max_steps": 5, "a": 1, "b": 2}, output)
    assert "\n" not in str(error.value)


def test_an_output_removed_by_hand_is_made_again_even_from_other_settings(tmp_path):
    folder, output = RunFolder(tmp_path), tmp_path / "teacher"
    finish(folder, "teacher", output, {"seed": 0})
    output.rmdir()
    assert not folder.is_complete("teacher", output)
    assert folder.begin("teacher", {"seed": 1}, output)


def test_a_damaged_record_says_which_file_and_what_to_do(tmp_path):
    (tmp_path / "x.json").write_text("{half")
    with pytest.raises(FDistillError, match=r"x\.json is damaged .* Delete it"):
        read_json(tmp_path / "x.json", {})


def test_times_add_up_over_attempts(tmp_path):
    folder = RunFolder(tmp_path)
    with pytest.raises(RuntimeError), folder.timed("teacher"):
        raise RuntimeError
    with folder.timed("teacher"):
        pass
    assert read_json(folder.timing, {})["teacher"]["attempts"] == 2


def test_flatten_and_fingerprint_depend_on_values_not_on_order():
    assert flatten({"a": {"b": 1, "c": [2]}, "d": None}) == {"a.b": 1, "a.c": [2], "d": None}
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1}) != fingerprint({"a": 2, "b": 2})


def test_rows_stand_as_in_the_papers_table():
    recipe = load_recipe("restaurants", ["objectives=kl,mle,js"])
    assert rows_of(recipe) == ["teacher", "mle", "predistilled", "kl", "js"]


def test_the_plan_names_every_step_in_order_and_stops_where_asked():
    recipe = load_recipe("restaurants")
    assert list(weights(recipe, "predistill")) == ["teacher", "store", "predistilled"]
    everything = weights(recipe, STAGES[-1])
    assert list(everything)[-1] == "evaluate/tvd" and all(value > 0 for value in everything.values())


def test_status_says_where_a_run_stands_without_loading_torch(tmp_path):
    recipe = load_recipe("restaurants", [f"output={tmp_path}"])
    write_text(tmp_path / "recipe.yaml", json.dumps(recipe.resolved()))
    folder = RunFolder(tmp_path)
    finish(folder, "teacher", folder.teacher, {})
    folder.begin("store", {}, folder.store)
    found = run_status(tmp_path)
    states = {step["step"]: step["state"] for step in found["steps"]}
    assert (states["teacher"], states["store"], states["students/kl"]) == ("complete", "begun", "to do")
    assert found["complete"] == 1 and found["working"] == "" and "fdistill run" in found["next"]
    code = (
        "import sys; from pathlib import Path; from fdistill.pipeline.status import run_status\n"
        f"run_status(Path({str(tmp_path)!r})); assert 'torch' not in sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    with folder.locked():
        assert "working" in run_status(tmp_path)["working"]


def test_status_of_a_folder_without_a_run_says_so(tmp_path):
    with pytest.raises(FDistillError, match="there is no run in"):
        run_status(tmp_path)
