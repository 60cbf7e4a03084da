"""Logs of used, skipped and shortened rows of the data module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nextgpt_pl.datamodules.row_notes import ReportsRows


def log_rows(trainer: Any) -> None:
    """Log the number of used rows, if the data module counts them."""
    if isinstance(trainer.datamodule, ReportsRows):
        metrics = {f"data/{name}": float(count) for name, count in trainer.datamodule.rows_used().items()}
        # not by LightningModule.log, whose epoch mean would be wrong in a resumed epoch
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=trainer.global_step)


def report_rows(trainer: Any) -> None:
    """Report rows of all ranks that were skipped or shortened since the last call. Collective."""
    if isinstance(trainer.datamodule, ReportsRows):
        notes = trainer.datamodule.report_rows()
        if trainer.is_global_zero and not getattr(trainer, "fast_dev_run", False):
            notes.write(Path(trainer.default_root_dir))
