"""``report``: compare runs, grouped over seeds, on one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nextgpt_pl.verbs.command import call


def report(runs: list[Path], out: Path, metrics: str | None = None, title: str = "Report") -> None:
    """Compare runs: differing keys, mean and standard deviation over seeds, curves, and samples side by side.

    Args:
        runs: run folders, or folders that contain runs.
        out: output folder of index.md, index.html, groups.csv and runs.csv.
        metrics: patterns separated by commas, such as 'val/cosine_*'; by default the main validation metrics.
        title: title of the page.

    """
    from nextgpt_pl.reports.report import write_report
    from nextgpt_pl.reports.runs import find_runs

    print(f"report: {write_report(find_runs(runs), out, metrics.split(',') if metrics else (), title)}")


def main(argv: Sequence[str]) -> int:
    """Parse and run ``report``."""
    call(report, argv, positional=["runs"])
    return 0
