"""Commands and recipes that the pages show are ones that exist."""

import re
import shlex

import pytest
import typer
import yaml

from fdistill.cli.app import app
from fdistill.recipe import load_recipe, make_recipe

from .pages import DOCS, ROOT, fences, pages

SHOWN = [*pages(), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
GROUP = typer.main.get_command(app)


def spoken(page):
    """Every `fdistill …` and `make …` of a page: lines of blocks without a language, and inline code."""
    text = page.read_text(encoding="utf-8")
    plain = [fence for fence in fences(text) if fence.language in ("", "console", "bash", "sh", "text")]
    lines = [line.partition("  #")[0].strip() for fence in plain for line in fence.text.splitlines()]
    return [line for line in lines + SPAN.findall(text) if line.startswith(("fdistill ", "make "))]


@pytest.mark.parametrize("page", SHOWN, ids=lambda path: path.name)
def test_commands_exist(page):
    """Catches a command, an option, a target or a key of a recipe that was renamed."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for line in spoken(page):
        program, *words = shlex.split(line)
        if program == "make":
            assert words[0] in targets, line
            continue
        name, *arguments = words
        name = name.strip("|")
        assert name in GROUP.commands, line
        known = {text for parameter in GROUP.commands[name].params for text in parameter.opts}
        assert {word for word in arguments if word.startswith("--")} <= known | {"--help"}, line
        settings = [
            arguments[i + 1] for i, word in enumerate(arguments[:-1]) if word == "--set" and "=" in arguments[i + 1]
        ]
        built_in = "restaurants" if name == "demo" else (arguments or [""])[0]
        if settings and built_in in ("restaurants", "e2e", "dart"):
            load_recipe(built_in, [setting for setting in settings if not setting.startswith("a.b=")])


def recipes():
    found = [
        (page.name, fence.text) for page in pages() for fence in fences(page.read_text()) if fence.language == "yaml"
    ]
    return [pytest.param(text, id=f"{name}-{index}") for index, (name, text) in enumerate(found)]


@pytest.mark.parametrize("text", recipes())
def test_recipes_are_accepted(text):
    """Catches an example that the schema refuses; a part of a recipe is completed by the e2e recipe."""
    whole = load_recipe("e2e").resolved() | yaml.safe_load(text)
    if whole["teacher"].get("model"):
        whole["tokenizer"] = None
    assert make_recipe(whole).resolved()["objectives"]


def test_the_pages_show_commands_and_recipes():
    """Catches a search that finds nothing."""
    assert sum(len(spoken(page)) for page in SHOWN) > 25
    assert len(recipes()) >= 2
    assert any("fdistill run dart" in line for line in spoken(DOCS / "guide" / "from-the-paper.md"))
