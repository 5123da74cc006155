"""docs/statements.md is complete: what it names exists, and nothing that exists is left out."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "docs" / "statements.md"


def _rows():
    cells = [line.strip("|").split(" | ") for line in TABLE.read_text().splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in cells if row[0].strip() not in ("Statement", "Tool", "---")]


def _named(column):
    return {name for row in _rows() for name in re.findall(r"`([^`]+)`", row[column])}


def _defined(folder, pattern, keep):
    out = set()
    for path in sorted(folder.glob(pattern)):
        nodes = [n.name for n in ast.parse(path.read_text()).body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
        out |= {(path.stem, name) for name in nodes if keep(name)}
    return out


def test_every_statement_has_a_function_and_a_property():
    """Catches a row that promises and shows nothing."""
    rows = _rows()
    assert len(rows) > 60
    for row in rows:
        assert len(row) == 3 and re.search(r"`\w+\.\w+`", row[1]) and re.search(r"`test_\w+::test_\w+`", row[2]), row


def test_the_table_names_exactly_the_public_functions_of_the_reference():
    """Catches a function without a statement, and a name that was changed in the code alone."""
    public = _defined(ROOT / "reference" / "fdistill_reference", "*.py", lambda name: not name.startswith("_"))
    assert {".".join(pair) for pair in public} == _named(1)


def test_every_test_that_the_table_names_exists():
    """Catches a property that was renamed or removed."""
    tests = _defined(ROOT / "tests" / "reference", "test_*.py", lambda name: name.startswith("test_"))
    missing = _named(2) - {"::".join(pair) for pair in tests}
    assert not missing


def test_every_equation_of_the_paper_is_in_the_table():
    """Catches an equation that nobody claims: Wen et al. (2023) count from 1 to 37."""
    covered = set()
    for row in _rows():
        for first, last in re.findall(r"Eqns?\. (\d+)(?:-(\d+))?", row[0]):
            covered |= set(range(int(first), int(last or first) + 1))
    assert covered == set(range(1, 38))


def test_every_equation_leads_to_its_proof():
    """Catches an equation without a link to a theorem, and a link to a theorem that its file does not have."""
    linked = {}
    for row in _rows():
        linked[row[0]] = re.findall(r"\[`([\w']+)`\]\(\.\./proofs/(\w+\.v)#([\w']+)\)", row[0])
        for shown, file, anchor in linked[row[0]]:
            assert shown == anchor and re.search(rf"^Theorem {anchor}\b", (ROOT / "proofs" / file).read_text(), re.M), (
                row[0]
            )
    equations = [statement for statement in linked if statement.startswith("Eqn")]
    assert len(equations) >= 11 and all(linked[statement] for statement in equations)


@pytest.mark.parametrize("path", sorted((ROOT / "tests" / "reference").glob("test_*.py")), ids=lambda path: path.stem)
def test_every_property_names_the_fault_it_exists_to_catch(path):
    """Catches a test that nobody can judge."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            assert (ast.get_docstring(node) or "").startswith("Catches"), node.name


def test_the_reference_is_short_enough_to_read():
    """Catches a chapter that outgrows 300 lines, a function that outgrows 40, and imports beyond NumPy and SciPy."""
    for path in (ROOT / "reference" / "fdistill_reference").glob("*.py"):
        text = path.read_text()
        assert len(text.splitlines()) < 300, path.name
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 40, f"{path.name}: {node.name}"
        roots = set(re.findall(r"^(?:from|import) (\w+)", text, re.M)) - {"__future__"}
        allowed = {"numpy", "scipy", "collections", "dataclasses", "fractions", "functools", "itertools", "typing"}
        assert roots <= allowed, path.name
