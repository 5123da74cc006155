"""proofs/README.md lists every theorem, and everything it names exists. Needs no Coq; `make proofs` checks the proofs."""

import ast
import importlib
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROOFS = ROOT / "proofs"
ROW = re.compile(r"^\| .*\[`(?P<theorem>[\w']+)`\]\((?P<file>\w+\.v)\).*\|$", re.MULTILINE)
COLUMNS = ["Statement", "In formulas", "Paper (Eqn.)", "Coq", "Reference", "Property test"]


def readme() -> str:
    return (PROOFS / "README.md").read_text(encoding="utf-8")


def table() -> list[tuple[str, str, list[str]]]:
    """(theorem, file, cells) of every row."""
    return [
        (row["theorem"], row["file"], [cell.strip() for cell in row.group().strip("|").split("|")])
        for row in ROW.finditer(readme())
    ]


def stated_theorems() -> list[tuple[str, str]]:
    return [
        (name, file.name)
        for file in sorted(PROOFS.glob("*.v"))
        for name in re.findall(r"^Theorem\s+([\w']+)", file.read_text(encoding="utf-8"), re.MULTILINE)
    ]


def code_spans(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@cache
def names_of_tests(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_the_table_lists_every_theorem_once():
    listed = [(theorem, file) for theorem, file, _ in table()]
    assert sorted(listed) == sorted(stated_theorems())


def test_theorems_have_different_names():
    names = [name for name, _ in stated_theorems()]
    assert len(set(names)) == len(names)


def test_the_number_of_theorems_is_the_one_announced():
    announced = re.search(r"^(\d+) theorems", readme(), re.MULTILINE)
    assert announced and int(announced[1]) == len(stated_theorems())


def test_rows_have_all_columns_and_say_something():
    assert readme().count("| " + " | ".join(COLUMNS) + " |") == len({file for _, file, _ in table()})
    for theorem, _, cells in table():
        assert len(cells) == len(COLUMNS), theorem
        assert all(cells), theorem
        assert code_spans(cells[4]), f"{theorem} names no reference function"


def test_theorems_named_in_the_text_exist():
    text = readme()
    appendix = text[text.index("## Where the paper's Appendix A is") : text.index("## What is assumed")]
    names = {name for name, _ in stated_theorems()}
    assert set(code_spans(appendix)) <= names


@pytest.mark.parametrize(("theorem", "cell"), [(theorem, cells[4]) for theorem, _, cells in table()])
def test_reference_functions_exist(theorem, cell):
    for path in code_spans(cell):
        module, *attributes = path.split(".")
        thing = importlib.import_module(f"fdistill_reference.{module}")
        for attribute in attributes:
            assert hasattr(thing, attribute), f"{theorem}: fdistill_reference.{path} does not exist"
            thing = getattr(thing, attribute)


@pytest.mark.parametrize(("theorem", "cell"), [(theorem, cells[5]) for theorem, _, cells in table()])
def test_property_tests_exist(theorem, cell):
    for name in code_spans(cell):
        path, test = name.split("::")
        assert (ROOT / path).is_file(), f"{theorem}: {path} does not exist"
        assert test in names_of_tests(ROOT / path), f"{theorem}: {path} has no {test}"


def test_every_file_opens_with_a_header_that_lists_its_theorems():
    for theorem, file in stated_theorems():
        source = (PROOFS / file).read_text(encoding="utf-8")
        header = source[: source.index("*)")]
        assert source.startswith("(**"), file
        listed = set(re.findall(r"[\w']+", header))
        families = [name[:-1] for name in re.findall(r"[\w']+_\*", header)]
        assert theorem in listed or any(theorem.startswith(family) for family in families), f"{file}: {theorem}"


def test_every_file_is_compiled():
    project = (PROOFS / "_CoqProject").read_text(encoding="utf-8").split()
    assert {name for name in project if name.endswith(".v")} == {file.name for file in PROOFS.glob("*.v")}
