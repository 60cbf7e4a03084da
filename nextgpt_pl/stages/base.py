"""Base class of the stages: trained parameters, optimizer and schedule, checkpoints of trained parameters only."""

from __future__ import annotations

import fnmatch
import json
import random
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from nextgpt_pl.adapter import load_adapter, save_adapter
from nextgpt_pl.batches import Batch
from nextgpt_pl.dialogue.conversation import Conversation, Direction
from nextgpt_pl.encoders.media_reader import MediaReader
from nextgpt_pl.errors import UserError
from nextgpt_pl.model import NextGPT
from nextgpt_pl.stages.agreement import OnNonFinite, StepAgreement
from nextgpt_pl.stages.kept import check_kept, keep_only, parts_without
from nextgpt_pl.stages.optimization import Optimization, Schedule
from nextgpt_pl.stages.parameters import parameter_table
from nextgpt_pl.stages.rows import log_rows, report_rows
from nextgpt_pl.training.checkpoint_io import last_checkpoint, tensors_of
from nextgpt_pl.training.strategies import ShardedStrategy
from nextgpt_pl.utils.distributed import Mean, means, rank, world_size
from nextgpt_pl.utils.finite import check_finite
from nextgpt_pl.utils.precision import check_trainer_precision


class Stage(LightningModule, ABC):
    """Base class of the stages.

    Args:
        network: the model.
        lr: AdamW's learning rate after warm-up (paper, table 7).
        weight_decay: AdamW's weight decay.
        betas: AdamW's betas.
        warmup_ratio: fraction of all steps with linear warm-up.
        schedule: schedule of the learning rate after warm-up.
        lr_scales: factor on the learning rate per pattern of parameter names; the first matching pattern counts.
        init_from: folder of an adapter whose weights this stage starts from; for resuming a run use ``--ckpt_path``.
        on_nonfinite: policy for a loss or gradient that is not finite: ``raise`` stops the run before the optimizer
            changes a weight; ``skip`` omits this optimizer step on all ranks and counts it.
        give_up_after: number of consecutive skipped steps that stops the run.

    """

    #: patterns of the parameters that this stage trains; each must match a parameter
    trains: tuple[str, ...] = ()
    #: direction in which captioned pairs are read
    direction: Direction = "generation"
    #: whether rows contain input media; otherwise the encoder is not loaded
    shows_media = True

    #: whether the LLM's layers are read by its first pass only, since all of its states may be in the cache
    layers_on_demand = False

    def __init__(
        self,
        network: NextGPT,
        lr: float = 4e-4,
        weight_decay: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.95),
        warmup_ratio: float = 0.1,
        schedule: Schedule = "linear",
        init_from: Path | None = None,
        lr_scales: dict[str, float] | None = None,
        on_nonfinite: OnNonFinite = "raise",
        give_up_after: int = 10,
    ) -> None:
        super().__init__()
        self.network = network
        self.name = type(self).__name__  # sharding replaces the class
        self.optimization = Optimization(lr, weight_decay, betas, warmup_ratio, schedule, dict(lr_scales or {}))
        self.init_from = init_from
        self.step_agreement = StepAgreement(on_nonfinite, give_up_after)
        self.inherited: dict[str, Any] = {"stages": [], "keys": []}
        self._adapter_left = False  # in this fit
        # seed of random numbers in training, set by seed_everything
        self.random_seed = torch.initial_seed() % 2**63
        # checkpoints contain no frozen weights; on_load_checkpoint checks all other keys
        self.strict_loading = False

    def configure_callbacks(self) -> list[Callback]:
        """Callbacks of every training of this stage."""
        return [self.step_agreement]

    # -- set-up ---------------------------------------------------------------------------------------------------

    def configure_model(self) -> None:
        """Build the network, load an adapter, freeze all other parameters, and shard the network if configured."""
        if self.device_mesh is None:
            if not self.network.loaded:
                self._build()
            return
        strategy = self.trainer.strategy
        if not isinstance(strategy, ShardedStrategy):
            raise UserError(
                f"trainer.strategy: {type(strategy).__name__} cannot shard this network;"
                " use nextgpt_pl.training.strategies.ShardedStrategy"
            )
        if not self.network.loaded:
            strategy.build(self.network, self._build)
        strategy.shard(self)

    def _build(self) -> None:
        self.network.load(encoder=self.shows_media, llm_layers=not self.layers_on_demand)
        if self.init_from is not None:
            self.inherited = load_adapter(self.init_from, self.network)
            rank_zero_info(f"weights of stage {self.inherited['stage']} loaded from {self.init_from}")
        self.extend_network()
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(any(fnmatch.fnmatchcase(name, pattern) for pattern in self.trains))
        if self.init_from is not None and (new_parts := self.trained_anew()):
            rank_zero_info(f"not in that adapter, so newly initialised: {', '.join(new_parts)}")

    def trained_anew(self) -> list[str]:
        """Trained parts without weights in ``init_from``."""
        return parts_without(self.trainable(), self.inherited["keys"])

    def extend_network(self) -> None:
        """Add parts to the network, such as LoRA; called after loading, before parameters are frozen."""

    @property
    def renderer(self) -> Conversation:
        """Renders items as token ids, for the data module."""
        return self.network.conversation(self.direction)

    @property
    def reader(self) -> MediaReader:
        """Reads media files of rows, for the data module's workers."""
        return MediaReader(self.network.encoder, stores=self.network.encoder_stores)

    def trainable(self) -> dict[str, torch.nn.Parameter]:
        """The trained parameters of the network, by name."""
        return {name: p for name, p in self.network.named_parameters() if p.requires_grad}

    def setup(self, stage: str) -> None:
        """Refuse precisions that convert weights and targets to another dtype."""
        check_trainer_precision(self.trainer.precision)

    def on_fit_start(self) -> None:
        """Check that there are trained parameters in float32; print their number."""
        self._adapter_left = False
        trainable = self.trainable()
        for pattern in self.trains:
            if not fnmatch.filter(trainable, pattern):
                raise UserError(f"{self.name} trains {pattern!r}, but the network has no such parameter")
        low = [name for name, p in trainable.items() if p.dtype != torch.float32]
        if low:
            raise UserError(f"trainable parameters must be float32, these are not: {', '.join(low[:5])}")
        rank_zero_info(self.summary())
        self.network.train(True)

    def on_train_start(self) -> None:
        """Log the number of rows that the data module used."""
        log_rows(self.trainer)

    def summary(self) -> str:
        """Table of parameters per part and the trained share."""
        return parameter_table(self.name, self.network)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The trained parameters, grouped by learning rate.

        Raises:
            UserError: a pattern of ``lr_scales`` matches no trained parameter.

        """
        return self.optimization.groups(self.trainable())

    def configure_optimizers(self) -> Any:
        """AdamW with warm-up and schedule, stepped per batch."""
        return self.optimization.configure(self.parameter_groups(), int(self.trainer.estimated_stepping_batches))

    # -- steps ----------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def measured(self) -> tuple[str, ...]:
        """Names of all values that a step may measure, in all-reduce order; depends on the configuration only."""

    @abstractmethod
    def model_step(self, batch: Batch, split: str) -> Tensor:
        """Compute the loss of a batch and log metrics under ``split/...``."""

    def evaluate(self, batch: Batch, split: str) -> None:
        """A step of validation or test."""
        self.model_step(batch, split)

    def finish(self, split: str) -> None:
        """Log what :meth:`evaluate` has collected over the data set, and write samples."""

    # With sharded weights, parameters outside of blocks are gathered in these five methods only.

    def training_step(self, batch: Batch, _batch_idx: int) -> Tensor:
        """Lightning's hook."""
        return self.model_step(batch, "train")

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
        if train and world_size() > 1 and not self._logs_this_step():
            name, (value, _) = next(iter(values.items()))
            self.log(f"{split}/{name}", value)
            return
        counts = torch.stack([torch.as_tensor(count) for _, count in values.values()]).tolist()
        for (name, (value, _)), count in zip(values.items(), counts, strict=True):
            if count > 0:
                size = None if train else max(1, round(count))
                self.log(f"{split}/{name}", value, on_epoch=not train, batch_size=size)

    def _logs_this_step(self) -> bool:
        """Whether Lightning passes the values of this training step to the loggers."""
        logger = self.trainer._logger_connector  # Lightning has no public attribute for it
        return bool(logger.should_update_logs or getattr(self.trainer, "fast_dev_run", False))

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, _dataloader_idx: int) -> Batch:
        """Lightning's hook."""
        return batch.to(device)

    # -- feature cache --------------------------------------------------------------------------------------------

    def fill_cache(self, batch: Batch, device: torch.device) -> None:
        """Compute the features of a batch that are missing in the cache."""
        self.network.features(batch.to(device))

    def on_train_epoch_end(self) -> None:
        """Write new features to the cache, load those of other processes, and report skipped rows."""
        if self.network.cache is not None:
            self.network.cache.flush()
        report_rows(self.trainer)

    def on_validation_end(self) -> None:
        """Report skipped and shortened rows."""
        if not self.trainer.sanity_checking:
            report_rows(self.trainer)

    def on_predict_end(self) -> None:
        """Report skipped and shortened rows."""
        report_rows(self.trainer)

    # -- checkpoints ----------------------------------------------------------------------------------------------

    def kept_names(self) -> list[str]:
        """Names of the parameters in checkpoints and adapters."""
        return list(self.trainable())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remove frozen weights from the checkpoint.

        Raises:
            UserError: a weight or an optimizer state is not finite; the message names the last good checkpoint.

        """
        if self.network.cache is not None:
            self.network.cache.flush()
        keep_only(checkpoint, self.network, self.kept_names(), self.name, self.inherited["stages"])
        checkpoint["inherited"] = json.dumps(self.inherited)
        checkpoint["random_seed"] = self.random_seed
        run = Path(self.trainer.default_root_dir)
        check_finite(tensors_of(checkpoint), f"{run}: no checkpoint written", lambda: f". {last_checkpoint(run)}")

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check the checkpoint's keys and manifest.

        Raises:
            UserError: a key is missing or unexpected, or the manifest does not fit this model.

        """
        check_kept(checkpoint, self.network, self.kept_names())
        self.inherited = json.loads(checkpoint["inherited"])
        self.random_seed = int(checkpoint["random_seed"])

    def save_adapter(self, folder: Path) -> None:
        """Write the parameters that were trained in this stage and in previous ones."""
        keys = dict.fromkeys([*self.inherited["keys"], *self.kept_names()])
        save_adapter(folder, self.network, keys, stage=self.name, history=self.inherited["stages"])

    def on_train_end(self) -> None:
        """Leave the adapter in the run folder, and log the rows again: a resumed run reads those of validation late."""
        log_rows(self.trainer)
        self._leave_adapter()

    def on_fit_end(self) -> None:
        """Leave the adapter of a run that was resumed behind its last step, where Lightning trains and ends nothing."""
        if not self._adapter_left and self.trainer.global_step > 0:
            rank_zero_info(
                f"nothing was left to train: the checkpoint is of step {self.trainer.global_step}, and"
                f" trainer.max_steps={self.trainer.max_steps}, trainer.max_epochs={self.trainer.max_epochs};"
                " the adapter is written from it"
            )
            self._leave_adapter()

    def _leave_adapter(self) -> None:
        self._adapter_left = True
        if not getattr(self.trainer, "fast_dev_run", False):
            self.save_adapter(Path(self.trainer.default_root_dir) / "adapter")
