"""The commands, each a few lines: parse, call the library, print."""

import gc
from pathlib import Path
from typing import Annotated, Any

import typer

from fdistill.cli import draw
from fdistill.cli.display import shown

app = typer.Typer(
    name="fdistill",
    help="Sequence-level knowledge distillation as f-divergence minimisation (Wen et al., ACL 2023).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="A recipe is a built-in name (restaurants, e2e, dart, xsum, …) or the path of a YAML file.",
)


def _recipes(incomplete: str) -> list[str]:
    """The built-in recipes that a shell offers; files it completes itself."""
    from fdistill.recipe import built_in_recipes

    return [name for name in built_in_recipes() if name.startswith(incomplete)]


_COMPLETE: Any = {"autocompletion": _recipes}
RecipeName = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A built-in recipe's name, or the path of a YAML file.", **_COMPLETE)
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a key of the recipe, e.g. training.max_steps=12; repeatable."
    ),
]
NoVerify = Annotated[bool, typer.Option("--no-verify", help="Do not check the losses on this device before training.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show the log and other libraries' warnings on stderr.")]


def _version(wanted: bool) -> None:
    if wanted:
        import fdistill

        draw.line(f"fdistill {fdistill.__version__}")
        raise typer.Exit()


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


# ---------------------------------------------------------------------------- whole runs and their stages


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the run's folder goes.")] = Path("runs/demo"),
    seed: Annotated[int, typer.Option(min=0, help="Of everything random in it.")] = 0,
    settings: Settings = None,
    no_verify: NoVerify = False,
    verbose: Verbose = False,
) -> None:
    """The whole pipeline on a built-in task: a few minutes on a laptop CPU, no download."""
    own = [f"output={out}", f"seed={seed}"]
    _whole_run("restaurants", [*(settings or []), *own], no_verify, verbose)


@app.command()
def run(recipe: RecipeName, settings: Settings = None, no_verify: NoVerify = False, verbose: Verbose = False) -> None:
    """Everything: teacher, offline samples, pre-distilled student, a student of every objective, scores, report.

    Stages that are complete are skipped, one that was interrupted goes on where it stopped.
    """
    _whole_run(recipe, settings, no_verify, verbose)


@app.command()
def teacher(
    recipe: RecipeName, settings: Settings = None, no_verify: NoVerify = False, verbose: Verbose = False
) -> None:
    """Up to the teacher alone: one by name, fine-tuned where its training says so, or one built and trained."""
    draw.line(str(_run_until("teacher", recipe, settings, no_verify, verbose).folder.teacher))


@app.command()
def sample(recipe: RecipeName, settings: Settings = None, verbose: Verbose = False) -> None:
    """Up to the teacher's offline samples: the store that students learn from."""
    folder = _run_until("sample", recipe, settings, True, verbose).folder
    if not folder.store.exists():
        draw.line("no objective of this recipe reads teacher samples")
        return
    from fdistill.store import TeacherStore

    store = TeacherStore.open(folder.store)
    draw.line(f"{folder.store}: {len(store)} completions of {store.examples} examples ({', '.join(store.kinds)})")


@app.command()
def predistill(
    recipe: RecipeName, settings: Settings = None, no_verify: NoVerify = False, verbose: Verbose = False
) -> None:
    """Up to the pre-distilled student, which every distilled one starts from."""
    folder = _run_until("predistill", recipe, settings, no_verify, verbose).folder
    draw.line(str(folder.predistilled) if folder.predistilled.exists() else "this recipe has no predistill section")


@app.command()
def train(recipe: RecipeName, settings: Settings = None, no_verify: NoVerify = False, verbose: Verbose = False) -> None:
    """Up to a trained student of every objective."""
    pipeline = _run_until("train", recipe, settings, no_verify, verbose)
    for entry in pipeline.recipe.objectives:
        draw.line(str(pipeline.folder.students / entry.name))


@app.command()
def evaluate(
    recipe: RecipeName, settings: Settings = None, no_verify: NoVerify = False, verbose: Verbose = False
) -> None:
    """Up to the scores of every model, printed as the paper's Tables 2 and 3 and the sequence-level divergences."""
    pipeline = _run_until("evaluate", recipe, settings, no_verify, verbose)
    _print_tables(pipeline)


@app.command()
def report(
    names: Annotated[
        list[str],
        typer.Argument(metavar="RECIPE | RUN...", help="A recipe, or the output folders of runs.", **_COMPLETE),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where the comparison of several runs goes.")
    ] = Path("runs/comparison"),
    settings: Settings = None,
    no_verify: NoVerify = False,
    verbose: Verbose = False,
) -> None:
    """Up to report.html, tables in Markdown and LaTeX, and plots; of several runs, a page that compares them.

    Runs that differ in nothing but the seed are averaged, others stand side by side.
    """
    from fdistill.cli import reporting

    folders = reporting.run_folders(names, settings or [])
    if not folders:
        pipeline = _run_until("evaluate", names[0], settings, no_verify, verbose)
        draw.line(str(_write_report(pipeline, verbose)))
    elif len(folders) == 1:
        draw.line(str(reporting.again(folders[0], verbose)))
    else:
        reporting.compare(folders, out, verbose)


