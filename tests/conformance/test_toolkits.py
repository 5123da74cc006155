"""Each installed toolkit's loss computes what the published table says; a change of theirs shows up here."""

import pytest

from fdistill.verify import judge
from tests.conformance.toolkits import FOREIGN


@pytest.mark.parametrize("foreign", FOREIGN, ids=lambda foreign: foreign.toolkit)
def test_a_toolkits_loss_is_what_the_table_says(foreign):
    if reason := foreign.cannot_run():
        pytest.skip(f"{foreign.package}: {reason}")
    verdict = judge(foreign.call, foreign.judged_as, foreign.options)
    assert verdict.passed is foreign.passes
    assert foreign.computes in verdict.computes
    gradient = dict((name, ok or "also flows into the teacher" in text) for name, ok, text in verdict.notes)["gradient"]
    assert gradient is foreign.own_gradient
