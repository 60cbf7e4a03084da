"""Progress bar of training."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import convert_inf

from nextgpt_pl.training.throughput import SAMPLES


class ResumingProgressBar(TQDMProgressBar):
    """Lightning's progress bar, corrected for resumed epochs and with fewer host synchronisations.

    Lightning sets a bar's length and count at the start of an epoch. A resumed epoch has no start, so its bar would
    have no length, and a rate that includes the batches before the interruption. The logged values of training steps
    are read from the device only when the bar is drawn, all at once.
    """

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Lightning's metrics without the logger's version number, and the logged values of the training step."""
        shown = super().get_metrics(trainer, pl_module)
        shown.pop("v_num", None)
        values = {n: v for n, v in trainer.callback_metrics.items() if n.startswith("train/") or n == SAMPLES}
        if not trainer.training or not values:
            return shown
        numbers = torch.stack([v.detach().float() for v in values.values()]).tolist()
        names = ("samples/s" if name == SAMPLES else name for name in values)
        return {**shown, **dict(zip(names, numbers, strict=True))}

    def on_train_start(self, trainer: Trainer, *args: Any) -> None:
        """Lightning's hook."""
        super().on_train_start(trainer, *args)
        loop = trainer.fit_loop
        if not loop.restarted_mid_epoch:
            return
        done = loop.epoch_loop.batch_progress.current.ready
        total = self.total_train_batches
        if total < trainer.num_training_batches:  # limited by the remaining steps of ``max_steps``
            total += done
        bar = self.train_progress_bar
        bar.total = convert_inf(total)
        bar.initial = bar.n = done
        bar.set_description(f"Epoch {trainer.current_epoch}")