def _whole_run(recipe: str, settings: list[str] | None, no_verify: bool, verbose: bool) -> None:
    pipeline = _run_until("evaluate", recipe, settings, no_verify, verbose)
    _print_tables(pipeline)
    page = _write_report(pipeline, verbose)
    draw.line(f"report: {page}")


def _run_until(stage: str, name: str, settings: list[str] | None, no_verify: bool, verbose: bool) -> Any:
    from fdistill.recipe import load_recipe

    recipe = load_recipe(name, settings or [])
    with shown(verbose) as display:
        with display.step("start", "loading PyTorch and Transformers"):
            from fdistill.pipeline.stages import Pipeline

            pipeline = Pipeline(recipe, display, verify=not no_verify)
        display.forget("start")
        gc.freeze()  # every training begins with a collection, which need not search all that was imported
        try:
            pipeline.run(until=stage)
        finally:
            gc.unfreeze()
    return pipeline


def _print_tables(pipeline: Any) -> None:
    from fdistill.cli import reporting
    from fdistill.pipeline.folder import read_json
    from fdistill.report import claims, folder, online, tables

    metrics = read_json(pipeline.folder.metrics, {})
    made = [*tables.run_tables(metrics), *online.online_tables(folder.Run(pipeline.folder.root))]
    reporting.show(made, claims.lines([metrics]))


def _write_report(pipeline: Any, verbose: bool) -> Path:
    with shown(verbose) as display, display.step("report", "writing the report"):
        from fdistill.report import write_report

        with pipeline.folder.timed("report"):
            return write_report(pipeline.folder.root)


@app.command()
def depth(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Runs' folders, of students of different depths.")
    ],
    metric: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A metric of metrics.json; repeatable.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write depth.md, depth.tex and a picture a metric there.")
    ] = None,
) -> None:
    """How quality grows with the student's depth, for every objective (the paper's Figure 2)."""
    from fdistill.cli import reporting

    reporting.depth(runs, metric or ["bleu"], out)


@app.command()
def significance(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="A run's folder, or those of its seeds.")],
    metric: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A metric of metrics.json; repeatable.")
    ] = None,
    resamples: Annotated[int, typer.Option(min=100, help="Of the interval and of the test.")] = 2000,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write significance.md and significance.tex there.")
    ] = None,
) -> None:
    """Which models differ beyond chance: paired bootstrap and permutation tests between all rows of a run."""
    from fdistill.cli import reporting

    reporting.significance(runs, metric or [], resamples, out)


# ---------------------------------------------------------------------------- looking at things


@app.command()
def verify(
    device: Annotated[str, typer.Option(help="Where to compute: cpu, cuda, cuda:1, …")] = "cpu",
    dtype: Annotated[str, typer.Option(help="Of the logits: float32, bfloat16, float64, …")] = "float32",
    seed: Annotated[int, typer.Option(min=0, help="Of the random models.")] = 0,
    cases: Annotated[
        bool, typer.Option("--cases", help="Every objective with every option: its largest error.")
    ] = False,
    loss: Annotated[
        str | None, typer.Option(metavar="MODULE:FUNCTION", help="Judge a loss of your own instead.")
    ] = None,
    expected: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="What that loss should be: js, kl, …")
    ] = None,
    options: Annotated[
        list[str] | None, typer.Option("--with", metavar="KEY=VALUE", help="Arguments for that loss.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check on this machine that the losses compute what the paper says, or judge a loss of your own."""
    from fdistill.cli import checking

    raise typer.Exit(checking.verify(device, dtype, seed, cases, loss, expected, options or [], json))


@app.command()
def data(
    recipe: RecipeName,
    settings: Settings = None,
    split: Annotated[str | None, typer.Option(help="train, validation or test; without it, all.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many examples.")] = None,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Print prompt and completion as JSON lines.")] = False,
    tokens: Annotated[
        bool, typer.Option("--tokens", help="Also count tokens, and the share of texts that training truncates.")
    ] = False,
) -> None:
    """Statistics of a recipe's text, or the text itself; needs no model."""
    from fdistill.cli import looking

    looking.data(recipe, settings or [], split, limit, jsonl, tokens)


@app.command()
def objectives(json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """The objectives, their terms and options."""
    from fdistill.cli import looking

    looking.objectives(json)


@app.command()
def env(json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Versions and device, for a bug report."""
    from fdistill.cli import looking

    looking.env(json)


@app.command()
def status(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Where a run stands."""
    from fdistill.cli import looking

    looking.status(run, json)
