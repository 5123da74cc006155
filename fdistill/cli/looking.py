"""Commands that look and change nothing: data, objectives, env, status."""

import json as json_module
from pathlib import Path
from typing import Any

from fdistill.cli import draw
from fdistill.cli.display import shown


def data(
    recipe_name: str, settings: list[str], split: str | None, limit: int | None, jsonl: bool, tokens: bool
) -> None:
    """Print statistics of a recipe's splits, or their text as JSON lines, opening only the split asked for."""
    from fdistill.recipe import load_recipe
    from fdistill.tasks import SPLITS, load_split, statistics

    recipe = load_recipe(recipe_name, settings)
    splits = [split] if split else [name for name in SPLITS if getattr(recipe.data, name) is not None]
    found = {}
    for name in splits or ["train"]:  # a recipe without data gets the reader's own message
        with shown() as display, display.step(name, f"reading {name}"):
            found[name] = load_split(recipe.data, name, recipe.seed)[:limit]
    if jsonl:
        for examples in found.values():
            for example in examples:
                draw.line(json_module.dumps(_line(example), ensure_ascii=False))
        return
    counted: dict[str, dict[str, Any]] = {}
    if tokens:
        with shown() as display, display.step("tokens", "counting tokens"):
            from fdistill.pipeline.lengths import TokenCounter

            counter = TokenCounter(recipe)
            counted = {name: counter(examples) for name, examples in found.items()}
    measured = {name: _flat(statistics(examples, **counted.get(name, {}))) for name, examples in found.items()}
    keys = list(dict.fromkeys(key for values in measured.values() for key in values))
    draw.plain_table(
        ["", *measured],
        [[key, *(values.get(key, "") for values in measured.values())] for key in keys],
        numeric=range(1, len(measured) + 1),
    )


def _line(example: Any) -> dict[str, Any]:
    line = {"prompt": example.prompt, "completion": example.completion}
    return line | ({"references": list(example.references)} if example.references else {})


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested statistics as one column of text; a spread in one line: least, median, mean, 95 %, greatest."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(value, dict) and "median" in value:
            numbers = [
                f"{value[part]:g}" if part != "mean" else f"{value[part]:.1f}"
                for part in ("min", "median", "mean", "p95", "max")
            ]
            flat[f"{name} (min, median, mean, 95 %, max)"] = "  ".join(numbers)
        elif isinstance(value, dict):
            flat |= _flat(value, f"{name}: ")
        else:
            flat[name] = f"{value:.1%}" if isinstance(value, float) else f"{value:,}"
    return flat


def objectives(json: bool) -> None:
    """Print the table of objectives; needs no torch."""
    from fdistill.objectives import OBJECTIVES

    if json:
        rows = {
            name: {"terms": e.terms, "source": e.source, "options": list(e.options)} for name, e in OBJECTIVES.items()
        }
        draw.as_json(rows)
        return
    draw.plain_table(
        ["objective", "terms (prefix source · word-level divergence)", "Wen et al. (2023)", "options"],
        [[name, entry.terms, entry.source, ", ".join(entry.options)] for name, entry in OBJECTIVES.items()],
    )


def env(json: bool) -> None:
    """Print versions and device."""
    with shown() as display, display.step("env", "asking PyTorch for the device"):
        from fdistill.pipeline.environment import environment

        found = environment()
    if json:
        draw.as_json(found)
        return
    device = found.pop("device")
    packages = found.pop("packages")
    rows = [*found.items(), ("device", ", ".join(f"{key} {value}" for key, value in device.items())), *packages.items()]
    for key, value in rows:
        draw.line(f"{key:14s} {value}")


def status(run: Path, json: bool) -> None:
    """Print where a run stands."""
    from fdistill.pipeline.status import run_status

    found = run_status(run)
    if json:
        draw.as_json(found)
        return
    rows = [[step["step"], step["state"], step["progress"], step["seconds"]] for step in found["steps"]]
    draw.plain_table(["step", "state", "progress", "seconds"], rows, numeric=(2, 3))
    draw.line(f"{found['complete']} of {len(rows)} steps complete in {run}{found['working']}")
    draw.line(found["next"])
