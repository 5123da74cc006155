"""Several runs on one page: who is averaged, who stands beside whom, and claims that must hold in every run."""

import json
import re
from pathlib import Path

import pytest
import yaml

from fdistill.cli import run as command
from fdistill.errors import FDistillError
from fdistill.report import claims, write_comparison
from fdistill.report.advice import advise
from fdistill.report.compare import differences, group_runs, labels
from fdistill.report.evidence import compare

RECIPE = {"data": {"format": "restaurants"}, "objectives": ["mle", "kl", "rkl"], "training": {"max_steps": 100}}


def estimate(value: float, half: float = 0.1) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + half}


def metrics(kl: float = 1.0, rkl: float = 2.0) -> dict:
    """Return a run's metrics in which the rows kl and rkl stand so far from the teacher."""

    def row(distance: float) -> dict:
        values = {"chrf": 60 - distance, "bleu": 50 - distance, "r_llh": 9 + distance, "r_cvg": 9 + distance}
        values |= {"kl": distance, "rkl": distance, "js": distance / 10, "tvd": distance / 5, "h_q": 8.0}
        return {name: estimate(value) for name, value in values.items()}

    teacher = {
        name: estimate(value) for name, value in {"chrf": 70, "r_llh": 9, "r_cvg": 9, "h_p": 9, "h_p_token": 1}.items()
    }
    return {"teacher": teacher, "mle": row(5.0), "kl": row(kl), "rkl": row(rkl)}


def folder(
    root: Path, name: str, seed: int, found: dict, *, test: str = "t", lengths: int = 3, **recipe: object
) -> Path:
    """Write what a report reads of a run."""
    path = root / name
    (path / "plots").mkdir(parents=True)
    curve = {key: [value] * lengths for key, value in estimate(0.1 * (seed + 1), 0.01).items()}
    environment = {"seed": seed, "device": {"type": "cpu"}, "data": {"test": test}}
    (path / "metrics.json").write_text(json.dumps(found))
    (path / "plots" / "curves.json").write_text(json.dumps({"prefix": {"kl": {"js": curve, "tvd": curve}}}))
    (path / "environment.json").write_text(json.dumps(environment))
    (path / "recipe.yaml").write_text(yaml.safe_dump({**RECIPE, **recipe, "seed": seed, "output": str(path)}))
    return path


@pytest.fixture
def seeds(tmp_path):
    """Three seeds of one experiment."""
    rivals = (2.0, 3.0, 4.0)
    return [
        folder(tmp_path, f"s{i}", i, metrics(1.0 + 0.1 * i, rivals[i]), test=f"t{i}", lengths=3 + i) for i in range(3)
    ]


def test_seeds_of_one_experiment_are_averaged_with_their_standard_deviation(seeds):
    (group,) = group_runs(seeds)
    assert group.seeds == [0, 1, 2]
    mean = group.metrics["rkl"]["kl"]
    assert mean["value"] == pytest.approx(3) and mean["high"] - mean["value"] == pytest.approx(1)
    curve = group.curves["kl"]["js"]
    assert len(curve["value"]) == 5 and curve["value"] == pytest.approx([0.2] * 5)
    assert curve["high"][0] - curve["value"][0] == pytest.approx(0.1)


def test_a_claim_holds_only_where_it_holds_in_every_run():
    def verdict(*rivals: float):
        found = claims.judge([metrics(1.0, rival) for rival in rivals])
        return next(v for v in found if (v.claim.metric, v.claim.better, v.claim.worse) == ("kl", "kl", "rkl"))

    assert verdict(2.0, 3.0, 1.3).verdict == "holds in all 3 runs"
    assert verdict(2.0, 3.0, 1.1).verdict == "not distinguishable at this size (apart in 2 of 3 runs)"
    assert verdict(0.5, 0.6).verdict == "the other way round here in both runs"
    assert verdict(1.0, 1.1).verdict == "not distinguishable at this size (apart in none of 2 runs)"
    split = verdict(0.5, 2.0)
    assert split.kind == "open" and "one way in 1 of 2 runs, the other in 1" in split.verdict


def test_a_run_without_a_row_does_not_speak_for_it():
    without = metrics()
    del without["rkl"]
    assert compare([metrics(), without], "kl", "kl", "rkl").runs == 1
    assert not compare([without], "kl", "kl", "rkl").apart


