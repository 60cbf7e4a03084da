"""Base class of the stages: trained parameters, optimizer and schedule, checkpoints of trained parameters only."""

from __future__ import annotations

import fnmatch
import json
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.utilities import rank_zero_info

from nextgpt_pl.adapter import load_adapter, save_adapter
from nextgpt_pl.batches import Batch
from nextgpt_pl.dialogue.conversation import Conversation, Direction
from nextgpt_pl.encoders.media_reader import MediaReader
from nextgpt_pl.errors import UserError
from nextgpt_pl.model import NextGPT
from nextgpt_pl.stages.agreement import OnNonFinite, StepAgreement
from nextgpt_pl.stages.kept import check_kept, inherited_of, keep_only, parts_without
from nextgpt_pl.stages.optimization import Optimization, Schedule, check_restored
from nextgpt_pl.stages.parameters import parameter_table
from nextgpt_pl.stages.rows import log_rows, report_rows
from nextgpt_pl.stages.steps import Steps
from nextgpt_pl.training.checkpoint_io import last_checkpoint, tensors_of
from nextgpt_pl.training.csv_log import save_logs
from nextgpt_pl.training.strategies import ShardedStrategy
from nextgpt_pl.utils.finite import check_finite
from nextgpt_pl.utils.paths import adapter_folder
from nextgpt_pl.utils.precision import check_trainer_precision


class Stage(Steps):
    """Base class of the stages.

    Args:
        network: the model.
        lr: AdamW's learning rate after warm-up (paper, table 7).
        weight_decay: AdamW's weight decay.
        betas: AdamW's betas.
        warmup_ratio: fraction of all steps with linear warm-up.
        schedule: schedule of the learning rate after warm-up.
        lr_scales: factor on the learning rate per pattern of parameter names; the first matching pattern counts.
        init_from: folder of an adapter whose weights this stage starts from, or ``pocket:chat``; for resuming a run use
            ``--ckpt_path``.
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
            self.inherited = load_adapter(adapter_folder(self.init_from), self.network)
            rank_zero_info(f"weights of stage {self.inherited['stage']} loaded from {self.init_from}")
        self.extend_network()
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(any(fnmatch.fnmatchcase(name, pattern) for pattern in self.trains))
        if self.init_from is not None and (new_parts := parts_without(self.trainable(), self.inherited["keys"])):
            rank_zero_info(f"not in that adapter, so newly initialised: {', '.join(new_parts)}")

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

    def optional_parts(self) -> dict[str, list[torch.nn.Parameter]]:
        """See :class:`Steps`."""
        return self.network.optional_parts()

    def used_parts(self, batch: Batch) -> set[str]:
        """See :class:`Steps`."""
        return self.network.used_parts(batch)

    def setup(self, stage: str) -> None:
        """Refuse precisions that convert weights and targets to another dtype."""
        check_trainer_precision(self.trainer.precision)

    def on_fit_start(self) -> None:
        """Check that there are trained parameters in float32; print their number."""
        trainable = self.trainable()
        for pattern in self.trains:
            if not fnmatch.filter(trainable, pattern):
                raise UserError(f"{self.name} trains {pattern!r}, but the network has no such parameter")
        low = [name for name, p in trainable.items() if p.dtype != torch.float32]
        if low:
            raise UserError(f"trainable parameters must be float32, these are not: {', '.join(low[:5])}")
        rank_zero_info(parameter_table(self.name, self.network))
        self.network.train(True)

    def on_train_start(self) -> None:
        """Check what a checkpoint has restored, and log the number of rows that the data module used, once per run."""
        for optimizer in self.trainer.optimizers:
            check_restored(optimizer)
        if self.trainer.global_step == 0:
            log_rows(self.trainer)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The trained parameters, grouped by learning rate.

        Raises:
            UserError: a pattern of ``lr_scales`` matches no trained parameter.

        """
        return self.optimization.groups(self.trainable())

    def configure_optimizers(self) -> Any:
        """AdamW with warm-up and schedule, stepped per batch."""
        steps = int(self.trainer.estimated_stepping_batches)
        # with mixed precision, Lightning does not clip the gradients of fused optimizers
        fused = not isinstance(self.trainer.precision_plugin, MixedPrecision)
        return self.optimization.configure(self.parameter_groups(), steps, fused)

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
        save_logs(self.trainer)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check the checkpoint's keys and manifest.

        Raises:
            UserError: a key is missing or unexpected, or the manifest does not fit this model.

        """
        check_kept(checkpoint, self.network, self.kept_names())
        self.inherited = inherited_of(checkpoint, self.network)
        self.random_seed = int(checkpoint["random_seed"]) % 2**63

    def save_adapter(self, folder: Path) -> None:
        """Write the parameters that were trained in this stage and in previous ones."""
        keys = dict.fromkeys([*self.inherited["keys"], *self.kept_names()])
        save_adapter(folder, self.network, keys, stage=self.name, history=self.inherited["stages"])

    def on_train_end(self) -> None:
        """Leave the adapter in the run folder, and log the rows again: a resumed run reads those of validation late."""
        log_rows(self.trainer)
        if not getattr(self.trainer, "fast_dev_run", False):
            self.save_adapter(Path(self.trainer.default_root_dir) / "adapter")
