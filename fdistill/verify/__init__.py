"""What `fdistill verify` shows: the property table of this installation, and the verdict on somebody else's loss.

Chapters: `table` (the properties of `fdistill.checks`, and every objective's largest error), `judge` (which divergence a
given function in fact computes), `conventions` (the ways in which people write a distillation loss).
"""

from fdistill.verify.judge import Verdict, judge, load_function
from fdistill.verify.table import CaseError, enumeration_table, run_verify

__all__ = ["CaseError", "Verdict", "enumeration_table", "judge", "load_function", "run_verify"]