def test_a_choice_is_told_from_another_only_where_every_run_does():
    runs = [metrics(1.0, 2.0), metrics(1.0, 1.1)]
    found = {advice.purpose.metric: advice.choice for advice in advise(runs[0], runs)}
    assert found["kl"] == "kl, or as good at this size: rkl"
    assert {advice.purpose.metric: advice.choice for advice in advise(runs[0])}["kl"] == "kl"


def test_experiments_are_told_apart_by_what_differs_in_their_recipes(tmp_path):
    a = folder(tmp_path, "a", 0, metrics())
    b = folder(tmp_path, "b", 0, metrics(0.5), training={"max_steps": 200})
    again = folder(tmp_path, "a1", 1, metrics())
    groups = group_runs([a, b, again])
    assert [group.seeds for group in groups] == [[0, 1], [0]]
    assert differences(groups) == ["training.max_steps"] and labels(groups) == ["max_steps 100", "max_steps 200"]
    many = folder(
        tmp_path, "c", 0, metrics(), training={"max_steps": 3}, student={"decoder_layers": 1}, store={"draws": 2}
    )
    assert labels(group_runs([a, many])) == ["a", "c"]


def test_experiments_tested_on_the_same_inputs_stand_side_by_side(tmp_path):
    a = folder(tmp_path, "a", 0, metrics())
    b = folder(tmp_path, "b", 0, metrics(0.5), training={"max_steps": 200})
    page, (part,) = write_comparison([a, b], tmp_path / "out")
    table = next(table for table in part.tables if "objective × sequence" in table.title)
    assert [name for name, _ in table.rows][2:4] == ["kl · max_steps 100", "kl · max_steps 200"]
    best = next(cells[0] for name, cells in table.rows if name == "kl · max_steps 200")
    assert best.rank == 1
    risks = next(table for table in part.tables if "Table 3" in table.title)
    assert all(cell.rank == 0 for name, cells in risks.rows if name.startswith("teacher") for cell in cells)
    assert part.notes == ["What sets them apart: training.max_steps is 100 in max_steps 100 and 200 in max_steps 200."]
    assert "<h3>max_steps 200</h3>" in page.read_text()


def test_experiments_tested_on_other_inputs_get_a_part_each(tmp_path):
    a = folder(tmp_path, "a", 0, metrics(), test="one")
    b = folder(tmp_path, "b", 0, metrics(), test="other", training={"max_steps": 200})
    page, parts = write_comparison([a, b], tmp_path / "out")
    assert [part.heading for part in parts] == ["max_steps 100", "max_steps 200"]
    text = page.read_text()
    assert "not tested on the same inputs" in text
    for target in re.findall(r'href="#([\w-]+)"', text):
        assert f'id="{target}"' in text


def test_the_page_stands_alone_and_its_tables_go_into_papers(seeds, tmp_path):
    page, _ = write_comparison(seeds, tmp_path / "out")
    text = page.read_text()
    assert "One experiment with seeds 0, 1, 2" in text and "the standard deviation over 3 runs" in text
    assert "<script" not in text and "<link" not in text and "holds in all 3 runs" in text
    for target in re.findall(r'href="#([\w-]+)"', text):
        assert f'id="{target}"' in text
    markdown, latex = (tmp_path / "out" / f"comparison.{kind}" for kind in ("md", "tex"))
    assert "| kl | **1.100** ±0.100 |" in markdown.read_text() and "### What these 3 runs show" in markdown.read_text()
    assert r"\textbf{1.100} {\scriptsize $\pm$0.100}" in latex.read_text()
    assert (tmp_path / "out" / "plots" / "plane.png").exists() and (tmp_path / "out" / "plots" / "prefix.png").exists()


def test_one_run_twice_would_count_twice_and_is_refused(seeds):
    with pytest.raises(FDistillError, match="are one experiment with one seed, 0, and would count twice"):
        group_runs([seeds[0], seeds[1], seeds[0]])


def test_the_command_takes_a_recipe_or_folders_and_prints_what_the_runs_show(seeds, tmp_path, capsys):
    names = [str(path) for path in seeds]
    assert command(["report", *names, "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "What these 3 runs show" in shown and shown.endswith(f"comparison: {tmp_path / 'out' / 'comparison.html'}\n")
    assert command(["report", names[0]]) == 0
    assert capsys.readouterr().out == f"{seeds[0] / 'report.html'}\n"
    for arguments, line in (
        ([names[0], "nowhere"], "nowhere is no folder"),
        ([*names, "--set", "seed=1"], "--set changes a recipe"),
        ([str(tmp_path)], "it has no metrics.json"),
    ):
        assert command(["report", *arguments]) == 2
        assert line in capsys.readouterr().err
