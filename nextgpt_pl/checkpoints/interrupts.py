"""A run that is told to stop saves where it is."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from nextgpt_pl.distributed import any_process, processes


class SaveWhenInterrupted(Callback):
    """SIGTERM (schedulers send it before they kill) and Ctrl-C leave a checkpoint and say how to go on.

    A signal may reach one process only: whether to stop is agreed on by all behind each training step. Lightning's own
    handler talks to the other processes from inside the signal handler, which can hang, and saves nothing.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals over from Lightning."""
        try:
            for number in [signal.SIGTERM, *([signal.SIGINT] if processes() > 1 else [])]:
                self._before[number] = signal.signal(number, self._note)
        except ValueError:
            self._before.clear()  # not in the main thread: nobody can take signals over there

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.received = number

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Save and stop, all processes together.

        Raises:
            SystemExit: with 128 + the signal's number, as shells say it.

        """
        if any_process(self.received is not None, pl_module.device):
            _save(trainer)
            self.on_train_end(trainer, pl_module)
            raise SystemExit(128 + (self.received or signal.SIGTERM))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Ctrl-C with one process, which needs nobody's consent."""
        begun = trainer.state.fn == "fit" and trainer.global_step > 0
        if isinstance(exception, KeyboardInterrupt) and begun and processes() == 1:
            _save(trainer)


def _save(trainer: Trainer) -> None:
    path = Path(trainer.default_root_dir) / "checkpoints" / "interrupted.ckpt"
    trainer.save_checkpoint(path, weights_only=False)
    if trainer.is_global_zero:
        step = trainer.global_step
        print(f"\ninterrupted at step {step}; to go on: the same command with --ckpt_path {path}", flush=True)
