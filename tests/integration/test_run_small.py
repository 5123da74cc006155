"""A whole run on a tiny recipe: rows, files, the same numbers again, after kills at several moments, and refusals."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from fdistill.errors import FDistillError
from fdistill.evaluate import from_sums, statistics_of
from fdistill.pipeline import Pipeline
from fdistill.recipe import load_recipe
from fdistill.report import write_report
from fdistill.report.compare import group_runs
from fdistill.report.depth import depth_table

ROOT = Path(__file__).parents[2]
SHORT = {"max_steps": 4, "per_device_train_batch_size": 8, "max_prompt_length": 32, "max_completion_length": 12}
TINY = {
    "seed": 3,
    "data": {"format": "restaurants", "train": 48, "validation": 8, "test": 10},
    "tokenizer": {"vocab_size": 300},
    "teacher": {
        "config": {
            "model_type": "t5",
            "d_model": 16,
            "d_kv": 8,
            "num_heads": 2,
            "d_ff": 32,
            "num_layers": 2,
            "num_decoder_layers": 2,
            "dropout_rate": 0.1,
        },
        "training": {**SHORT, "max_steps": 6, "learning_rate": 3e-3, "save_steps": 2, "disable_dropout": False},
    },
    "student": {"encoder_layers": 1, "decoder_layers": 1},
    "predistill": {"training": {**SHORT, "save_steps": 2}},
    "objectives": ["mle", "seqkd", "kl", "js"],
    "training": {**SHORT, "save_steps": 2, "logging_steps": 1},
    "evaluation": {"num_beams": 2, "draws": 2, "bootstrap": 20},
}
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'reference'}"}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def recipe_in(folder: Path, **changes: object) -> Path:
    """Write the tiny recipe, its output beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({**TINY, "output": str(folder / "run"), **changes}))
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that nobody disturbed, and its recipe."""
    path = recipe_in(tmp_path_factory.mktemp("finished"))
    metrics = Pipeline(load_recipe(path), verify=False).run()
    return path, path.parent / "run", metrics


def test_every_row_has_its_scores_with_intervals(finished):
    _, folder, metrics = finished
    assert list(metrics) == ["teacher", "mle", "predistilled", "seqkd", "kl", "js"]
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    for name, row in metrics.items():
        for metric, estimate in row.items():
            assert set(estimate) == {"value", "low", "high"}, (name, metric)
            assert estimate["low"] <= estimate["value"] <= estimate["high"], (name, metric)
        wanted = {"bleu", "chrf", "ter", "rougeL", "r_llh", "r_cvg", "r_llh_token", "truth_kl", "producible"}
        assert wanted <= set(row)
    assert {"teacher_dist", "h_p", "h_p_token"} <= set(metrics["teacher"])
    for name in ("mle", "predistilled", "kl"):
        assert {"kl", "rkl", "js", "tvd", "sample_dist"} <= set(metrics[name])
        assert 0 <= metrics[name]["js"]["value"] <= 0.6932 and 0 <= metrics[name]["tvd"]["value"] <= 1
        gap = metrics[name]["r_cvg"]["value"] - metrics["teacher"]["h_p"]["value"]
        assert gap == pytest.approx(metrics[name]["kl"]["value"], abs=3)  # R_cvg = KL + H(P), up to sampling


def test_scores_of_every_input_add_up_to_the_metrics(finished):
    _, folder, metrics = finished
    for name, row in metrics.items():
        with np.load(folder / "scores" / f"{name}.npz", allow_pickle=False) as arrays:
            assert {"bleu", "chrf", "ter", "rouge1"} <= set(arrays.files)
            assert name == "teacher" or {"r_llh", "r_cvg", "kl", "rkl", "js", "tvd", "h_q_token"} <= set(arrays.files)
            for metric in set(row) & ({*arrays.files, "bleu1", "bleu2", "bleu3"}):
                statistics = arrays[statistics_of(metric)]
                made = from_sums(metric, statistics.sum(0, keepdims=True), len(statistics))
                assert made[0] == pytest.approx(row[metric]["value"]), (name, metric)


def test_the_folder_is_as_documented(finished):
    _, folder, _ = finished
    assert {"recipe.yaml", "environment.json", "teacher", "store", "predistilled", "students", "checkpoints"} <= {
        path.name for path in folder.iterdir()
    }
    assert sorted(path.name for path in (folder / "students").iterdir()) == ["js", "kl", "mle", "seqkd"]
    assert not list(folder.rglob("*.bin")) and not list(folder.rglob("checkpoint-*"))
    timing = json.loads((folder / "timing.json").read_text())
    assert timing["teacher"]["attempts"] == 1 and "seconds" not in (folder / "metrics.json").read_text()
    samples = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert len(samples) == 10 and set(samples[0]["outputs"]) == {"teacher", "mle", "predistilled", "seqkd", "kl", "js"}
    environment = json.loads((folder / "environment.json").read_text())
    assert (
        environment["seed"] == 3
        and "bleu" in environment["scores"]
        and set(environment["data"]) == {"train", "validation", "test"}
    )
    assert load_recipe(folder / "recipe.yaml").resolved() == load_recipe(finished[0]).resolved()
    assert not [path for path in folder.iterdir() if path.name.startswith(".writing-")]


def test_models_load_with_plain_transformers_in_another_process(finished):
    _, folder, _ = finished
    code = (
        "import sys; from transformers import AutoModelForSeq2SeqLM, AutoTokenizer\n"
        "for name in sys.argv[1:]:\n"
        "    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(name), AutoTokenizer.from_pretrained(name)\n"
        "    ids = tokenizer('name : Amber Fox', return_tensors='pt')\n"
        "    print(name, tokenizer.decode(model.generate(**ids, max_new_tokens=4)[0]))\n"
        "assert 'fdistill' not in sys.modules\n"
    )
    folders = [folder / "teacher", folder / "predistilled", folder / "students" / "kl"]
    subprocess.run([sys.executable, "-c", code, *map(str, folders)], check=True, env=ENVIRONMENT, capture_output=True)


def test_a_second_run_skips_everything_and_changes_nothing(finished):
    path, folder, metrics = finished
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*.safetensors")}
    timing = (folder / "timing.json").read_text()
    assert Pipeline(load_recipe(path), verify=False).run() == metrics
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*.safetensors")} == before
    assert (folder / "timing.json").read_text() == timing


def test_changed_settings_are_refused_and_name_what_changed(finished):
    path = finished[0]
    with pytest.raises(
        FDistillError, match=r"students/mle was made from other settings: training.max_steps was 4 and is 9"
    ):
        Pipeline(load_recipe(path, ["training.max_steps=9"]), verify=False).run()
    with pytest.raises(FDistillError, match=r"teacher was made from other settings: data.train was .* --set output="):
        Pipeline(load_recipe(path, ["data.train=40"]), verify=False).run()


def test_new_evaluation_settings_score_again_without_training(finished, tmp_path):
    path, folder, metrics = finished
    copy = tmp_path / "run"
    shutil.copytree(folder, copy)
    again = Pipeline(load_recipe(path, [f"output={copy}", "evaluation.num_beams=1"]), verify=False).run()
    assert again["kl"]["r_cvg"] == metrics["kl"]["r_cvg"] and list(again) == list(metrics)


def test_another_objective_joins_a_finished_run(finished, tmp_path):
    path, folder, metrics = finished
    copy = tmp_path / "run"
    shutil.copytree(folder, copy)
    overrides = [f"output={copy}", "objectives=mle,seqkd,kl,js,rkl"]
    again = Pipeline(load_recipe(path, overrides), verify=False).run()
    assert again.pop("rkl")["rkl"]["value"] >= 0
    assert again == metrics


def test_a_student_of_another_depth_takes_the_same_teacher(finished, tmp_path):
    path, folder, metrics = finished
    reused = [f"teacher.model={folder / 'teacher'}", "teacher.config=null", "teacher.training=null", "tokenizer=null"]
    other = [f"output={tmp_path / 'run'}", "student.decoder_layers=2", "objectives=kl"]
    again = Pipeline(load_recipe(path, [*reused, *other]), verify=False).run()
    assert again["teacher"] == metrics["teacher"]
    table = depth_table(group_runs([folder, tmp_path / "run"]), "kl")
    assert [column.label for column in table.columns] == ["1+1", "1+2"]
    cells = dict(table.rows)["kl"]
    assert [cell.value for cell in cells] == [metrics["kl"]["kl"]["value"], again["kl"]["kl"]["value"]]


def test_a_teacher_that_writes_anew_in_every_step_joins_as_table_4(finished, tmp_path):
    path, folder, metrics = finished
    copy = tmp_path / "run"
    shutil.copytree(folder, copy)
    fresh = [{"name": f"{name}-online", "objective": name, "online": True} for name in ("seqkd", "js")]
    recipe = load_recipe(path, [f"output={copy}", f"objectives={json.dumps(['mle', 'seqkd', 'kl', 'js', *fresh])}"])
    again = Pipeline(recipe, verify=False).run()
    assert {name: row for name, row in again.items() if not name.endswith("-online")} == metrics
    assert again["js-online"]["kl"] != again["js"]["kl"]  # other completions than the stored ones
    table = (write_report(copy).parent / "report.md").read_text().partition("(Table 4)")[2]
    assert table.index("seqkd-online") < table.index("| seqkd |") < table.index("js-online") < table.index("| js |")


def test_a_row_with_training_of_its_own_joins_a_finished_run(finished, tmp_path):
    """Catches settings of one row that reach others, or none, or that a resumed run does not see."""
    path, folder, metrics = finished
    copy = tmp_path / "run"
    shutil.copytree(folder, copy)
    more = {"max_steps": 2, "num_student_samples": 3, "baseline": "leave_one_out"}
    longer = {"name": "js-3", "objective": "js", "gradient": "full", "training": more}

    def with_row(row):
        rows = json.dumps(["mle", "seqkd", "kl", "js", row])
        return Pipeline(load_recipe(path, [f"output={copy}", f"objectives={rows}"]), verify=False).run()

    again = with_row(longer)
    assert {name: row for name, row in again.items() if name != "js-3"} == metrics and "js-3" in again
    history = json.loads((copy / "checkpoints" / "students" / "js-3" / "history.json").read_text())
    assert max(entry["step"] for entry in history) == 2
    with pytest.raises(FDistillError, match="num_student_samples was 3 and is 2"):
        with_row({**longer, "training": {**more, "num_student_samples": 2}})


def test_a_folder_that_is_not_this_runs_is_left_alone(tmp_path):
    path = recipe_in(tmp_path)
    (tmp_path / "run" / "teacher").mkdir(parents=True)
    (tmp_path / "run" / "teacher" / "mine.txt").write_text("mine")
    with pytest.raises(FDistillError, match="was not made by this run"):
        Pipeline(load_recipe(path), verify=False).run()
    assert (tmp_path / "run" / "teacher" / "mine.txt").exists()


def test_two_processes_do_not_share_a_folder(tmp_path):
    pipeline = Pipeline(load_recipe(recipe_in(tmp_path)), verify=False)
    with pipeline.folder.locked(), pytest.raises(FDistillError, match="another process is working"):
        Pipeline(pipeline.recipe, verify=False).run()


MOMENTS = (
    "checkpoints/teacher/checkpoint-2",
    "teacher/model.safetensors",
    "store/store.json",
    "checkpoints/predistilled/checkpoint-2/model.safetensors",
    "checkpoints/students/kl/checkpoint-2/optimizer.pt",
    "students/js",
    "checkpoints/evaluate/predistilled.json",
)


@pytest.mark.slow
def test_a_run_killed_at_many_moments_ends_with_the_same_numbers(finished, tmp_path):
    _, undisturbed, metrics = finished
    path = recipe_in(tmp_path)
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "fdistill", "evaluate", str(path), "--no-verify"]
    killed = 0
    for moment in MOMENTS:
        process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 240
            while not (folder / moment).exists() and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.002)
            if process.poll() is None:
                killed += 1
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    assert killed >= 4
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    assert (folder / "samples.jsonl").read_text() == (undisturbed / "samples.jsonl").read_text()
    assert "Output quality (Table 2)" in done.stdout and "Likelihood and coverage risk (Table 3)" in done.stdout
