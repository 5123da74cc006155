"""A page that compares several runs: means over the seeds of one experiment, and experiments side by side."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fdistill.errors import FDistillError
from fdistill.report import tables
from fdistill.report.advice import advise
from fdistill.report.claims import judge
from fdistill.report.folder import Run
from fdistill.report.page import Part, cards, machine, render, write_pages
from fdistill.report.plots import draw_plots
from fdistill.report.significance import report_tables
from fdistill.report.tables import BESIDE, Estimates, Metrics

OWN = ("seed", "output")  # what seeds of one experiment may differ in
UNSET = "unset"


@dataclass(frozen=True)
class Group:
    """Runs whose recipes differ in nothing but the seed."""

    runs: tuple[Run, ...]

    @cached_property
    def metrics(self) -> Metrics:
        """Return means over the runs; an estimate's interval is its standard deviation over them, or one run's own."""
        rows = dict.fromkeys(name for run in self.runs for name in run.metrics)
        return {name: _mean_row([run.metrics[name] for run in self.runs if name in run.metrics]) for name in rows}

    @cached_property
    def curves(self) -> dict[str, Any]:
        """Return prefix curves, means over the runs with their standard deviation."""
        found: dict[str, list[Any]] = {}
        for run in self.runs:
            for name, curve in run.curves.get("prefix", {}).items():
                found.setdefault(name, []).append(curve)
        return {
            name: {kind: _mean_curve([curve[kind] for curve in curves]) for kind in ("js", "tvd")}
            for name, curves in found.items()
        }

    @property
    def settings(self) -> dict[str, str]:
        """Return the recipe, flat, without what seeds differ in."""
        return {k: v for k, v in _flat(self.runs[0].recipe).items() if k.split(".")[0] not in OWN}

    @property
    def seeds(self) -> list[Any]:
        """Return the runs' seeds."""
        return [_seed(run) for run in self.runs]

    @property
    def tests(self) -> set[str]:
        """Return the fingerprints of the runs' test splits."""
        return {run.environment.get("data", {}).get("test", "") for run in self.runs}


def group_runs(folders: Sequence[str | Path]) -> list[Group]:
    """Read runs and put those together whose recipes differ in nothing but the seed, in the order given.

    Raises:
        FDistillError: a folder holds no evaluated run, or two are the same experiment with the same seed.
    """
    groups: dict[Any, list[Run]] = {}
    for folder in folders:
        run = Run(Path(folder))
        run.check()
        flat = {k: v for k, v in _flat(run.recipe).items() if k.split(".")[0] not in OWN}
        groups.setdefault(tuple(sorted(flat.items())) or run.folder, []).append(run)
    for runs in groups.values():
        seen: dict[Any, Run] = {}
        for run in runs:
            if _seed(run) in seen:
                raise FDistillError(
                    f"{seen[_seed(run)].folder} and {run.folder} are one experiment with one seed, {_seed(run)}, and "
                    "would count twice. Leave one out."
                )
            seen[_seed(run)] = run
    return [Group(tuple(runs)) for runs in groups.values()]


def write_comparison(folders: Sequence[str | Path], out: str | Path) -> tuple[Path, list[Part]]:
    """Write comparison.html, .md, .tex and plots/ of several runs; return the page's path and what it says.

    Args:
        folders: of runs, at least two, each with metrics.json in it.
        out: a folder of its own.
    """
    if len(folders) < 2:
        raise FDistillError(f"a comparison needs at least two runs, and here is {len(folders)}.")
    out = Path(out)
    groups = group_runs(folders)
    parts = _parts(groups, labels(groups), out / "plots")
    runs = [run for group in groups for run in group.runs]
    page = render(
        f"f-DISTILL: {len(runs)} runs",
        _subtitle(groups),
        parts,
        again=[f"fdistill run {run.folder / 'recipe.yaml'}" for run in runs]
        + [f"fdistill report {' '.join(str(run.folder) for run in runs)} --out {out}"],
        details=[(f"Recipe of {run.folder}", run.recipe_text) for run in runs],
    )
    seeds = groups[0].runs if len(groups) == 1 else ()
    write_pages(out, "comparison", page, parts, report_tables(seeds) if seeds else ())
    return out / "comparison.html", parts


def labels(groups: Sequence[Group]) -> list[str]:
    """Return what each group is called: what sets it apart where that is short, else its first run's folder."""
    settings = [group.settings for group in groups]
    apart = differences(groups)
    names = [group.runs[0].name for group in groups]
    if 0 < len(apart) <= 2:
        short = [", ".join(f"{k.rpartition('.')[2]} {flat.get(k, UNSET)}" for k in apart) for flat in settings]
        if len(set(short)) == len(short) and max(map(len, short)) <= 40:
            return short
    if len(set(names)) == len(names):
        return names
    return [str(group.runs[0].folder) for group in groups]


