"""Properties of seconds' size that hold this installation, device and dtype to the exact reference.

Chapters: `cases` (every objective with every option), `enumeration` (the machine summed over all sequences of small
models), `properties` (one function per property, each naming the fault it catches), `runner` (which are run, and what
they say). This room is the only one that reads `fdistill_reference`.
"""

from fdistill.checks.runner import CheckResult, quick_check, run_checks

__all__ = ["CheckResult", "quick_check", "run_checks"]
