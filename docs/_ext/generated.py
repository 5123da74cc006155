"""Parts of the reference that are read off the code at build time; `<!-- generated: NAME -->` in a page says where."""

import dataclasses
import inspect
import json
import re
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
MARK = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)
OPTIONAL = re.compile(r"^\?(\S+)\n", re.MULTILINE)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    head = list(head)
    lines = [head, ["---"] * len(head), *([cell.replace("|", r"\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def code(value: Any) -> str:
    return f"`{value}`"


# --- recipes ---------------------------------------------------------------------------------------------------------


def recipe() -> str:
    """Every section of a recipe with its keys, from the schema that checks recipes."""
    from fdistill.recipe.schema import ObjectiveEntry, Recipe

    sections = {"Top level": Recipe}
    for key, field in Recipe.model_fields.items():
        for kind in _options_of(field.annotation):
            if isinstance(kind, type) and hasattr(kind, "model_fields"):
                sections[key] = kind
    made = []
    for name, model in sections.items():
        title = name if model is Recipe else code(name)
        made.append(f"## {title}\n\n{inspect.getdoc(model)}\n\n{_keys(model)}")
    entry = f"## One of `objectives`\n\n{inspect.getdoc(ObjectiveEntry)}\n\n{_keys(ObjectiveEntry)}"
    return "\n".join([*made, entry])


def _keys(model: Any) -> str:
    rows = []
    for key, field in model.model_fields.items():
        default = "needed" if field.is_required() else code(_plain(field.get_default(call_default_factory=True)))
        rows.append([code(key), _kind(field), default, _sentence(field.description or _doc_of(field.annotation))])
    return table(["key", "holds", "default", "meaning"], rows)


def _plain(value: Any) -> str:
    if hasattr(value, "model_dump"):
        return "{" + ", ".join(f"{key}: {_plain(inner)}" for key, inner in value.model_dump().items()) + "}"
    return json.dumps(value, ensure_ascii=False)


def _kind(field: Any) -> str:
    kinds = [_word(option) for option in _options_of(field.annotation)]
    limits = [
        f"{sign} {getattr(m, name):g}" for m in field.metadata for name, sign in _SIGNS.items() if hasattr(m, name)
    ]
    return " or ".join(dict.fromkeys(kinds)) + (f", {' and '.join(limits)}" if limits else "")


_SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
_WORDS = {int: "whole number", float: "number", str: "text", bool: "true or false", type(None): "null"}


def _word(kind: Any) -> str:
    if kind in _WORDS:
        return _WORDS[kind]
    origin = typing.get_origin(kind)
    if origin is typing.Annotated:
        inner, *facts = typing.get_args(kind)
        limits = [
            f"{s} {getattr(m, n):g}"
            for f in facts
            for m in getattr(f, "metadata", [f])
            for n, s in _SIGNS.items()
            if hasattr(m, n)
        ]
        return " ".join([_word(inner), *limits])
    if origin is typing.Literal:
        return " or ".join(code(value) for value in typing.get_args(kind))
    if origin is list:
        return "list"
    return "mapping"


def _options_of(annotation: Any) -> list[Any]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [inner for option in typing.get_args(annotation) for inner in _options_of(option)]
    return [annotation]


def _doc_of(annotation: Any) -> str:
    for kind in _options_of(annotation):
        if isinstance(kind, type) and hasattr(kind, "model_fields"):
            return inspect.getdoc(kind) or ""
    return ""


def _sentence(text: str) -> str:
    return " ".join(text.split())


def built_in_recipes() -> str:
    """Every built-in recipe, as it stands in the package."""
    from fdistill.recipe import built_in_recipes

    return "\n".join(f"### `{name}`\n\n```yaml\n{text.strip()}\n```\n" for name, text in built_in_recipes().items())


def training() -> str:
    """What FDistillConfig adds to transformers.TrainingArguments."""
    from transformers import TrainingArguments

    from fdistill.trainer import FDistillConfig

    base = {field.name: field for field in dataclasses.fields(TrainingArguments)}
    rows = []
    for field in dataclasses.fields(FDistillConfig):
        if field.name in base and base[field.name].default == field.default:
            continue
        rows.append([code(field.name), code(json.dumps(field.default)), field.metadata.get("help", "")])
    return table(["argument", "default", "meaning"], rows)


# --- commands --------------------------------------------------------------------------------------------------------


def commands() -> str:
    """Every command with its arguments and options, from the parser itself."""
    import typer

    from fdistill.cli.app import app

    group = typer.main.get_command(app)
    return "\n".join(_command(name, command) for name, command in group.commands.items())


def _command(name: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
    usage = " ".join(["fdistill", name, *(p.metavar for p in arguments), *(["[OPTIONS]"] if options else [])])
    rows = [[code(p.metavar), "needed", p.help or ""] for p in arguments]
    rows += [[_spelled(p), "" if _silent(p) else code(p.default), p.help or ""] for p in options]
    listed = table(["", "default", "meaning"], rows) if rows else ""
    return f"## `fdistill {name}`\n\n```text\n{usage}\n```\n\n{command.help}\n\n{listed}"


def _spelled(option: Any) -> str:
    value = "" if option.is_flag else f" {option.metavar or option.name.upper()}"
    return ", ".join(code(text + (value if text.startswith("--") else "")) for text in option.opts)


def _silent(option: Any) -> bool:
    return option.is_flag or option.default is None


# --- objectives, divergences, errors ---------------------------------------------------------------------------------


def objectives() -> str:
    """The table of objectives with their options."""
    from fdistill import OBJECTIVES

    rows = [[code(n), e.terms, e.source, ", ".join(map(code, e.options))] for n, e in OBJECTIVES.items()]
    return table(["objective", "terms (prefixes · word-level divergence)", "source", "options"], rows)


def divergences() -> str:
    """The registered word-level divergences and what is known of each."""
    from fdistill import DIVERGENCES

    rows = []
    for name, entry in DIVERGENCES.items():
        bound = "" if entry.upper_bound is None else f"{entry.upper_bound:.4g}"
        facts = [
            "symmetric" if entry.symmetric else "",
            "" if entry.coarsens or not entry.needs_teacher else "no top-k teachers",
        ]
        rows.append([code(name), entry.formula, entry.generator or "", bound, ", ".join(filter(None, facts))])
    return table(["name", "formula", "generator f(t)", "at most", ""], rows)


def generators() -> str:
    """The generators by name, with their limits at the options' defaults."""
    from fdistill import GENERATORS

    rows = []
    for name, build in GENERATORS.items():
        made, parameters = build(), inspect.signature(build).parameters.values()
        defaults = ", ".join(code(f"{parameter.name}={parameter.default:g}") for parameter in parameters)
        rows.append([code(name), made.formula, f"{made.at_zero:.4g}", f"{made.slope_at_infinity:.4g}", defaults])
    return table(["name", "f(t)", "f(0)", "lim f(t)/t", "options"], rows)


def formats() -> str:
    """The formats of data, with the keys of `data` that only they understand."""
    from fdistill.tasks import FORMATS

    rows = [[code(name), form.summary, ", ".join(map(code, form.options))] for name, form in FORMATS.items()]
    return table(["format", "what it reads", "further keys of `data`"], rows)


def errors() -> str:
    """Every error class and its meaning."""
    from fdistill import errors as module

    rows = [
        [code(n), inspect.getdoc(c) or ""]
        for n, c in vars(module).items()
        if isinstance(c, type) and c.__module__ == module.__name__
    ]
    return table(["error", "meaning"], rows)


def reference_modules() -> str:
    """Every module of the exact reference, its functions documented by autodoc."""
    files = sorted((ROOT / "reference" / "fdistill_reference").glob("[a-z]*.py"))
    parts = []
    for name in (path.stem for path in files):
        directive = f".. automodule:: fdistill_reference.{name}\n   :members:"
        parts.append(f"### `{name}`\n\n```{{eval-rst}}\n{directive}\n```\n")
    return "\n".join(parts)


def proof_files() -> str:
    """The Coq files as entries of the site's contents."""
    files = sorted(path.stem for path in (ROOT / "proofs").glob("*.v"))
    return "\n".join(["```{toctree}", ":maxdepth: 1", ":hidden:", "", *files, "```"])


MAKERS: Mapping[str, Any] = {
    maker.__name__: maker
    for maker in (
        recipe,
        built_in_recipes,
        training,
        commands,
        objectives,
        divergences,
        generators,
        formats,
        errors,
        reference_modules,
        proof_files,
    )
}


def filled(text: str) -> str:
    """A page's source with every generated part in its place."""
    return MARK.sub(lambda match: MAKERS[match[1]](), text)


def _fill(app, docname, source):
    source[0] = filled(source[0])
    if docname == app.config.root_doc:  # `?page` in the contents is a page that a checkout may lack
        source[0] = OPTIONAL.sub(lambda m: f"{m[1]}\n" if (ROOT / "docs" / f"{m[1]}.md").exists() else "", source[0])


def _write_schema(app):
    """The JSON schema of recipes, for editors, as a file of the site."""
    from fdistill.recipe import json_schema

    folder = Path(app.outdir) / "_static"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.schema.json").write_text(
        json.dumps(json_schema(), indent=1, ensure_ascii=False), encoding="utf-8"
    )


def setup(app):
    app.connect("source-read", _fill)
    app.connect("builder-inited", _write_schema)
    return {"parallel_read_safe": True, "version": "1"}
