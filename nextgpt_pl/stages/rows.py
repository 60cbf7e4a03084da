"""Rows of the data module that a run could use, and those that it could not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nextgpt_pl.datamodules.row_notes import ReportsRows


def log_rows(trainer: Any) -> None:
    """Log how many rows the data module could use, where it counts them."""
    if isinstance(trainer.datamodule, ReportsRows):
        found = {f"data/{name}": float(count) for name, count in trainer.datamodule.rows_used().items()}
        # not by a module's log: that is a mean over the epoch, of which a resumed run has seen a part
        for logger in trainer.loggers:
            logger.log_metrics(found, step=trainer.global_step)


def report_rows(trainer: Any) -> None:
    """Tell which rows were skipped or shortened since the last time, on all processes together."""
    if isinstance(trainer.datamodule, ReportsRows):
        notes = trainer.datamodule.report_rows()
        if trainer.is_global_zero and not getattr(trainer, "fast_dev_run", False):
            notes.write(Path(trainer.default_root_dir))
