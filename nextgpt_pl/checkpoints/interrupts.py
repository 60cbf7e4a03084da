"""A run that is told to stop by a signal: the signals, and the checkpoint that it leaves."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import Trainer

from nextgpt_pl.atomic import write_whole

#: in the run's folder; job scripts put the job back into the queue if it is there
REQUEUE_MARKER = "requeue"


class Signals:
    """Notes SIGTERM (schedulers send it before they kill) and SIGINT (Ctrl-C) instead of ending the process.

    Lightning's own handler of SIGTERM talks to the other processes from inside the signal handler, which can hang, and
    saves nothing. A second Ctrl-C interrupts at once.

    Attributes:
        received: number of the signal that came first; ``None`` before.

    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._announces = True
        self._before: dict[int, Any] = {}

    def take_over(self, *, announces: bool) -> None:
        """Handle both signals from now on, where this is possible: in the main thread.

        Args:
            announces: say that a signal has arrived.

        """
        self.received, self._announces = None, announces
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                previous = signal.signal(number, self._note)
                self._before.setdefault(number, previous)
        except ValueError:
            self._before.clear()

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received is not None:
            raise KeyboardInterrupt
        self.received = number
        if self._announces:
            # print() could be interrupted in the middle of another print()
            os.write(2, b"\nstopping behind this optimizer step or validation batch; Ctrl-C again stops at once\n")

    def give_back(self) -> None:
        """Restore the handlers of before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()


def clear_marker(trainer: Trainer) -> None:
    """Remove the marker of an earlier start."""
    if trainer.is_global_zero:
        (Path(trainer.default_root_dir) / REQUEUE_MARKER).unlink(missing_ok=True)


def save_interrupted(trainer: Trainer, number: int) -> None:
    """Leave ``checkpoints/interrupted.ckpt``, say how to go on and, behind SIGTERM, leave the requeue marker.

    All processes call this.
    """
    run, step = Path(trainer.default_root_dir), trainer.global_step
    path = run / "checkpoints" / "interrupted.ckpt"
    in_validation = bool(trainer.validating)
    if in_validation:
        _begin_validation_anew(trainer)
    trainer.save_checkpoint(path, weights_only=False)
    if trainer.is_global_zero:
        if number == signal.SIGTERM:
            write_whole(run / REQUEUE_MARKER, f"{path}\n")
        where = f"in the validation behind step {step}" if in_validation else f"at step {step}"
        print(f"\ninterrupted {where}; to go on: the same command with --ckpt_path {path}", flush=True)
        if in_validation and step == trainer.max_steps:  # Lightning begins no epoch behind the last step
            print("it leaves the adapter; the validation is done again by: validate, with the same path", flush=True)
    # the first process to end may take the others with it
    trainer.strategy.barrier("interrupted")


def _begin_validation_anew(trainer: Trainer) -> None:
    """Set the validation's counters to the start of its first batch: a resumed run then does all of it again.

    With any other counters Lightning regards the validation as done, or as begun, and leaves batches out.
    """
    progress = trainer.fit_loop.epoch_loop.val_loop.batch_progress
    before = progress.total.completed - progress.current.completed
    for counters, start in ((progress.total, before), (progress.current, 0)):
        counters.load_state_dict({"ready": start + 1, "started": start + 1, "processed": start, "completed": start})
    progress.is_last_batch = False
