"""Lightning's training loop, for runs that are resumed at their last step."""

from __future__ import annotations

from typing import cast

from lightning.pytorch import Trainer
from lightning.pytorch.loops.fit_loop import _FitLoop
from lightning.pytorch.loops.progress import _ProcessedTracker
from lightning.pytorch.utilities import rank_zero_info


class ResumableFitLoop(_FitLoop):
    """Repeats an interrupted validation after the last step, and always calls the hooks of the end of the training.

    Lightning returns at once if the checkpoint is of the last step: the validation would stay unfinished, and the run
    would have no adapter.

    Args:
        trainer: trainer whose loop it replaces.

    """

    def __init__(self, trainer: Trainer) -> None:
        replaced = trainer.fit_loop
        super().__init__(trainer, replaced.min_epochs, replaced.max_epochs)
        self.epoch_loop = replaced.epoch_loop

    @property
    def done(self) -> bool:
        """Lightning's condition, and no validation is to be repeated."""
        return not self._in_validation() and super().done

    @property
    def skip(self) -> bool:
        """Lightning's condition, unless steps were done before."""
        if not super().skip:
            return False
        if not self.trainer.global_step or not self.max_batches or not self.trainer.limit_train_batches:
            return True
        rank_zero_info(
            f"nothing was left to train: the checkpoint is of step {self.trainer.global_step}, and"
            f" trainer.max_steps={self.max_steps}, trainer.max_epochs={self.max_epochs}; the adapter is written from it"
        )
        return False

    def reset(self) -> None:
        """Lightning's reset; batches of a validation that is repeated, and an epoch that has ended, count once.

        With ``max_steps``, Lightning takes an epoch from whose end it resumes for one that is to be continued.
        """
        epochs, all_epochs = (
            cast(_ProcessedTracker, count) for count in (self.epoch_progress.current, self.epoch_progress.total)
        )
        ended = self.restarting and 0 < epochs.ready == epochs.started == epochs.processed
        super().reset()
        steps = self.epoch_loop
        in_last_batch = self.restarted_mid_epoch and steps.restarted_on_train_batch_end
        if in_last_batch and steps.batch_progress.is_last_batch:  # saved before the hooks of the epoch's end
            ended = True
            steps._batches_that_stepped += 1  # as Lightning's loop does if it is restarted
        if ended:
            for counted in (epochs, all_epochs):
                counted.completed = counted.processed
            self.reset_restart_stage()
            self._restarting = steps.restarting = False
        validation = self.epoch_loop.val_loop
        if validation.restarted_mid_evaluation:
            total = validation.batch_progress.total
            total.load_state_dict(dict.fromkeys(("ready", "started", "processed", "completed"), total.completed))

    def _in_validation(self) -> bool:
        """Whether the checkpoint was saved in a validation that is still to be repeated."""
        validation = self.epoch_loop.val_loop
        if not validation.restarted_mid_evaluation:
            validation.update_restart_stage()
        return validation.restarted_mid_evaluation and not validation._has_run


def validates_now(trainer: Trainer) -> bool:
    """Whether a validation follows the training batch that has just ended."""
    fetcher = trainer.fit_loop._data_fetcher
    validates = fetcher is not None and trainer.fit_loop.epoch_loop._should_check_val_fx(fetcher)
    return validates and sum(trainer.num_val_batches) > 0
