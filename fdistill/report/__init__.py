"""What people read of a run: tables, claims with their verdicts, plots, and report.html, all from the run's folder alone."""

from fdistill.report.page import write_report

__all__ = ["write_report"]
