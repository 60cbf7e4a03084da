"""Stopping a run by a signal: signal handlers and the checkpoint that is saved."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import Trainer

from nextgpt_pl.utils.atomic import write_atomic

#: file in the run's folder; job scripts requeue the job if it exists
REQUEUE_MARKER = "requeue"
#: file in the run's ``checkpoints/``
INTERRUPTED = "interrupted.ckpt"
# Ctrl-C, the end of a terminal, and what schedulers send before they kill a job; Windows lacks some of them
_NAMES = ("SIGINT", "SIGHUP", "SIGTERM", "SIGUSR1")
_STOPPING = b"\nstopping after this optimizer step or validation batch, or at the end; press Ctrl-C again to stop now\n"
_REQUEUE = {getattr(signal, name, None) for name in ("SIGTERM", "SIGUSR1")}


class Signals:
    """Records SIGTERM and SIGUSR1 (of schedulers), SIGINT (Ctrl-C) and SIGHUP instead of ending the process.

    Lightning's own SIGTERM handler communicates with the other ranks inside the signal handler, which can hang, and
    saves nothing. A second Ctrl-C interrupts immediately.

    Attributes:
        received: number of the first signal; ``None`` until one arrives.

    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._announces = True
        self._before: dict[int, Any] = {}

    def take_over(self, *, announces: bool) -> None:
        """Install the handlers; outside of the main thread do nothing.

        A signal that the process ignores, such as SIGHUP under ``nohup``, stays ignored.

        Args:
            announces: print a message when a signal arrives.

        """
        self.received, self._announces = None, announces
        self._before = {**_handle(self._note), **self._before}

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received is not None:
            raise SystemExit(128 + number)
        self.received = number
        if self._announces:
            # the signal may arrive during a print(), which must not be entered again
            # standard error may have ended with the terminal
            with contextlib.suppress(OSError):
                os.write(2, _STOPPING)

    def give_back(self) -> None:
        """Restore the previous handlers."""
        _restore(self._before)


@contextlib.contextmanager
def exiting() -> Iterator[None]:
    """Exit at a signal, with exit code 128 + its number; for the time before and after a training."""

    def leave(number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(OSError):
            os.write(2, b"\ninterrupted\n")
        raise SystemExit(128 + number)

    before = _handle(leave)
    try:
        yield
    finally:
        _restore(before)


def _handle(handler: Callable[[int, FrameType | None], None]) -> dict[int, Any]:
    """Install a handler, except for ignored signals; the previous handlers.

    Python allows this in the main thread only; elsewhere do nothing.
    """
    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {n: signal.signal(n, handler) for n in numbers if signal.getsignal(n) is not signal.SIG_IGN}


def _restore(handlers: dict[int, Any]) -> None:
    while handlers:
        signal.signal(*handlers.popitem())


def clear_marker(trainer: Trainer) -> None:
    """Remove the requeue marker of an earlier job."""
    if trainer.is_global_zero:
        (Path(trainer.default_root_dir) / REQUEUE_MARKER).unlink(missing_ok=True)


def save_interrupted(trainer: Trainer, number: int) -> None:
    """Save ``checkpoints/interrupted.ckpt``, print how to resume and, after a scheduler's signal, write a marker.

    Collective: all ranks call this.
    """
    run, step = Path(trainer.default_root_dir), trainer.global_step
    path = run / "checkpoints" / INTERRUPTED
    in_validation = bool(trainer.validating)
    if in_validation:
        _restart_validation(trainer)
    trainer.save_checkpoint(path, weights_only=False)
    if trainer.is_global_zero:
        if number in _REQUEUE:
            write_atomic(run / REQUEUE_MARKER, f"{path}\n")
        where = f"in the validation after step {step}" if in_validation else f"at step {step}"
        with contextlib.suppress(OSError):  # of a terminal that has ended
            print(f"\ninterrupted {where}; to resume, run the same command with --ckpt_path {path}", flush=True)
    # launchers may end all ranks as soon as the first one exits
    trainer.strategy.barrier("interrupted")


def _restart_validation(trainer: Trainer) -> None:
    """Reset the progress counters of the validation, so that a resumed run repeats the validation from the start.

    With any other counters Lightning treats the validation as finished or started, and skips batches.
    """
    progress = trainer.fit_loop.epoch_loop.val_loop.batch_progress
    completed_before = progress.total.completed - progress.current.completed
    for counters, start in ((progress.total, completed_before), (progress.current, 0)):
        counters.load_state_dict({"ready": start + 1, "started": start + 1, "processed": start, "completed": start})
    progress.is_last_batch = False
