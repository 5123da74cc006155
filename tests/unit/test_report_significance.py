"""Tables of differences between rows: who is better, who cannot be told apart, and what is refused."""

import json
import math

import numpy as np
import pytest
import yaml

from fdistill.cli import run
from fdistill.errors import FDistillError
from fdistill.report import write_comparison, write_report
from fdistill.report.folder import Run
from fdistill.report.significance import report_tables, significance_tables
from fdistill.report.tables import latex, markdown

N = 60


def make_run(folder, seed=0, shift=0.0, inputs=N):
    """A run of three students: b is 1 nat above a on every input, c is a and noise."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(7)
    base = rng.gamma(3.0, 2.0, size=inputs) + shift
    values = {"a": base, "b": base + 1 + rng.normal(0, 0.3, inputs), "c": base + rng.normal(0, 0.3, inputs)}
    lines = {"a": (8, 6), "b": (8, 2), "c": (8, 6)}
    (folder / "scores").mkdir()
    metrics = {"teacher": {"bleu": {"value": 0.0, "low": 0.0, "high": 0.0}}}
    for name, value in values.items():
        length, hits = lines[name]
        bleu = np.tile([length, length, hits, hits - 1, 1, 1, 8, 7, 6, 5], (inputs, 1)).astype(float)
        np.savez_compressed(folder / "scores" / f"{name}.npz", kl=value[:, None], bleu=bleu)
        metrics[name] = {
            metric: {"value": float(value.mean()), "low": 0.0, "high": 0.0} for metric in ("kl", "bleu", "bleu1")
        }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "recipe.yaml").write_text(yaml.safe_dump({"seed": seed, "output": str(folder), "objectives": ["kl"]}))
    (folder / "environment.json").write_text(json.dumps({"seed": seed, "data": {"test": "x"}}))
    return folder


def cells(table):
    return {
        (row, column.key): cell for row, found in table.rows for column, cell in zip(table.columns, found, strict=True)
    }


def test_rows_that_differ_are_marked_and_others_named(tmp_path):
    (table,) = significance_tables([Run(make_run(tmp_path / "r"))], ["kl"])
    found = cells(table)
    assert found["a", "b"].rank == 1 and found["b", "a"].rank == 2  # less KL is better
    assert found["a", "b"].value == pytest.approx(-1, abs=0.15) == pytest.approx(-found["b", "a"].value, abs=0.15)
    assert found["a", "b"].low < found["a", "b"].value < found["a", "b"].high < 0
    assert found["a", "c"].rank == 0 and found["a", "a"].value is None
    assert [note for note in table.notes if note.startswith("a and c: not distinguishable")]
    assert not [note for note in table.notes if note.startswith("a and b")]


def test_more_bleu_is_better_and_lower_orders_use_the_same_statistics(tmp_path):
    bleu, bleu1 = significance_tables([Run(make_run(tmp_path / "r"))], ["bleu", "bleu1"])
    assert cells(bleu)["a", "b"].rank == 1
    assert cells(bleu1)["a", "b"].value == pytest.approx(100 * (6 - 2) / 8)
    wanted = 100 * math.exp((math.log(6 / 8) + math.log(5 / 7) + math.log(1 / 6) + math.log(1 / 5)) / 4)
    lesser = 100 * math.exp((math.log(2 / 8) + math.log(1 / 7) + math.log(1 / 6) + math.log(1 / 5)) / 4)
    assert cells(bleu)["a", "b"].value == pytest.approx(wanted - lesser)


def test_tables_have_both_forms(tmp_path):
    (table,) = significance_tables([Run(make_run(tmp_path / "r"))], ["kl"])
    assert "| a | – | **-0.9" in markdown(table) and r"a & -- & \textbf{-0.9" in latex(table)


def test_the_command_takes_seeds_of_one_experiment(tmp_path, capsys):
    folders = [str(make_run(tmp_path / f"s{seed}", seed, shift=seed)) for seed in (0, 1)]
    out = tmp_path / "out"
    assert run(["significance", *folders, "--metric", "kl", "--out", str(out)]) == 0
    assert "means over 2 runs" in " ".join(capsys.readouterr().out.split())
    assert "means over 2 runs" in (out / "significance.md").read_text()
    assert (out / "significance.tex").read_text().count(r"\begin{table}") == 1


def test_reports_end_with_them(tmp_path):
    one, two = (make_run(tmp_path / f"s{seed}", seed) for seed in (0, 1))
    write_report(one)
    assert "### Differences: BLEU" in (one / "report.md").read_text()
    write_comparison([one, two], tmp_path / "both")
    assert "means over 2 runs" in (tmp_path / "both" / "comparison.tex").read_text()
    fewer = make_run(tmp_path / "s2", 2, inputs=N - 1)  # rows of other inputs cannot be paired
    assert report_tables([Run(one), Run(fewer)]) == []
    with pytest.raises(FDistillError, match="need the same test inputs"):
        significance_tables([Run(one), Run(fewer)], ["kl"])


def test_other_experiments_unknown_metrics_and_old_runs_are_refused(tmp_path):
    one, other = make_run(tmp_path / "one"), make_run(tmp_path / "other")
    recipe = yaml.safe_load((other / "recipe.yaml").read_text())
    (other / "recipe.yaml").write_text(yaml.safe_dump(recipe | {"objectives": ["js"]}))
    assert run(["significance", str(one), str(other)]) == 2
    with pytest.raises(FDistillError, match=r"no two rows have per-input scores of 'blue'\. Did you mean 'bleu'"):
        significance_tables([Run(one)], ["blue"])
    for file in (other / "scores").iterdir():
        file.unlink()
    with pytest.raises(FDistillError, match="holds no per-input scores"):
        significance_tables([Run(other)], ["kl"])
