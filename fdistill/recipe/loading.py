"""From a recipe's name or file, and overrides, to a checked Recipe or one clear line about what is wrong."""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from fdistill.errors import RecipeError, closest
from fdistill.recipe.schema import Recipe, _Refused


def built_in_recipes() -> dict[str, str]:
    """The text of every built-in recipe by name."""
    folder = resources.files("fdistill") / "recipes"
    files = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".yaml")), key=lambda e: e.name)
    return {entry.name.removesuffix(".yaml"): entry.read_text(encoding="utf-8") for entry in files}


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a built-in recipe by name or a YAML file by path, apply overrides, and check everything but `training`.

    Args:
        name_or_path: a name of `built_in_recipes()` or a path.
        overrides: `key=value` with a dotted key and a YAML value; where a list is expected commas separate.

    Raises:
        RecipeError: for unknown keys and impossible values, with the key's full path.
        ObjectiveError: for an unknown objective, or options without meaning.
    """
    name, text = _find(str(name_or_path))
    values = _parse_yaml(text, str(name_or_path))
    if not isinstance(values, dict):
        raise RecipeError(f"recipe {name_or_path}: a mapping of keys such as data, teacher and student is needed.")
    for override in overrides:
        _apply(values, override)
    return make_recipe(values, name)


def make_recipe(values: Mapping[str, Any], name: str = "run") -> Recipe:
    """Check plain data and return the Recipe; `name` is what it is called in errors and in the default output."""
    values = dict(values)
    if not values.get("output"):
        values["output"] = f"runs/{name}"
    _check_keys(values, Recipe, "", name, values)
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        raise RecipeError(_line(error, name)) from None
    except _Refused as refused:
        raise refused.error from None
    recipe._name = name
    return recipe


def _find(name: str) -> tuple[str, str]:
    built_in = built_in_recipes()
    if name in built_in:
        return name, built_in[name]
    path = Path(name).expanduser()
    try:
        return path.name.removesuffix(".yaml").removesuffix(".yml"), path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecipeError(f"recipe {name}: byte {error.start + 1} is not UTF-8. Save the file as UTF-8.") from None
    except IsADirectoryError:
        raise RecipeError(
            f"recipe {name}: this is a folder. Name a YAML file, such as {path / 'recipe.yaml'}."
        ) from None
    except OSError as error:
        if "/" in name or path.suffix in (".yaml", ".yml"):
            raise RecipeError(f"recipe {name}: cannot be read: {error.strerror or error}. Check the path.") from None
        raise RecipeError(
            f"there is no recipe {name!r}.{closest(name, built_in)} Built in are {', '.join(built_in)}; "
            "a recipe of your own is named by the path of its YAML file."
        ) from None


# --------------------------------------------------------------------------- YAML


class _Loader(yaml.SafeLoader):
    """YAML as people expect it: 1e-4 is a number, and a key that stands twice is refused."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen = set()
    for key, _ in node.value:
        if key.value in seen:
            mark = key.start_mark
            raise yaml.MarkedYAMLError(problem=f"the key {key.value!r} stands here a second time", problem_mark=mark)
        seen.add(key.value)
    loader.flatten_mapping(node)
    return {loader.construct_object(key, deep=True): loader.construct_object(v, deep=True) for key, v in node.value}


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def _parse_yaml(text: str, name: str) -> Any:
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}" if mark else ""
        raise RecipeError(f"recipe {name}{place}: bad YAML: {error.problem or error.context}.") from None
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise RecipeError(f"recipe {name}: bad YAML: {str(error).splitlines()[0]}.") from None


# --------------------------------------------------------------------------- overrides


