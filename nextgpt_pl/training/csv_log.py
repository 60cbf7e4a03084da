"""The CSV log of a run: a killed and resumed run has the rows of an uninterrupted one."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.loggers.logger import rank_zero_experiment
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn

from nextgpt_pl.utils.atomic import atomic_file, drop_truncated_line

METRICS = ExperimentWriter.NAME_METRICS_FILE


class RunLog(CSVLogger):
    """Lightning's CSV logger, for a folder in which a run is resumed.

    Args:
        folder: folder of the run.
        until_step: step that the run is resumed from; rows of earlier steps are kept. 0: none.

    """

    def __init__(self, folder: Path, until_step: int = 0) -> None:
        super().__init__(folder.parent, name=folder.name, version="")
        self._folder, self._until_step = folder, until_step
        self._early: tuple[int | None, set[str]] | None = None

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """Lightning's writer, on rank 0."""
        if self._experiment is None:
            keep_rows(self._folder / METRICS, self._until_step)
            self._experiment = _Writer(self._folder)
        return self._experiment

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Add a row, unless :meth:`log_early` has added it."""
        early, self._early = self._early, None
        if early != (step, set(metrics)):
            super().log_metrics(dict(metrics), step)

    @rank_zero_only
    def log_early(self, metrics: Mapping[str, Any], step: int) -> None:
        """Write a row that the trainer is about to log; that call is ignored."""
        self.log_metrics(metrics, step)
        self.save()
        self._early = (step, set(metrics))


def save_logs(trainer: Trainer) -> None:
    """Write the row of the training step whose checkpoint is about to be written.

    The trainer logs a step after all of its hooks, and thus after its checkpoint. If the process ended in between, the
    row would be missing: a run that is resumed from the checkpoint does not repeat the step.
    """
    connector, loop = trainer._logger_connector, trainer.fit_loop
    logs = [logger for logger in trainer.loggers if isinstance(logger, RunLog)]
    in_step = trainer.training and connector._first_loop_iter is not None and not loop._should_accumulate()
    if logs and trainer.is_global_zero and in_step and connector.should_update_logs:
        # the same columns and step as in the trainer's own call
        row = {name: float(value) for name, value in connector.metrics["log"].items()}
        for log in logs:
            log.log_early({"epoch": trainer.current_epoch, **row}, loop.epoch_loop._batches_that_stepped)


def keep_rows(file: Path, until_step: int) -> None:
    """Remove the rows of ``until_step`` and later steps from a log; damaged rows are dropped with a warning."""
    if not file.is_file():
        return
    if until_step == 0:
        file.unlink()
        return
    drop_truncated_line(file)
    columns, rows, damaged = _read(file)
    # steps are numbered from 0
    _replace(file, columns, (row for row in rows if int(row["step"]) < until_step))
    if damaged:
        rank_zero_warn(f"{file}: {damaged} damaged rows are dropped")


def _read(file: Path) -> tuple[list[str], list[dict[str, str]], int]:
    """Columns and rows of a log, and the number of damaged rows."""
    rows, damaged = list[dict[str, str]](), 0
    with file.open(newline="", encoding="utf-8", errors="replace") as opened:
        reader = csv.DictReader(opened)
        while True:
            try:
                row = next(reader, None)
            except csv.Error:
                damaged += 1
                continue
            if row is None:
                return [name for name in reader.fieldnames or () if name], rows, damaged
            if None in row or not (row.get("step") or "").isdecimal():
                damaged += 1
            else:
                rows.append(row)


class _Writer(ExperimentWriter):
    """Appends to the file that is there; a change of its columns replaces it atomically."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder))
        self._file = folder / METRICS
        if self._file.is_file():
            with self._file.open(newline="") as opened:
                self.metrics_keys = list(csv.DictReader(opened).fieldnames or ())

    def _check_log_dir_exists(self) -> None:
        """Keep the file, which Lightning's writer deletes."""

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        with self._file.open(newline="") as opened:
            _replace(self._file, fieldnames, csv.DictReader(opened))


def _replace(file: Path, columns: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> None:
    with atomic_file(file) as scratch, scratch.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, fieldnames=list(columns), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
