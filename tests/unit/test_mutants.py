"""The list of mutants keeps up with the code: each one's text stands once in its file, and its tests exist."""

from pathlib import Path

import pytest

from tests.mutants.mutants import MUTANTS

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.fault for mutant in MUTANTS])
def test_a_mutant_still_changes_its_file(mutant):
    """Catches a fault that nobody tries any more because the line it was made of has changed."""
    assert (ROOT / mutant.file).read_text().count(mutant.old) == 1
    assert mutant.new != mutant.old
    assert all((ROOT / test.split("::")[0]).exists() for test in mutant.tests)