def _apply(values: dict[str, Any], override: str) -> None:
    """Set one dotted key to a YAML value, making sections that are not there or null."""
    key, equals, text = override.partition("=")
    path = key.strip().split(".")
    if not equals or not all(path):
        raise RecipeError(f"--set {override}: a key and a value are needed, as in --set training.max_steps=12.")
    try:
        value = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError):
        raise RecipeError(f"--set {override}: the value is no YAML. Quote a text: --set '{key}=\"...\"'.") from None
    if _expects_list(path) and value is not None and not isinstance(value, list):
        value = [part.strip() for part in str(value).split(",") if part.strip()]
    section = values
    for depth, part in enumerate(path[:-1]):
        inner = section.get(part)
        if inner is None:
            inner = {}
        if not isinstance(inner, dict):
            where = ".".join(path[: depth + 1])
            raise RecipeError(f"--set {override}: {where} is {inner!r} and has no keys. Set {where} itself.")
        section[part] = dict(inner)
        section = section[part]
    section[path[-1]] = value


def _expects_list(path: list[str]) -> bool:
    model: Any = Recipe
    for part in path:
        if not (isinstance(model, type) and issubclass(model, BaseModel)) or part not in model.model_fields:
            return False
        model = _inner(model.model_fields[part].annotation)
    return typing.get_origin(model) is list


def _inner(annotation: Any) -> Any:
    """What an optional annotation holds."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        options = [option for option in typing.get_args(annotation) if option is not type(None)]
        return _inner(options[0]) if len(options) == 1 else annotation
    return annotation


# --------------------------------------------------------------------------- errors


def _known_paths(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for key, field in model.model_fields.items():
        yield prefix + key
        inner = _inner(field.annotation)
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _known_paths(inner, f"{prefix}{key}.")


def _check_keys(
    values: Mapping[Any, Any], model: type[BaseModel], prefix: str, name: str, recipe: Mapping[str, Any]
) -> None:
    """Refuse the first key that the schema does not know, naming its path and the nearest known one."""
    for key, value in values.items():
        if key not in model.model_fields:
            siblings = ", ".join(prefix + known for known in model.model_fields)
            raise RecipeError(
                f"recipe {name}: unknown key {prefix}{key}.{_nearest(str(key), model, prefix, recipe)} Known here: {siblings}."
            )
        inner = _inner(model.model_fields[key].annotation)
        if isinstance(inner, type) and issubclass(inner, BaseModel) and isinstance(value, Mapping):
            _check_keys(value, inner, f"{prefix}{key}.", name, recipe)


def _nearest(key: str, model: type[BaseModel], prefix: str, recipe: Mapping[str, Any]) -> str:
    """The nearest key of the same section, else the nearest last part of any key, those in `training` included."""
    siblings = difflib.get_close_matches(key, model.model_fields, n=1)
    if siblings:
        return f" Did you mean {prefix}{siblings[0]}?"
    training = recipe.get("training")
    everywhere = {key: f"training.{key}" for key in training} if isinstance(training, Mapping) else {}
    everywhere |= {path.rpartition(".")[2]: path for path in _known_paths(Recipe)}
    elsewhere = difflib.get_close_matches(key, everywhere, n=1, cutoff=0.8)
    return f" Did you mean {everywhere[elsewhere[0]]}?" if elsewhere else ""


def _line(error: ValidationError, name: str) -> str:
    """One line for the first thing that pydantic found wrong."""
    first = error.errors(include_url=False)[0]
    path = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ").rstrip(".")
    if first["type"] == "missing":
        return f"recipe {name}: {path} is missing. Write it in the recipe, or give it with --set {path}=VALUE."
    if first["type"] == "value_error":
        glue = "" if not path else " " if message.startswith("must ") else "."
        return f"recipe {name}: {path}{glue}{message}" + ("" if message.endswith("?") else ".")
    shown = "null" if first["input"] is None else repr(first["input"])
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    what = message[0].lower() + message[1:]
    what = what.removeprefix("input should be ").replace("a valid ", "a ")
    for theirs, ours in _PLAIN_WORDS.items():
        what = re.sub(theirs, ours, what)
    return f"recipe {name}: {path} must be {what}, not {shown}."


_PLAIN_WORDS = {
    "a integer": "a whole number",
    "a string": "a text",
    "a dictionary.*": "a mapping of keys",
    "a boolean": "true or false",
    " or instance of .*": " of keys",
    "greater than or equal to": "at least",
}