def differences(groups: Sequence[Group]) -> list[str]:
    """Return the keys of the recipe, dotted, in which groups differ."""
    settings = [group.settings for group in groups]
    keys = dict.fromkeys(key for flat in settings for key in flat)
    return [key for key in keys if len({flat.get(key) for flat in settings}) > 1]


def _parts(groups: Sequence[Group], names: Sequence[str], plots: Path) -> list[Part]:
    """One part where all groups were tested on the same inputs, rows side by side; else one a group."""
    if len(groups) == 1:
        return [_part(groups[0], "", plots)]
    if any(group.tests != groups[0].tests for group in groups):
        return [_part(group, name, plots / f"{at}") for at, (group, name) in enumerate(zip(groups, names, strict=True))]
    metrics = _beside([group.metrics for group in groups], names)
    curves = _beside([group.curves for group in groups], names)
    runs = max(len(group.runs) for group in groups)
    part = Part(
        "",
        tables.run_tables(metrics, margin=_margin(runs)),
        draw_plots(metrics, {"prefix": curves}, plots),
        [],
        [
            (name, judge(_each(group)), advise(group.metrics, _each(group)))
            for group, name in zip(groups, names, strict=True)
        ],
        runs,
        [_apart(groups, names)],
    )
    return [part]


def _part(group: Group, heading: str, plots: Path) -> Part:
    runs = _each(group)
    seeds = runs if len(runs) > 1 else []
    return Part(
        heading,
        tables.run_tables(group.metrics, runs, _margin(len(runs))),
        draw_plots(group.metrics, {"prefix": group.curves}, plots, seeds),
        cards(group.metrics, group.runs[0].objectives),
        [("", judge(runs), advise(group.metrics, runs))],
        len(runs),
    )


def _each(group: Group) -> list[Metrics]:
    return [run.metrics for run in group.runs]


def _margin(runs: int) -> str:
    return tables.MARGIN if runs == 1 else f"the standard deviation over {runs} runs"


def _beside(groups: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """Rows of every group under one another: {"js · a": …, "js · b": …}."""
    rows = dict.fromkeys(row for group in groups for row in group)
    return {
        f"{row}{BESIDE}{name}": group[row]
        for row in rows
        for group, name in zip(groups, names, strict=True)
        if row in group
    }


def _apart(groups: Sequence[Group], names: Sequence[str]) -> str:
    """What sets the groups apart, in a sentence."""

    def values(key: str) -> str:
        return " and ".join(
            f"{group.settings.get(key, UNSET)} in {name}" for group, name in zip(groups, names, strict=True)
        )

    told = [f"{key} is {values(key)}" for key in differences(groups)]
    return f"What sets them apart: {'; '.join(told)}." if told else ""


def _subtitle(groups: Sequence[Group]) -> str:
    runs = [run for group in groups for run in group.runs]
    machines = ", ".join(dict.fromkeys(machine(run) for run in runs))
    if len(groups) == 1:
        seeds = ", ".join(map(str, groups[0].seeds))
        return f"One experiment with seeds {seeds}, on {machines}: means over the runs, ± their standard deviation."
    same = all(group.tests == groups[0].tests for group in groups)
    how = "side by side" if same else "one after the other, since they were not tested on the same inputs"
    return f"{len(groups)} experiments ({len(runs)} runs) {how}, on {machines}. Several seeds of one are averaged."


def _mean_row(rows: Sequence[Estimates]) -> dict[str, dict[str, float]]:
    keys = dict.fromkeys(key for row in rows for key in row)
    return {key: _mean([row[key] for row in rows if key in row]) for key in keys}


def _mean(estimates: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of estimates ± their standard deviation (n - 1); one alone keeps its own interval."""
    if len(estimates) == 1:
        return dict(estimates[0])
    values = [estimate["value"] for estimate in estimates]
    mean, deviation = _moments(values)
    return {"value": mean, "low": mean - deviation, "high": mean + deviation}


def _mean_curve(curves: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, list[float]]:
    """The mean of curves ± their standard deviation; a curve that ends stays where it was."""
    if len(curves) == 1:
        return {key: list(values) for key, values in curves[0].items()}
    length = max(len(curve["value"]) for curve in curves)
    padded = [[*curve["value"], *[curve["value"][-1]] * (length - len(curve["value"]))] for curve in curves]
    moments = [_moments(values) for values in zip(*padded, strict=True)]
    return {
        "value": [mean for mean, _ in moments],
        "low": [mean - deviation for mean, deviation in moments],
        "high": [mean + deviation for mean, deviation in moments],
    }


def _moments(values: Sequence[float]) -> tuple[float, float]:
    mean = math.fsum(values) / len(values)
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def _seed(run: Run) -> Any:
    return run.environment.get("seed", run.recipe.get("seed"))


def _flat(value: Any, prefix: str = "") -> dict[str, str]:
    """Nested settings as one level of dotted keys and texts; what is null is left out."""
    if isinstance(value, Mapping):
        return {k: v for key, inner in value.items() for k, v in _flat(inner, f"{prefix}{key}.").items()}
    return {} if value is None else {prefix.rstrip("."): str(value)}
