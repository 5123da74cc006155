"""The paper's Table 4 and Figure 2 from runs' folders."""

import json

import pytest
import yaml

from fdistill.cli import run
from fdistill.errors import FDistillError, RecipeError
from fdistill.recipe import load_recipe
from fdistill.report.compare import group_runs
from fdistill.report.depth import depth_table
from fdistill.report.folder import Run
from fdistill.report.online import online_pairs, online_tables
from fdistill.report.tables import latex, markdown


def estimate(value, half=0.5):
    return {"value": value, "low": value - half, "high": value + half}


def make_run(folder, rows, *, objectives=("js",), student=None, timing=None, seed=0):
    """A run's folder with one BLEU a row."""
    folder.mkdir(parents=True)
    metrics = {name: {"bleu": estimate(value), "kl": estimate(value / 10, 0.01)} for name, value in rows.items()}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    recipe = {"seed": seed, "output": str(folder), "objectives": list(objectives), "student": student or {}}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (folder / "environment.json").write_text(json.dumps({"seed": seed, "data": {"test": "x"}}))
    (folder / "timing.json").write_text(json.dumps(timing or {}))
    return folder


ONLINE = [
    "kl",
    {"name": "js", "objective": "js", "teacher_weight": 0.3},
    {"name": "slow", "objective": "js", "teacher_weight": 0.3, "online": True},
    {"name": "other", "objective": "js", "online": True},
]


def test_speed_is_that_of_the_online_twin(tmp_path):
    timing = {
        "store": {"seconds": 7.0, "attempts": 1},
        "students/js": {"seconds": 20.0, "attempts": 2},
        "students/slow": {"seconds": 45.0, "attempts": 1},
    }
    rows = {"teacher": 50, "kl": 40, "js": 42, "slow": 43, "other": 44}
    (table,) = online_tables(Run(make_run(tmp_path / "r", rows, objectives=ONLINE, timing=timing)))
    assert [column.key for column in table.columns] == ["bleu", "kl", "seconds", "speed"]
    assert [(name, [cell.text for cell in cells]) for name, cells in table.rows] == [
        ("slow", ["43.00", "4.300", "45.0", "1.00"]),
        ("js", ["42.00", "4.200", "20.0", "2.25"]),
    ]
    assert "took 7.0 s" in table.caption and table.notes == ["js: resumed, so that the time includes loading again."]


def test_only_objectives_that_differ_in_nothing_else_are_twins(tmp_path):
    entries = Run(make_run(tmp_path / "r", {"js": 1}, objectives=ONLINE)).objectives
    assert online_pairs(entries) == {"slow": "js"}
    assert online_tables(Run(make_run(tmp_path / "s", {"js": 1}))) == []


def test_online_entries_are_written_and_checked():
    recipe = load_recipe(
        "restaurants", ["objectives=[js, {name: fresh, objective: js, online: true}, {objective: kl, online: true}]"]
    )
    assert [entry.reads_store for entry in recipe.objectives] == [True, False, False] and recipe.needs_store
    assert recipe.resolved()["objectives"][1:] == [
        {"name": "fresh", "objective": "js", "online": True},
        {"name": "kl", "objective": "kl", "online": True},
    ]
    with pytest.raises(RecipeError, match="rkl learns from no completions of the teacher; remove online"):
        load_recipe("restaurants", ["objectives=[{objective: rkl, online: true}]"])


def test_depths_stand_in_order_and_seeds_are_averaged(tmp_path):
    deep = {"encoder_layers": 3, "decoder_layers": 10}
    one, two = {**deep, "decoder_layers": 2}, deep
    folders = [
        make_run(tmp_path / "deep", {"teacher": 50, "js": 44}, student=two),
        make_run(tmp_path / "a", {"teacher": 50, "js": 40}, student=one),
        make_run(tmp_path / "b", {"teacher": 50, "js": 42}, student=one, seed=1),
    ]
    table = depth_table(group_runs(folders), "bleu")
    assert [column.label for column in table.columns] == ["3+2", "3+10"]
    cells = dict(table.rows)["js"]
    assert [cell.text for cell in cells] == ["41.00", "44.00"] and cells[0].margin == "±1.41"
    assert "| js | 41.00 ±1.41 | 44.00 ±0.50 |" in markdown(table) and "3+10" in latex(table)
    with pytest.raises(FDistillError, match="no row has the metric 'blue'"):
        depth_table(group_runs(folders), "blue")


def test_one_depth_or_none_is_refused(tmp_path):
    four = make_run(tmp_path / "a", {"js": 40}, student={"decoder_layers": 4})
    other = make_run(tmp_path / "b", {"js": 40}, student={"decoder_layers": 4}, objectives=["kl"])
    with pytest.raises(FDistillError, match="students of 4, 4 layers"):
        depth_table(group_runs([four, other]), "bleu")
    built = make_run(tmp_path / "c", {"js": 40}, student={"config": {"model_type": "t5"}})
    with pytest.raises(FDistillError, match="no depth to compare"):
        depth_table(group_runs([four, built]), "bleu")


def test_the_command_writes_tables_and_a_picture_a_metric(tmp_path, capsys):
    folders = [
        str(
            make_run(
                tmp_path / f"d{depth}",
                {"teacher": 50, "kl": 39 + depth, "js": 40 + depth},
                student={"decoder_layers": depth},
            )
        )
        for depth in (1, 2)
    ]
    out = tmp_path / "out"
    assert run(["depth", *folders, "--metric", "bleu", "--metric", "kl", "--out", str(out)]) == 0
    assert "Figure 2" in capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == {"depth.md", "depth.tex", "depth-bleu.png", "depth-kl.png"}
    assert (out / "depth.md").read_text().count("### Depth of the student") == 2
