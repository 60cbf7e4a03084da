"""Callbacks that keep the last checkpoints of a run, and the best one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint

from nextgpt_pl.utils.atomic import scratch_name


class LastCheckpoints(Checkpoint):
    """Keeps the last checkpoints ``step_NNNNNN.ckpt``, and a link ``last.ckpt`` to the newest one.

    The checkpoints are listed from the folder, so their number is bounded over any number of resumed runs. Lightning's
    callback never deletes the checkpoint that a run was resumed from, and with a ``monitor`` it waits for a validation.

    Args:
        keep: number of checkpoints to keep.
        every: steps between checkpoints; ``None``: after each validation. The end of training is also saved.

    """

    def __init__(self, keep: int, every: int | None) -> None:
        self.keep, self.every = keep, every
        self._saved_at = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The checkpoint that the run was resumed from need not be saved again."""
        self._saved_at = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Save every ``every`` steps."""
        if self.every and trainer.global_step % self.every == 0:
            self._save(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save after each validation, unless ``every`` is given."""
        if not self.every and not trainer.sanity_checking and trainer.state.fn == "fit":
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save at the end of the training, and after each epoch if there is neither ``every`` nor a validation."""
        ended = trainer.fit_loop.epoch_loop._is_training_done or trainer.fit_loop.done
        if ended or not (self.every or sum(trainer.num_val_batches)):
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        step = trainer.global_step
        if step == self._saved_at or getattr(trainer, "fast_dev_run", False):
            return
        self._saved_at = step
        folder = Path(trainer.default_root_dir) / "checkpoints"
        path = folder / f"step_{step:06d}.ckpt"
        trainer.save_checkpoint(path, weights_only=False)
        if not trainer.is_global_zero:
            return
        scratch = scratch_name(folder / "last.ckpt")
        scratch.symlink_to(path.name)
        scratch.replace(folder / "last.ckpt")
        for old in outdated(folder, step, self.keep):
            old.unlink(missing_ok=True)


def outdated(folder: Path, step: int, keep: int) -> list[Path]:
    """Checkpoints that the one of ``step``, just written, replaces: all but the last ``keep``.

    Checkpoints of later steps come first: the run was resumed from an older one, and repeats these steps. So does
    ``interrupted.ckpt``, which the new one replaces.
    """
    steps = {path: int(path.stem.removeprefix("step_")) for path in folder.glob("step_*.ckpt") if _is_numbered(path)}
    by_age = sorted(steps, key=lambda path: (steps[path] <= step, steps[path]))
    return [*by_age[:-keep], *folder.glob("interrupted.ckpt")]


def _is_numbered(path: Path) -> bool:
    return path.stem.removeprefix("step_").isdecimal()


class BestCheckpoint(ModelCheckpoint):
    """Saves after validations only: without a validation there is no best checkpoint, and no error."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do nothing."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any) -> None:
        """Do nothing."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save if this is the best checkpoint so far, and delete the previous one."""
        if self.monitor not in trainer.callback_metrics:
            return
        super().on_validation_end(trainer, pl_module)
        best = Path(self.best_model_path)
        if trainer.is_global_zero and best.is_file():
            for other in best.parent.glob("best_*.ckpt"):
                if other.name != best.name:
                    other.unlink(missing_ok=True)
