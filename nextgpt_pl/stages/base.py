"""What every stage shares: which parameters train, optimizer and schedule, checkpoints of trainables alone."""

from __future__ import annotations

import fnmatch
import json
import random
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from nextgpt_pl.adapter import load_adapter, save_adapter
from nextgpt_pl.dialogue.conversation import Conversation, Direction
from nextgpt_pl.encoders.media_reader import MediaReader
from nextgpt_pl.errors import UserError
from nextgpt_pl.model import NextGPT
from nextgpt_pl.samples import Batch
from nextgpt_pl.stages.agreement import OnNonFinite, StepAgreement
from nextgpt_pl.stages.kept import check_kept, keep_alone, parts_without
from nextgpt_pl.stages.optimization import Optimization, Schedule
from nextgpt_pl.stages.rows import log_rows, report_rows
from nextgpt_pl.training.checkpoint_io import last_checkpoint, tensors_of
from nextgpt_pl.training.strategies import ShardedStrategy
from nextgpt_pl.utils.distributed import Mean, means, rank, world_size
from nextgpt_pl.utils.finite import check_finite
from nextgpt_pl.utils.precision import check_trainer_precision


class Stage(LightningModule, ABC):
    """Base of the stages.

    Args:
        network: the model.
        lr: AdamW's learning rate after warm-up (paper, table 7).
        weight_decay: AdamW's.
        betas: AdamW's.
        warmup_ratio: share of all steps in which the learning rate rises.
        schedule: how it falls afterwards.
        lr_scales: per pattern of parameter names, a factor on their learning rate; the first that fits counts.
        init_from: folder of an adapter whose weights this stage starts from; for resuming a run use ``--ckpt_path``.
        on_nonfinite: what a loss or a gradient that is not finite does: ``raise`` stops the run before the optimizer
            moves a weight, ``skip`` leaves this optimizer step out in every process, and counts it.
        give_up_after: steps skipped in a row that stop the run after all.

    """

    #: patterns of the parameters that this stage trains; exactly these, or ``fit`` refuses to start
    trains: tuple[str, ...] = ()
    #: how captioned pairs are read
    direction: Direction = "generation"
    #: whether rows show media to the encoder, which otherwise is not read
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
        self.optimization = Optimization(lr, weight_decay, betas, warmup_ratio, schedule, dict(lr_scales or {}))
        self.init_from = init_from
        self.step_agreement = StepAgreement(on_nonfinite, give_up_after)
        self.inherited: dict[str, Any] = {"stages": [], "keys": []}
        self._adapter_left = False  # in this fit
        # of what is drawn in training; seed_everything has set it by now
        self.random_seed = torch.initial_seed() % 2**63
        # frozen weights are never in a checkpoint; on_load_checkpoint is strict about the rest
        self.strict_loading = False

    def configure_callbacks(self) -> list[Callback]:
        """What guards every training of this stage."""
        return [self.step_agreement]

    # -- set-up ---------------------------------------------------------------------------------------------------

    def configure_model(self) -> None:
        """Build the network, freeze what this stage does not train, take over an adapter; shard it if asked to."""
        if self.device_mesh is None:
            if not self.network.loaded:
                self._build()
            return
        strategy = self.trainer.strategy
        if not isinstance(strategy, ShardedStrategy):
            raise UserError(
                f"trainer.strategy: {type(strategy).__name__} does not know how to shard this network;"
                " nextgpt_pl.training.strategies.ShardedStrategy does"
            )
        if not self.network.loaded:
            strategy.build(self.network, self._build)
        strategy.shard(self.network)

    def _build(self) -> None:
        self.network.load(encoder=self.shows_media, llm_layers=not self.layers_on_demand)
        if self.init_from is not None:
            self.inherited = load_adapter(self.init_from, self.network)
            rank_zero_info(f"weights of stage {self.inherited['stage']} taken over from {self.init_from}")
        self.extend_network()
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(any(fnmatch.fnmatchcase(name, pattern) for pattern in self.trains))
        if self.init_from is not None and (anew := self.trained_anew()):
            rank_zero_info(f"not in that adapter, so they start anew: {', '.join(anew)}")

    def trained_anew(self) -> list[str]:
        """The parts that train, but of which ``init_from`` has no weights."""
        return parts_without(self.trainable(), self.inherited["keys"])

    def extend_network(self) -> None:
        """What a stage adds to the network, such as LoRA; called when it is loaded, before anything is frozen."""

    @property
    def renderer(self) -> Conversation:
        """What the data module turns items into token ids with."""
        return self.network.conversation(self.direction)

    @property
    def reader(self) -> MediaReader:
        """What the data module's workers read the media files of rows with."""
        return MediaReader(self.network.encoder)

    def trainable(self) -> dict[str, torch.nn.Parameter]:
        """The network's parameters that train, by name."""
        return {name: p for name, p in self.network.named_parameters() if p.requires_grad}

    def setup(self, stage: str) -> None:
        """Refuse precisions that would turn weights and targets into another dtype, whatever the trainer does."""
        check_trainer_precision(self.trainer.precision)

    def on_fit_start(self) -> None:
        """Refuse to train nothing, or with trainables in half precision; print the trainable share."""
        self._adapter_left = False
        trainable = self.trainable()
        for pattern in self.trains:
            if not fnmatch.filter(trainable, pattern):
                raise UserError(f"{type(self).__name__} trains {pattern!r}, but the network has no such parameter")
        low = [name for name, p in trainable.items() if p.dtype != torch.float32]
        if low:
            raise UserError(f"trainable parameters must be float32, these are not: {', '.join(low[:5])}")
        rank_zero_info(self.summary())
        self.network.train(True)

    def on_train_start(self) -> None:
        """Log how many rows the data module could use."""
        log_rows(self.trainer)

    def summary(self) -> str:
        """Parameters per part and the trainable share, as in the paper's table."""
        counts = {name: c for name, c in self.network.parameter_counts().items() if c[1]}
        rows = [f"  {name:<20} {total:>15,} parameters, {train:>12,} train" for name, (train, total) in counts.items()]
        trains, total = (sum(c[i] for c in counts.values()) for i in (0, 1))
        rows.append(f"  {'all':<20} {total:>15,} parameters, {trains:>12,} train ({trains / max(1, total):.2%})")
        return "\n".join([f"{type(self).__name__}:", *rows])

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The trainables by learning rate.

        Raises:
            UserError: a pattern of ``lr_scales`` fits no trainable.

        """
        return self.optimization.groups(self.trainable())

    def configure_optimizers(self) -> Any:
        """AdamW over the trainables, warm-up, then the schedule, stepped per batch."""
        return self.optimization.configure(self.parameter_groups(), int(self.trainer.estimated_stepping_batches))

    # -- steps ----------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def measured(self) -> tuple[str, ...]:
        """Names of all that a step may measure, from the configuration alone: processes exchange these, in order."""

    @abstractmethod
    def model_step(self, batch: Batch, split: str) -> Tensor:
        """Loss of a batch; logs what is worth logging under ``split/...``."""

    def training_step(self, batch: Batch, _batch_idx: int) -> Tensor:
        """Lightning's hook."""
        return cast(Tensor, self.network(self.model_step, batch, "train"))

    def on_train_batch_start(self, _batch: Batch, _batch_idx: int) -> None:
        """Draw from a state that the seed, the batch's number and the process decide, and nothing else.

        So a resumed run draws (LoRA's dropout, for one) what an uninterrupted one does, whatever validation, samples or
        workers have drawn in between.
        """
        number = self.trainer.fit_loop.epoch_loop.batch_progress.total.ready
        state = np.random.SeedSequence([self.random_seed, number, rank()]).generate_state(2)
        seed = int(state[0]) << 31 | int(state[1]) >> 1
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(int(state[0]))

    def means(self, sums: Mapping[str, tuple[Tensor, int]]) -> dict[str, Mean]:
        """Means over all processes of what a step has measured; see :func:`nextgpt_pl.utils.distributed.means`.

        Every step calls this once, with or without media of a kind in its batch.
        """
        return means(self.measured, sums)

    def log_split(self, values: Mapping[str, tuple[Tensor, float | Tensor]], split: str) -> None:
        """Log under ``split/``: per step in training, averaged over items otherwise.

        Args:
            values: per name, a mean over all processes and over how many items; one over none is not logged. With
                several processes their number is read from the device only where something is written: between two
                steps that log, the first value alone is kept.
            split: ``train``, ``val`` or ``test``.

        """
        # never prog_bar: Lightning reads such values from the device at every step; our bar reads what it shows
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
        """Whether Lightning hands this training step's values to the loggers."""
        logger = self.trainer._logger_connector  # Lightning has no public name for it
        return bool(logger.should_update_logs or getattr(self.trainer, "fast_dev_run", False))

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, _dataloader_idx: int) -> Batch:
        """Lightning's hook."""
        return batch.to(device)

    # -- feature cache --------------------------------------------------------------------------------------------

    def fill_cache(self, batch: Batch, device: torch.device) -> None:
        """Compute what the cache does not have yet of what this stage asks frozen parts for."""
        if batch.slots:
            assert self.network.encoder is not None
            self.network.encoder.encode_slots(batch.slots, device)

    def on_train_epoch_end(self) -> None:
        """Keep what this epoch has added to the cache, and take in what other processes have; report lost rows."""
        if self.network.cache is not None:
            self.network.cache.flush()
        report_rows(self.trainer)

    def on_validation_end(self) -> None:
        """Report which rows could not be used."""
        if not self.trainer.sanity_checking:
            report_rows(self.trainer)

    def on_predict_end(self) -> None:
        """The same of a prediction."""
        report_rows(self.trainer)

    # -- checkpoints ----------------------------------------------------------------------------------------------

    def kept_names(self) -> list[str]:
        """Names of the parameters that checkpoints and adapters hold: those that cannot be had from elsewhere."""
        return list(self.trainable())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the trainables alone: a checkpoint never holds frozen weights.

        Raises:
            UserError: a weight or an optimizer state is not finite; the message names the last good checkpoint.

        """
        if self.network.cache is not None:
            self.network.cache.flush()
        keep_alone(checkpoint, self.network, self.kept_names(), type(self).__name__, self.inherited["stages"])
        checkpoint["inherited"] = json.dumps(self.inherited)
        checkpoint["random_seed"] = self.random_seed
        run = Path(self.trainer.default_root_dir)
        check_finite(tensors_of(checkpoint), f"{run}: no checkpoint written", lambda: f". {last_checkpoint(run)}")

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Every trainable must be there, and nothing else.

        Raises:
            UserError: naming the keys that are missing or unexpected, or what else of the model is another.

        """
        check_kept(checkpoint, self.network, self.kept_names())
        self.inherited = json.loads(checkpoint["inherited"])
        self.random_seed = int(checkpoint["random_seed"])

    def save_adapter(self, folder: Path) -> None:
        """Write what was trained, in this stage and those before it."""
        keys = dict.fromkeys([*self.inherited["keys"], *self.kept_names()])
        save_adapter(folder, self.network, keys, stage=type(self).__name__, history=self.inherited["stages"])

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
