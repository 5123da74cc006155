"""The built site: no warning, nothing fetched from elsewhere, every link and anchor there, every public name described."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

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
    command = [
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-c",
        "docs",
        "-d",
        str(folder / "doctrees"),
        ".",
        str(folder / "html"),
    ]
    built = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
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
