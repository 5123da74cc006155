"""The derivations show what Coq proves, letter by letter, and pictures that their script still draws."""

import re
import subprocess
import sys

import pytest
from PIL import Image

from .pages import DOCS, ROOT, fences

PAGES = sorted((DOCS / "derivations").glob("*.md"))
RESULTS = [page for page in PAGES if page.stem != "index"]
PICTURES = DOCS / "figures" / "derivations"
THEOREM = re.compile(r"^Theorem ([\w']+)\b.*?\.$", re.MULTILINE | re.DOTALL)


def _coq(page):
    return [fence.text.strip() for fence in fences(page.read_text(encoding="utf-8")) if fence.language == "coq"]


def _proved():
    """{statement: file} of every theorem."""
    found = {}
    for file in sorted((ROOT / "proofs").glob("*.v")):
        text = file.read_text(encoding="utf-8")
        found |= {text[m.start() : text.index("\nProof", m.start())].strip(): file.name for m in THEOREM.finditer(text)}
    return found


@pytest.mark.parametrize("page", RESULTS, ids=lambda page: page.stem)
def test_every_page_shows_a_theorem_as_it_stands_in_the_file_that_it_links(page):
    """Catches a statement that was retyped, simplified, or left behind by a change of the proofs."""
    proved, text = _proved(), page.read_text(encoding="utf-8")
    assert _coq(page)
    for statement in _coq(page):
        assert statement in proved, statement
        name = THEOREM.match(statement)[1]
        assert f"[`{name}`](../../proofs/{proved[statement]}#{name})" in text


@pytest.mark.parametrize("page", RESULTS, ids=lambda page: page.stem)
def test_every_page_asks_draws_derives_runs_and_concludes(page):
    """Catches a page that lacks what every page promises."""
    text = page.read_text(encoding="utf-8")
    number = int(re.match(r"# (\d+)\. ", text)[1])
    assert "**The question.**" in text
    assert "\n## What it means for training\n" in text and "\n## The proof\n" in text
    assert re.search(r"!\[[^\]]{20,}\]\(\.\./figures/derivations/[\w-]+\.png\)", text)
    assert "fdistill_reference" in text and ">>> " in text
    tags = re.findall(r"\\tag\{(\d+)\.(\d+)\}", text)
    assert [(int(a), int(b)) for a, b in tags] == [(number, i + 1) for i in range(len(tags))] and tags


def test_equations_that_are_cited_exist():
    """Catches a citation of an equation that was renumbered."""
    texts = {page: page.read_text(encoding="utf-8") for page in PAGES}
    tags = {tag for text in texts.values() for tag in re.findall(r"\\tag\{([\d.]+)\}", text)}
    for page, text in texts.items():
        prose = "\n".join(line for line in text.splitlines() if not line.startswith((">>>", "...")))
        assert set(re.findall(r"\((\d+\.\d{1,2})\)", prose)) <= tags, page


def test_pages_are_numbered_and_listed():
    """Catches a page that nobody finds."""
    index = (DOCS / "derivations" / "index.md").read_text(encoding="utf-8")
    toctree = index[index.index("```{toctree}") :].split("```")[1].split()[-len(RESULTS) :]
    assert sorted(toctree) == sorted(page.stem for page in RESULTS)
    for i, name in enumerate(toctree, start=1):
        assert (DOCS / "derivations" / f"{name}.md").read_text(encoding="utf-8").startswith(f"# {i}. ")
        assert f"[{i}. " in index and f"({name}.md)" in index


def test_every_picture_is_shown_and_small():
    """Catches a picture that no page shows, and one too heavy for a phone."""
    shown = {name for page in PAGES for name in re.findall(r"figures/derivations/([\w-]+\.png)", page.read_text())}
    assert shown == {path.name for path in PICTURES.iterdir()}
    for path in PICTURES.iterdir():
        assert path.stat().st_size < 60_000, path.name


@pytest.mark.slow
def test_the_script_draws_every_picture(tmp_path):
    """Catches a script that the reference has left behind, and a picture with nothing in it."""
    script = DOCS / "figures" / "derivations.py"
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True, cwd=ROOT, timeout=600)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in PICTURES.iterdir()}
    for path in tmp_path.iterdir():
        drawn, committed = Image.open(path).convert("RGB"), Image.open(PICTURES / path.name)
        assert drawn.size == committed.size, path.name
        inked = sum(count for count, colour in drawn.getcolors(2**16) if min(colour) < 245) / (
            drawn.width * drawn.height
        )
        assert 0.01 < inked < 0.6, path.name
