"""Callbacks that keep the last checkpoints of a run, and the best one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint

from nextgpt_pl.training.interrupts import INTERRUPTED
from nextgpt_pl.training.loops import validates_now
from nextgpt_pl.utils.atomic import atomic_file, scratch_name


class LastCheckpoints(Checkpoint):
    """Keeps the last checkpoints ``step_NNNNNN.ckpt``, and a link ``last.ckpt`` to the newest one.

    The checkpoints are listed from the folder, so their number is bounded over any number of resumed runs. Lightning's
    callback never deletes the checkpoint that a run was resumed from, and with a ``monitor`` it waits for a validation.

    A checkpoint of a step after which there is a validation is saved after the validation, since Lightning does not
    validate again if it resumes from one that was saved before; likewise at the end of an epoch. A run that was killed
    while it replaced its checkpoints does the rest when it is resumed.

    Args:
        keep: number of checkpoints to keep.
        every: steps between checkpoints; ``None``: after each validation. The end of training is also saved.

    """

    def __init__(self, keep: int, every: int | None) -> None:
        self.keep, self.every = keep, every
        self._saved_at = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The checkpoint that the run was resumed from need not be saved again."""
        folder, step = Path(trainer.default_root_dir) / "checkpoints", trainer.global_step
        if trainer.is_global_zero and step:
            self._finish_saving(trainer, folder, step)
        is_saved = not step or _numbered(folder, step).is_file()
        # the ranks save together
        self._saved_at = trainer.strategy.broadcast(step if is_saved else -1)

    def _finish_saving(self, trainer: Trainer, folder: Path, step: int) -> None:
        """Do what was left of saving the checkpoints of a step when the run was interrupted."""
        if trainer.fit_loop.epoch_loop.val_loop.restarted_mid_evaluation:
            return  # the validation is repeated, and saves them
        path, resumed = _numbered(folder, step), Path(trainer.ckpt_path or "").resolve()
        equal = [f"best_{step:06d}.ckpt", *([INTERRUPTED] if self._is_due(trainer) else [])]
        if not path.is_file() and resumed in [folder / name for name in equal]:
            with atomic_file(path) as scratch:
                shutil.copyfile(resumed, scratch)
        if path.is_file():
            _replace_others(folder, step, self.keep)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Save every ``every`` steps, unless a validation or the end of the epoch follows, which saves."""
        ends_epoch = trainer.fit_loop.epoch_loop._num_ready_batches_reached()
        if self._is_due(trainer) and not ends_epoch and not validates_now(trainer):
            self._save(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save after each validation or, with ``every``, after those of the steps that are to be saved."""
        if (not self.every or self._is_due(trainer)) and not trainer.sanity_checking and trainer.state.fn == "fit":
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save at the end of the training, and after an epoch if it is due or nothing else saves."""
        ended = trainer.fit_loop.epoch_loop._is_training_done or trainer.fit_loop.done
        if ended or self._is_due(trainer) or not (self.every or sum(trainer.num_val_batches)):
            self._save(trainer)

    def _is_due(self, trainer: Trainer) -> bool:
        return bool(self.every) and trainer.global_step % int(self.every or 1) == 0

    def _save(self, trainer: Trainer) -> None:
        step = trainer.global_step
        if step == self._saved_at or getattr(trainer, "fast_dev_run", False):
            return
        self._saved_at = step
        folder = Path(trainer.default_root_dir) / "checkpoints"
        trainer.save_checkpoint(_numbered(folder, step), weights_only=False)
        if trainer.is_global_zero:
            _replace_others(folder, step, self.keep)


def _numbered(folder: Path, step: int) -> Path:
    return folder / f"step_{step:06d}.ckpt"


def _replace_others(folder: Path, step: int, keep: int) -> None:
    """Link the checkpoint of a step as the last one, and delete those that it replaces."""
    scratch = scratch_name(folder / "last.ckpt")
    scratch.symlink_to(_numbered(folder, step).name)
    scratch.replace(folder / "last.ckpt")
    for old in outdated(folder, step, keep):
        old.unlink(missing_ok=True)


def outdated(folder: Path, step: int, keep: int) -> list[Path]:
    """Checkpoints that the one of ``step``, just written, replaces: all but the last ``keep``.

    Checkpoints of later steps come first: the run was resumed from an older one, and repeats these steps. So does
    ``interrupted.ckpt``, which the new one replaces.
    """
    steps = {path: int(path.stem.removeprefix("step_")) for path in folder.glob("step_*.ckpt") if _is_numbered(path)}
    by_age = sorted(steps, key=lambda path: (steps[path] <= step, steps[path]))
    return [*by_age[:-keep], *folder.glob(INTERRUPTED)]


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
        self._delete_others(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Delete the best checkpoint that was to be deleted when the run was killed."""
        super().on_train_start(trainer, pl_module)
        self._delete_others(trainer)

    def _delete_others(self, trainer: Trainer) -> None:
        best = Path(self.best_model_path)
        if trainer.is_global_zero and best.is_file():
            for other in best.parent.glob("best_*.ckpt"):
                if other.name != best.name:
                    other.unlink(missing_ok=True)
