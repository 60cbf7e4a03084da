"""``fit`` and ``validate``: LightningCLI, and what is printed at the end of a training."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

from lightning.pytorch.callbacks import Callback

from nextgpt_pl.batches import Batch
from nextgpt_pl.sizing.operations import count_operations
from nextgpt_pl.stages.base import Stage
from nextgpt_pl.training.cli import ExperimentCLI, parsed
from nextgpt_pl.training.interrupts import exiting
from nextgpt_pl.training.runs import describe, first_process
from nextgpt_pl.training.throughput import Throughput

_LAST_WORDS = 120.0  # seconds that rank 0 waits for the other ranks to exit


class _TrainingCLI(ExperimentCLI):
    """The trainer's verbs; ``fit`` logs its speed."""

    def extra_callbacks(self) -> list[Callback]:
        """The speed of ``fit``."""
        if self.subcommand != "fit" or self._verb_config().trainer.fast_dev_run:
            return []
        return [Throughput(self._operations)]

    def _operations(self) -> Callable[[Batch], float]:
        return count_operations(cast(Stage, self.another_model())).of


def run(argv: list[str]) -> int:
    """Parse ``VERB -c FILE ...``, run it, and return the exit code."""
    with exiting():
        return _run(argv)


def _run(argv: list[str]) -> int:
    cli = parsed(argv, _TrainingCLI)
    # the processes that this one started are killed when it exits: wait until they have finished
    for process in getattr(cli.trainer.strategy.launcher, "procs", ()):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_LAST_WORDS)
    if first_process():
        if cli.subcommand == "fit":
            print_results(cli.run_folder)
        print(f"done. {describe(cli.run_folder)}")
    return 0


def print_results(folder: Path) -> None:
    """Print a run's final validation values, write its page and print the page's path; nothing without metrics.

    A page that cannot be written is reported on stderr: the training itself has succeeded.
    """
    from nextgpt_pl.reports import Run
    from nextgpt_pl.reports.run_page import final_validation, write_run_page

    trained_run = Run(folder)
    try:
        values = final_validation(trained_run)
        if values:
            width = max(map(len, values))
            print("\n".join(["final validation:", *(f"  {name:<{width}}  {v:.4g}" for name, v in values.items())]))
        page = write_run_page(trained_run)
    except Exception as error:  # any error of the page must not fail the training
        print(f"{folder}: the page could not be written: {error}", file=sys.stderr)
    else:
        if page is not None:
            print(f"page: {page}")
