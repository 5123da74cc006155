"""The built site: no warning, nothing fetched from elsewhere, every link and anchor there, every public name described."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import fdistill_reference
import pytest
import typer

import fdistill
from fdistill.cli.app import app
from fdistill.recipe.schema import Recipe

ROOT = Path(__file__).parents[2]
FETCHED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "video": "src"}


class Page(HTMLParser):
    """What a page fetches, where it leads, and the ids it offers."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.fetched, self.links, self.ids = [], [], set()
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if values.get("id"):
            self.ids.add(values["id"])
        if tag in FETCHED and values.get(FETCHED[tag]):
            self.fetched.append(values[FETCHED[tag]])
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site as `make docs` builds it, warnings being errors."""
    folder = tmp_path_factory.mktemp("site")
    made = ["-d", str(folder / "doctrees"), ".", str(folder / "html")]
    command = [sys.executable, *["-m", "sphinx", "-W", "--keep-going", "-q", "-c", "docs"], *made]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    html = folder / "html"
    return html, {
        path.relative_to(html).as_posix(): Page(path) for path in html.rglob("*.html") if "_static" not in path.parts
    }


pytestmark = pytest.mark.slow


def outside(address: str) -> bool:
    return address.startswith("//") or re.match(r"[a-z][a-z0-9+.-]*:", address) is not None


def test_no_page_fetches_anything_from_elsewhere(site):
    """Catches a script, style, font or picture that needs a network."""
    html, pages = site
    for name, page in pages.items():
        for address in page.fetched:
            assert not outside(address), f"{name} fetches {address}"
        assert not re.search(r"url\(['\"]?https?:|@import", page.text), name
    for style in html.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//|@import", style.read_text(encoding="utf-8")), style.name


def test_formulas_come_with_their_renderer(site):
    """Catches a page of formulas without MathJax, and a renderer that was not copied."""
    _, pages = site
    with_formulas = [page for page in pages.values() if 'class="math' in page.text]
    assert with_formulas
    assert all(any("mathjax/" in address for address in page.fetched) for page in with_formulas)


def test_every_link_of_every_page_leads_somewhere(site):
    """Catches a page, file or anchor that a link names and the site lacks."""
    html, pages = site
    broken = []
    for name, page in pages.items():
        for address in [*page.links, *page.fetched]:
            if outside(address):
                continue
            path, _, anchor = address.partition("#")
            target = (html / name).parent / unquote(path.partition("?")[0]) if path else html / name
            found = target.resolve().relative_to(html.resolve()).as_posix()
            no_anchor = anchor and found in pages and unquote(anchor) not in pages[found].ids
            if no_anchor or not target.is_file():
                broken.append(f"{name}: {address}")
    assert not broken, "\n".join(broken)


@pytest.mark.parametrize("package", [fdistill, fdistill_reference], ids=lambda package: package.__name__)
def test_every_public_name_has_an_entry(site, package):
    """Catches a name that is offered and nowhere described."""
    _, pages = site
    described = set().union(*(page.ids for name, page in pages.items() if name.startswith("docs/reference/")))
    missing = {f"{package.__name__}.{name}" for name in package.__all__} - described
    assert not missing


def test_every_key_and_command_has_a_row(site):
    """Catches a generated page that is empty, or lacks what the code offers."""
    _, pages = site
    recipes, commands = (
        re.sub(r"<[^>]+>", "", pages[f"docs/reference/{name}.html"].text) for name in ("recipes", "commands")
    )
    for model in (Recipe, *(field.annotation for field in Recipe.model_fields.values())):
        for key in getattr(model, "model_fields", ()):
            assert key in recipes, key
    for command in typer.main.get_command(app).commands:
        assert f"fdistill {command}" in commands


def test_a_proof_is_three_clicks_from_the_readme(site):
    """Catches a front page that no longer leads to the statements, and statements that no longer lead to proofs."""
    _, pages = site
    assert any(link.startswith("docs/statements.html") for link in pages["README.html"].links)
    proofs = {link for link in pages["docs/statements.html"].links if link.startswith("../proofs/") and "#" in link}
    assert len(proofs) > 40
    for link in proofs:
        name, _, anchor = link.removeprefix("../").partition("#")
        assert anchor in pages[name].ids


def test_every_key_of_a_recipe_has_a_meaning(site):
    """Catches a key that the schema names and nobody explains."""
    _, pages = site
    rows = re.findall(
        r"<tr class=\"row-(?:odd|even)\">(.*?)</tr>", pages["docs/reference/recipes.html"].text, re.DOTALL
    )
    cells = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.DOTALL) for row in rows]
    assert len(cells) > 60
    assert not [row[0] for row in cells if not re.sub(r"<[^>]+>|\s", "", row[-1])]
