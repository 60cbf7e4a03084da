"""Agreement of all ranks at each optimizer step: whether to stop, and whether loss and gradients are finite.

One all-reduce and one host synchronisation per optimizer step; with one process, only the synchronisation.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, cast

import torch
import torch.distributed as dist
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from nextgpt_pl.errors import UserError
from nextgpt_pl.stages.steps import Steps
from nextgpt_pl.training.checkpoint_io import last_checkpoint
from nextgpt_pl.training.interrupts import Signals, clear_marker, save_interrupted
from nextgpt_pl.training.loops import validates_now
from nextgpt_pl.utils.distributed import any_rank, rank, world_size
from nextgpt_pl.utils.finite import not_finite
from nextgpt_pl.utils.transfer import upload

OnNonFinite = Literal["raise", "skip"]

_NAMED = 32  # items per rank in a message
_OVERFLOWS = 64  # consecutive overflows, after which a gradient scaler has reduced its scale to zero


class StepAgreement(Callback):
    """Refuses optimizer steps whose loss or gradients are not finite, and saves a checkpoint after a signal.

    A signal, or a NaN in a loss or a sharded gradient, may reach a single rank; all ranks act on it together before
    the optimizer changes a weight. With gradient accumulation this happens after the last batch of a step, so its
    checkpoint loses no gradients of a partly accumulated step. A checkpoint of a validation between two optimizer steps
    does; a warning at the start of the training says so.

    Signals are handled if the trainer has a checkpoint callback. They take effect after an optimizer step, or after a
    batch or task of a validation; after the last of them the training ends as usual. A resumed run repeats an
    interrupted validation.

    Args:
        on_nonfinite: ``raise`` stops the run with a :class:`UserError`; ``skip`` omits the optimizer step on all ranks
            (the learning-rate schedule advances), warns, and logs the count as ``train/steps_skipped``.
        give_up_after: with ``skip``, the number of consecutive skipped steps that stops the run.

    """

    def __init__(self, on_nonfinite: OnNonFinite = "raise", give_up_after: int = 10) -> None:
        if on_nonfinite not in ("raise", "skip"):
            raise UserError(f"model.on_nonfinite={on_nonfinite!r}: expected 'raise' or 'skip'")
        if give_up_after < 1:
            raise UserError(f"model.give_up_after={give_up_after}: at least 1 step")
        self.on_nonfinite, self.give_up_after = on_nonfinite, give_up_after
        self.signals = Signals()
        self.skipped = self.skipped_in_a_row = 0
        self._overflows = 0  # consecutive steps with overflowing scaled gradients
        self._stop = False
        self._keys: Sequence[str] = ()
        # of this optimizer step: per batch its keys and loss, and the parts used so far
        self._losses: list[tuple[Sequence[str], Tensor]] = []
        self._used: set[str] = set()

    def state_dict(self) -> dict[str, int]:
        """Lightning's hook: the counts of skipped steps, which continue after a resume."""
        return {"skipped": self.skipped, "skipped_in_a_row": self.skipped_in_a_row}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Lightning's hook."""
        self.skipped, self.skipped_in_a_row = state_dict["skipped"], state_dict["skipped_in_a_row"]

    # -- an optimizer step -----------------------------------------------------------------------------------------

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Record the keys of the items whose loss comes next, and the parts that they use."""
        self._keys = getattr(batch, "keys", ())
        if world_size() > 1:
            self._used |= cast(Steps, pl_module).used_parts(batch)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Record the loss without a host synchronisation."""
        self._losses.append((self._keys, loss.detach()))

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Agree with all ranks, and refuse the step if a loss or a gradient is not finite.

        Raises:
            UserError: one is not finite and the run must stop; the message names rank, items and the last checkpoint.

        """
        losses, self._losses = self._losses, []
        parts = cast(Steps, pl_module).optional_parts() if world_size() > 1 else {}
        flags = [self.signals.received is not None, *(name in self._used for name in parts)]
        self._used = set()
        found = _agreed(flags, [loss for _, loss in losses], _gradients(optimizer), pl_module.device)
        bad_loss, bad_gradient, self._stop, *used = found
        for part, is_used in zip(parts.values(), used, strict=True):
            if not is_used:  # on no rank: left alone, as with one process, without an update or weight decay
                _forget_gradients(part)
        if getattr(trainer.precision_plugin, "scaler", None) is not None and not bad_loss:
            # the gradient scaler of 16-mixed skips steps whose gradients overflow by itself
            self._overflows = self._overflows + 1 if bad_gradient else 0
            bad_gradient = self._overflows >= _OVERFLOWS
        if not (bad_loss or bad_gradient):
            self.skipped_in_a_row = 0
            return
        self.skipped_in_a_row += 1
        report = _report(trainer, pl_module, losses, bad_gradient)
        gives_up = self.skipped_in_a_row >= self.give_up_after or self._overflows >= _OVERFLOWS
        if self.on_nonfinite == "raise" or gives_up:
            _refuse(trainer, report, max(self.skipped_in_a_row, self._overflows))
        self.skipped += 1
        optimizer.zero_grad(set_to_none=True)  # without gradients the optimizer changes no weight
        pl_module.log("train/steps_skipped", float(self.skipped))
        rank_zero_warn(f"optimizer step {trainer.global_step + 1} skipped: {report}")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a validation loss that is not finite, since it selects the best checkpoint.

        Raises:
            UserError: the loss is not finite and ``on_nonfinite`` is ``raise``.

        """
        loss = trainer.callback_metrics.get("val/loss")
        if trainer.state.fn != "fit" or trainer.sanity_checking or loss is None or bool(torch.isfinite(loss)):
            return
        message = f"the validation after step {trainer.global_step}: val/loss is {float(loss)}"
        if self.on_nonfinite == "raise":
            raise UserError(f"{message}. {last_checkpoint(Path(trainer.default_root_dir))}")
        rank_zero_warn(message)

    # -- interruptions ---------------------------------------------------------------------------------------------

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Install the signal handlers in place of Lightning's, if the run saves checkpoints."""
        _warn_of_split_steps(trainer)
        if trainer.checkpoint_callbacks and not getattr(trainer, "fast_dev_run", False):
            clear_marker(trainer)
            self.signals.take_over(announces=trainer.is_global_zero)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Save and stop, if the ranks agreed to stop at this batch's optimizer step.

        Where a validation follows, it is interrupted after its first batch, and repeated by a resumed run. After the
        last step, the training ends.

        Raises:
            SystemExit: the exit code is 128 + the signal's number, as in shells.

        """
        stop, self._stop = self._stop, False
        is_last = 0 <= trainer.max_steps <= trainer.global_step
        if stop and not is_last and not validates_now(trainer):
            self._save_and_exit(trainer)

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any) -> None:
        """Save and stop after a validation batch, if a rank has received a signal."""
        self.act(trainer, pl_module)

    def act(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save and stop if a rank has received a signal. Collective during the validations of a training."""
        training = trainer.state.fn == "fit" and not trainer.sanity_checking
        if training and any_rank(self.signals.received is not None, pl_module.device):
            self._save_and_exit(trainer)

    def _save_and_exit(self, trainer: Trainer) -> NoReturn:
        number = self.signals.received or signal.SIGTERM
        save_interrupted(trainer, number)
        self.signals.give_back()
        raise SystemExit(128 + number)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Restore the signal handlers, after the adapter was written."""
        self.signals.give_back()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Restore the signal handlers."""
        self.signals.give_back()


