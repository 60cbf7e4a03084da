"""``cache``: compute the frozen parts' features of all items of an experiment, in any number of processes."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningCLI

from nextgpt_pl.batches import Batch
from nextgpt_pl.datamodules.base import ItemData
from nextgpt_pl.datamodules.row_notes import RowNotes
from nextgpt_pl.errors import UserError
from nextgpt_pl.features import FeatureCache
from nextgpt_pl.features.rounding import RoundingError
from nextgpt_pl.stages.base import Stage
from nextgpt_pl.training.cli import ExperimentCLI, parsed
from nextgpt_pl.utils.distributed import all_gather_objects
from nextgpt_pl.utils.precision import check_trainer_precision


class _CacheCLI(ExperimentCLI):
    """Builds the experiment's trainer without loggers, checkpoints and run folder."""

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Devices, nodes and accelerator as configured, without the strategy, since nothing is trained."""
        quiet = {"logger": False, "enable_checkpointing": False, "strategy": "auto", "callbacks": []}
        return LightningCLI.instantiate_trainer(self, **quiet, default_root_dir=tempfile.gettempdir())


class _Filler(LightningModule):
    """Computes the features that are missing in the stage's cache; predicts nothing."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        # of all ranks, known at the end: rounding errors per store, and features that could not be written
        self.errors: dict[str, RoundingError] = {}
        self.dropped = 0
        self.stage = [stage]  # not a submodule, so that its parts are loaded on demand only

    def setup(self, stage: str) -> None:
        """Check the precision, as in training."""
        check_trainer_precision(self.trainer.precision)

    def predict_step(self, batch: Batch, _batch_idx: int) -> None:
        """Compute missing features of one batch."""
        self.stage[0].fill_cache(batch, self.device)

    def transfer_batch_to_device(self, batch: Batch, device: Any, _dataloader_idx: int) -> Batch:
        """Lightning's hook."""
        return batch.to(device)

    def on_predict_end(self) -> None:
        """Write the last shard, then open the shards of all ranks, and add up their errors."""
        cache = self.stage[0].network.cache
        assert cache is not None
        cache.flush()
        self.trainer.strategy.barrier()
        cache.flush()
        for of_rank, dropped in all_gather_objects((cache.errors(), cache.dropped())):
            self.dropped += dropped
            for name, error in of_rank.items():
                self.errors[name] = self.errors.get(name, RoundingError()) + error
        self.trainer.datamodule.report_rows()  # type: ignore[attr-defined]


class _AllItems(LightningDataModule):
    """Every item of training and validation, once."""

    def __init__(self, data: ItemData) -> None:
        super().__init__()
        self.data = data

    def predict_dataloader(self) -> Any:
        """The items of this rank."""
        assert self.trainer is not None
        return self.data.every_item(self.trainer.global_rank, self.trainer.world_size)

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Record the rows that were skipped in this batch."""
        return self.data.on_before_batch_transfer(batch, dataloader_idx)

    def report_rows(self) -> RowNotes:
        """Print the skipped rows. Collective: all ranks call this."""
        return self.data.report_rows()


def cache(argv: Sequence[str]) -> int:
    """Fill the cache of ``-c FILE ...``; existing features are not computed again.

    Prints per store how many features it has, its size on disk and, of features that were rounded in this run, the
    relative error.

    Raises:
        UserError: the experiment has no cache, or not all features could be written.

    """
    cli = parsed(list(argv[1:]), cli_class=_CacheCLI, run=False)
    stage, data, trainer = cli.model, cli.datamodule, cli.trainer
    feature_cache = stage.network.cache
    if feature_cache is None:
        raise UserError("network.cache is not set: give --model.network.cache.folder=FOLDER, or set it in the YAML")
    data = _AllItems(data.with_renderer(stage.renderer, stage.reader))
    filler = _Filler(stage)
    trainer.predict(filler, datamodule=data, return_predictions=False)
    if trainer.is_global_zero:
        for line in _stores(feature_cache, filler.errors):
            print(line)
    if filler.dropped:
        raise UserError(
            f"{filler.dropped} features could not be written; free some space and run the same command again"
        )
    return 0


def _stores(cache: FeatureCache, errors: Mapping[str, RoundingError]) -> list[str]:
    """Per store its number of features, its size, and the error of the features that were added in this run."""
    lines, sizes = [], cache.bytes_on_disk()
    for name, count in cache.counts().items():
        error = errors.get(name, RoundingError())
        line = f"{cache.folder}/{name}: {count} features, {sizes[name] / 1e6:,.3f} MB in {cache.dtype}"
        lines.append(f"{line}; {error} over {error.count} new ones" if error.count else line)
    return lines
