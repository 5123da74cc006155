"""`fdistill report` on the folders of runs: a page of one again, or a page that compares several."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fdistill.cli import draw
from fdistill.cli.display import shown
from fdistill.errors import FDistillError

if TYPE_CHECKING:
    from fdistill.report.tables import Table


def run_folders(names: Sequence[str], settings: Sequence[str]) -> list[Path]:
    """Return the runs' folders that the arguments name, or [] where they are one recipe.

    Raises:
        FDistillError: some are folders and some are not, or --set is given for runs that are over.
    """
    from fdistill.recipe import built_in_recipes

    if len(names) == 1 and (names[0] in built_in_recipes() or not Path(names[0]).is_dir()):
        return []
    for name in names:
        if not Path(name).is_dir():
            raise FDistillError(
                f"{name} is no folder. fdistill report takes one recipe, or the output folders of runs, such as runs/demo."
            )
    if settings:
        raise FDistillError("--set changes a recipe, and folders hold runs that are over. Leave it out.")
    return [Path(name) for name in names]


def again(folder: Path, verbose: bool) -> Path:
    """Write the report of a run from its folder, whatever its recipe was; return the page."""
    with shown(verbose) as display, display.step("report", "writing the report"):
        from fdistill.report import write_report

        return write_report(folder)


def compare(folders: Sequence[Path], out: Path, verbose: bool) -> None:
    """Write the page that compares runs, and print what it says."""
    with shown(verbose) as display, display.step("report", "comparing the runs"):
        from fdistill.report import write_comparison
        from fdistill.report.page import shows

        page, parts = write_comparison(folders, out)
    for part in parts:
        if part.heading:
            draw.line(part.heading)
        for note in part.notes:
            draw.line(note)
        for heading, verdicts, _ in part.judged:
            title = f"{shows(part.runs)}: {heading}" if heading else shows(part.runs)
            lines = [title, *(f"  {verdict.text}" for verdict in verdicts), ""] if verdicts else []
            show(part.tables if heading == part.judged[0][0] else [], lines)
    draw.line(f"comparison: {page}")


def show(tables: Iterable["Table"], lines: Iterable[str]) -> None:
    """Print tables, and lines under them."""
    for table in tables:
        draw.result_table(table)
    for text in lines:
        draw.line(text)


def depth(folders: Sequence[Path], metrics: Sequence[str], out: Path | None) -> None:
    """Print a table a metric of quality by depth, and write and draw them where asked."""
    with shown() as display, display.step("depth", "comparing depths"):
        from fdistill.report.compare import group_runs
        from fdistill.report.depth import depth_table, draw_depth

        groups = group_runs(folders)
        tables = [depth_table(groups, metric) for metric in metrics]
    show(tables, [])
    if out is not None:
        write_tables(out, "depth", tables)
        for metric, table in zip(metrics, tables, strict=True):
            draw_depth(table, out / f"depth-{metric}.png")
            draw.line(f"picture: {out / f'depth-{metric}.png'}")


def significance(folders: Sequence[Path], metrics: Sequence[str], resamples: int, out: Path | None) -> None:
    """Print the tables of differences between rows, and write them where asked."""
    with shown() as display, display.step("significance", "testing differences"):
        from fdistill.report.compare import group_runs
        from fdistill.report.significance import significance_tables

        groups = group_runs(folders)
        if len(groups) > 1:
            raise FDistillError(
                f"these runs are {len(groups)} experiments; the rows of one are compared, over its seeds. Name runs that "
                "differ in the seed alone, or one run."
            )
        tables = significance_tables(groups[0].runs, metrics, resamples=resamples)
    show(tables, [])
    if out is not None:
        write_tables(out, "significance", tables)


def write_tables(out: Path, name: str, made: Sequence["Table"]) -> None:
    """Write tables as Markdown and LaTeX, and say where."""
    from fdistill.report.tables import latex, markdown

    out.mkdir(parents=True, exist_ok=True)
    for ending, form in (("md", markdown), ("tex", latex)):
        (out / f"{name}.{ending}").write_text("\n".join(form(table) for table in made), encoding="utf-8")
    draw.line(f"tables: {out / name}.md, {out / name}.tex")
