"""What people read of runs: tables, claims with their verdicts, plots, and pages, all from the runs' folders alone."""

from fdistill.report.compare import write_comparison
from fdistill.report.page import write_report

__all__ = ["write_comparison", "write_report"]