def act_on_signals(trainer: Trainer, pl_module: LightningModule) -> None:
    """Save and stop if a rank has received a signal. Collective: for callbacks with long work in a validation."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, StepAgreement):
            callback.act(trainer, pl_module)


def _warn_of_split_steps(trainer: Trainer) -> None:
    """Warn if validations fall between optimizer steps: their checkpoints lose the gradients accumulated so far."""
    every, batches = trainer.val_check_batch, trainer.accumulate_grad_batches
    if not trainer.enable_validation or not isinstance(every, int):  # by time, or at the end of an endless epoch
        return
    ends_epoch = every == trainer.num_training_batches  # whose last batch always ends a step
    if every % batches and not ends_epoch:
        rank_zero_warn(
            f"validations every {every} batches fall between optimizer steps of {batches} batches"
            " (trainer.accumulate_grad_batches): a run resumed from the checkpoint of such a validation loses the"
            " gradients accumulated before it. Set trainer.val_check_interval to a multiple to avoid this"
        )


def _forget_gradients(parameters: Sequence[torch.nn.Parameter]) -> None:
    for parameter in parameters:
        parameter.grad = None


def _gradients(optimizer: Optimizer) -> list[Tensor]:
    """The gradients of this rank; of sharded parameters its local shards."""
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    return [g.to_local() if isinstance(g, DTensor) else g for g in gradients]


def _agreed(flags: list[bool], losses: list[Tensor], gradients: list[Tensor], device: torch.device) -> list[bool]:
    """Whether any rank has a loss that is not finite, a gradient that is not finite, and each of the flags."""
    agreed = upload(torch.tensor([0.0, 0.0, *map(float, flags)]), device)
    if losses:
        agreed[0] = (~torch.stack([loss.float() for loss in losses]).isfinite()).any()
    if gradients:
        agreed[1] = ~torch.nn.utils.get_total_norm(gradients).isfinite()
    if world_size() > 1:
        dist.all_reduce(agreed, dist.ReduceOp.MAX)
    return [flag > 0 for flag in agreed.tolist()]


def _report(
    trainer: Trainer, pl_module: LightningModule, losses: list[tuple[Sequence[str], Tensor]], bad_gradient: bool
) -> str:
    """Describe which loss or gradient of which rank is not finite, and its items. Collective."""
    values = [(keys, float(loss) * trainer.accumulate_grad_batches) for keys, loss in losses]
    bad = [(keys, value) for keys, value in values if not torch.isfinite(torch.tensor(value))]
    own_report = "; ".join(f"rank {rank()}: loss {value}, items {_items(keys)}" for keys, value in bad)
    if bad_gradient and not bad:
        named = {n: p.grad for n, p in pl_module.named_parameters() if p.grad is not None}
        names = ", ".join(not_finite(named)[:3])
        keys = [key for of_batch, _ in losses for key in of_batch]
        own_report = f"?rank {rank()}: gradient of {names or 'another rank'}, items {_items(keys)}"
    reports: list[str] = [own_report] * world_size()
    if world_size() > 1:
        dist.all_gather_object(reports, own_report)
    # a NaN loss makes the averaged gradients of all ranks NaN: then report losses only
    losses_not_finite = [text for text in reports if text and not text.startswith("?")]
    return "; ".join(losses_not_finite or [text.removeprefix("?") for text in reports if text])


def _items(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
    return ", ".join(keys[:_NAMED]) + more


def _refuse(trainer: Trainer, report: str, in_a_row: int) -> NoReturn:
    times = f" ({in_a_row} steps in a row)" if in_a_row > 1 else ""
    raise UserError(
        f"optimizer step {trainer.global_step + 1}: not finite{times}: {report}. "
        f"No weight was changed by this step. {last_checkpoint(Path(trainer.default_root_dir))} "
        "A lower model.lr may help, or model.on_nonfinite=skip if single items are at fault"
    )
