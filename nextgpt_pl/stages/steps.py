"""Steps of the stages: losses and metrics over all ranks, their logs, and random numbers per training step."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from nextgpt_pl.batches import Batch
from nextgpt_pl.utils.distributed import Mean, means, rank, world_size, zero_gradients


class Steps(LightningModule, ABC):
    """Training, validation, test and prediction of one batch."""

    def __init__(self) -> None:
        super().__init__()
        # seed of random numbers in training, set by seed_everything
        self.random_seed = torch.initial_seed() % 2**63

    @property
    @abstractmethod
    def measured(self) -> tuple[str, ...]:
        """Names of all values that a step may measure, in all-reduce order; depends on the configuration only."""

    @abstractmethod
    def model_step(self, batch: Batch, split: str) -> Tensor:
        """Compute the loss of a batch and log metrics under ``split/...``."""

    @abstractmethod
    def optional_parts(self) -> dict[str, list[torch.nn.Parameter]]:
        """Parameters of parts that a batch may leave unused, by name, in the same order on all ranks."""

    @abstractmethod
    def used_parts(self, batch: Batch) -> set[str]:
        """Names of the :meth:`optional_parts` that a training step on this batch uses."""

    def evaluate(self, batch: Batch, split: str) -> None:
        """A step of validation or test."""
        self.model_step(batch, split)

    def finish(self, split: str) -> None:
        """Log what :meth:`evaluate` has collected over the data set, and write samples."""

    # With sharded weights, parameters outside of blocks are gathered in these five methods only.

    def training_step(self, batch: Batch, _batch_idx: int) -> Tensor | None:
        """The loss of a batch; ``None``, and no backward pass, if no trained parameter is in it.

        With several ranks, parts that this rank's batch does not use get zero gradients, since another rank may use
        them. :class:`~nextgpt_pl.stages.agreement.StepAgreement` takes away those of parts that no rank has used.
        """
        loss = self.model_step(batch, "train")
        if world_size() == 1:
            return loss if loss.requires_grad else None
        used = self.used_parts(batch)
        unused = (p for name, part in self.optional_parts().items() if name not in used for p in part)
        return loss + zero_gradients(unused, loss)

    def validation_step(self, batch: Batch, _batch_idx: int) -> None:
        """Lightning's hook."""
        self.evaluate(batch, "val")

    def test_step(self, batch: Batch, _batch_idx: int) -> None:
        """Lightning's hook."""
        self.evaluate(batch, "test")

    @abstractmethod
    def predict_step(self, batch: Batch, _batch_idx: int) -> Any:
        """Lightning's hook."""

    def gather_parameters(self) -> None:
        """Gather parameters for code without gradients outside of a step: until the next training step they stay whole.

        Does nothing by itself: the hooks of FSDP2 around it gather.
        """

    def on_validation_epoch_end(self) -> None:
        """Lightning's hook."""
        self.finish("val")

    def on_test_epoch_end(self) -> None:
        """Lightning's hook."""
        self.finish("test")

    def on_train_batch_start(self, _batch: Batch, _batch_idx: int) -> None:
        """Seed random numbers from the run's seed, the batch's number and the rank.

        A resumed run then has the same random numbers (such as LoRA's dropout) as an uninterrupted one, independent of
        those used by validation, samples or workers.
        """
        number = self.trainer.fit_loop.epoch_loop.batch_progress.total.ready
        state = np.random.SeedSequence([self.random_seed, number, rank()]).generate_state(2)
        seed = int(state[0]) << 31 | int(state[1]) >> 1
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(int(state[0]))

    def means(self, sums: Mapping[str, tuple[Tensor, int]]) -> dict[str, Mean]:
        """Means over all ranks of a step's values; see :func:`nextgpt_pl.utils.distributed.means`.

        Collective: every step calls this once, whatever its batch contains.
        """
        return means(self.measured, sums)

    def log_split(self, values: Mapping[str, tuple[Tensor, float | Tensor]], split: str) -> None:
        """Log under ``split/``: per step in training, averaged over items otherwise.

        Args:
            values: per name, a mean over all ranks and its number of items; a mean over no items is not logged. With
                several ranks, numbers of items are read from the device only in steps that write logs; in other steps
                only the first value is logged.
            split: ``train``, ``val`` or ``test``.

        """
        # without prog_bar, for which Lightning would synchronise with the device in every step
        train = split == "train"
        if train and world_size() > 1 and not self.logs_this_step():
            name, (value, _) = next(iter(values.items()))
            self.log(f"{split}/{name}", value)
            return
        counts = torch.stack([torch.as_tensor(count) for _, count in values.values()]).tolist()
        for (name, (value, _)), count in zip(values.items(), counts, strict=True):
            if count > 0:
                size = None if train else max(1, round(count))
                self.log(f"{split}/{name}", value, on_epoch=not train, batch_size=size)

    def logs_this_step(self) -> bool:
        """Whether Lightning passes the values of this training step to the loggers."""
        logger = self.trainer._logger_connector  # Lightning has no public attribute for it
        return bool(logger.should_update_logs or getattr(self.trainer, "fast_dev_run", False))

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, _dataloader_idx: int) -> Batch:
        """Lightning's hook."""
        return batch.to(device)
