"""Every block of code with `>>>` on every page of docs/ gives what the page shows."""

import pytest

from .pages import DOCS, doctest_of, failures, fences, pages


@pytest.mark.parametrize("page", pages(), ids=lambda path: str(path.relative_to(DOCS)))
def test_every_block_gives_what_the_page_shows(page, tmp_path, monkeypatch):
    """Catches a number or a call that the code no longer agrees with."""
    monkeypatch.chdir(tmp_path)
    complaints = failures(doctest_of(page))
    assert not complaints, complaints


@pytest.mark.parametrize("page", pages(), ids=lambda path: str(path.relative_to(DOCS)))
def test_no_block_is_overlooked(page):
    """Catches an example outside a fence, which nothing would run."""
    written = sum(line.lstrip().startswith(">>> ") for line in page.read_text(encoding="utf-8").splitlines())
    assert written == len(doctest_of(page).examples)


def test_a_wrong_output_fails(tmp_path):
    """Catches a runner that runs and does not compare; the complaint names the line of the page."""
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n```pycon\n>>> x = 2\n>>> x + x\n4\n```\n\nText.\n\n```pycon\n>>> x + 3\n6\n```\n")
    complaints = failures(doctest_of(page))
    assert "line 12" in complaints and "Expected:\n    6\nGot:\n    5" in complaints
    page.write_text(page.read_text().replace("\n6\n", "\n5\n"))
    assert not failures(doctest_of(page))


def test_an_error_fails(tmp_path):
    """Catches a block that raises where the page shows nothing."""
    page = tmp_path / "page.md"
    page.write_text("```pycon\n>>> undefined\n```\n")
    assert "NameError" in failures(doctest_of(page))


def test_blocks_inside_directives_are_found():
    """Catches an example that hides in a note, a tab or a list."""
    text = "````{note}\nSee:\n\n```pycon\n>>> 1\n1\n```\n````\n\n* item\n\n  ```pycon\n  >>> 2\n  2\n  ```\n"
    found = [fence for fence in fences(text) if ">>>" in fence.text]
    assert [text.splitlines()[fence.line].strip() for fence in found] == [">>> 1", ">>> 2"]
