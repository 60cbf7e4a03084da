"""Base class of the data modules: reads items from sources, renders, mixes and batches them; resumable."""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, cast

import numpy as np
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import ConcatDataset

from nextgpt_pl.batches import Batch, Rendered
from nextgpt_pl.datamodules.collate import Collator
from nextgpt_pl.datamodules.kinds import Kind
from nextgpt_pl.datamodules.row_notes import RowNotes, listed
from nextgpt_pl.datamodules.samplers import InOrder, MixedSampler, ResumableLoader, RowLoader
from nextgpt_pl.datamodules.sources import Item, Source, Split
from nextgpt_pl.datamodules.split_items import SplitItems, read_split
from nextgpt_pl.datamodules.usable import RowMaker, UsableRow, UsableRows
from nextgpt_pl.dialogue.conversation import Conversation
from nextgpt_pl.encoders.base import MEDIA_PER_PASS
from nextgpt_pl.encoders.media_reader import MediaReader
from nextgpt_pl.errors import UserError, at_least
from nextgpt_pl.utils.parents import start_worker


class ItemData(LightningDataModule):
    """Batches of items; one batch may mix groups of items.

    Args:
        sources: sources of the items.
        batch_size: items per process and step.
        val_batch_size: items per process and validation step; ``batch_size`` by default.
        max_length: maximum number of tokens per row. A longer row is an error that names the item; if its source sets
            ``on_error: skip``, a dialogue loses its oldest exchanges and a pair is skipped.
        num_workers: number of data-loader workers.
        seed: seed of the order.

    """

    def __init__(
        self,
        sources: Sequence[Source],
        batch_size: int = 16,
        val_batch_size: int | None = None,
        max_length: int = 512,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not sources:
            raise UserError("data.sources is empty: give at least one, such as those in nextgpt_pl.datamodules")
        at_least(1, data__batch_size=batch_size, data__val_batch_size=val_batch_size, data__max_length=max_length)
        at_least(0, data__num_workers=num_workers, data__seed=seed)
        for source in sources:
            source.check_files()
        self.sources, self.batch_size, self.val_batch_size = sources, batch_size, val_batch_size or batch_size
        self.max_length, self.num_workers, self.seed = max_length, num_workers, seed
        self._renderer: Conversation | None = None
        self._reader: MediaReader | None = None
        self._start_empty()

    def _start_empty(self) -> None:
        self._splits: dict[str, SplitItems] = {}  # those that were read
        self._notes = RowNotes()
        self._loader: ResumableLoader | None = None
        self._resumed: dict[str, int] | None = None

    @abstractmethod
    def group(self, kind: Kind, origin: str) -> Hashable:
        """The group of a kind of item, which :meth:`shares` weights; ``origin`` is the name of its source."""

    @abstractmethod
    def shares(self, groups: Sequence[Hashable]) -> Mapping[Any, float] | None:
        """Relative share of each group in training; ``None``: each item is seen once per epoch."""

    def with_renderer(self, renderer: Conversation, reader: MediaReader | None = None) -> ItemData:
        """A data module of the same arguments for use without a Trainer, which otherwise gives renderer and reader.

        Args:
            renderer: of the items.
            reader: of the rows' media files; ``None``: files are not read.

        """
        data = copy.copy(self)
        data._renderer, data._reader = renderer, reader
        data._start_empty()
        return data

    def conversation(self) -> Conversation:
        """The renderer of :meth:`with_renderer`, or that of the Trainer's stage."""
        if self._renderer is None:
            assert self.trainer is not None
            self._renderer = cast(Conversation, self.trainer.lightning_module.renderer)
        return self._renderer

    def setup(self, stage: str) -> None:
        """Lightning's hook: check ``max_length`` before any weights are read.

        Raises:
            UserError: ``max_length`` exceeds the LLM's context length.

        """
        assert self.trainer is not None
        module: Any = self.trainer.lightning_module
        self.check_length(module.network.llm.context_length)

    def check_length(self, context: int | None) -> None:
        """Refuse a ``max_length`` above an LLM's context length, in tokens; ``None``: unlimited.

        Raises:
            UserError: ``max_length`` is larger; the message names both.

        """
        if context is not None and self.max_length > context:
            raise UserError(f"data.max_length={self.max_length}: the LLM's context is {context} tokens")

    def media_reader(self) -> Callable[[Rendered], Rendered] | None:
        """The reader of :meth:`with_renderer`, or that of the Trainer's stage, if it has one."""
        if self._reader is None and self.trainer is not None:
            self._reader = getattr(self.trainer.lightning_module, "reader", None)
        if self._reader is not None:
            self._reader.open_stores()
        return self._reader

    def items(self, split: Split) -> Sequence[Item]:
        """All items of a split; read, checked and reported once.

        Raises:
            UserError: a row is broken, or no item is left.

        """
        return self._split(split).items

    def _split(self, split: Split) -> SplitItems:
        if split not in self._splits:
            self._splits[split] = read_split(split, self.sources, self.group)
        return self._splits[split]

    def rows_used(self) -> dict[str, int]:
        """Number of used, skipped and shortened rows per split that was read, over all sources; the stage logs them.

        Items that were found to be unusable while batches were made are counted as of the last :meth:`report_rows`.
        """
        counts = self._notes.counts()
        numbers = {}
        for split, read in self._splits.items():
            skipped, shortened = counts[split, "skipped"], counts[split, "shortened"]
            numbers[f"{split}_rows_used"] = read.used - skipped
            numbers[f"{split}_rows_skipped"] = read.skipped + skipped
            numbers[f"{split}_rows_shortened"] = shortened
        return numbers

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Lightning's hook: record the rows that were skipped or shortened for this batch."""
        self._notes.take(batch.notes)
        return batch

    def report_rows(self) -> RowNotes:
        """Print the rows that were skipped or shortened since the last call. Collective: all ranks call this."""
        for line in listed(self._notes.exchange()):
            rank_zero_info(line)
        return self._notes

    def rows(self, split: Split) -> UsableRows:
        """A dataset of the rows of a split."""
        conversation = self.conversation()
        self.check_length(conversation.context_length)
        read = self._split(split)
        policies = list(zip(read.items.starts, (source.on_error for source in self.sources), strict=True))
        make = RowMaker(conversation.rows, self.max_length, self.media_reader(), conversation.embedding_shapes)
        rows = UsableRows(read.items, read.groups, policies, make, split, read.streams)
        rows.check_embeddings()
        return rows

    def _loader_arguments(self) -> dict[str, Any]:
        on_gpu = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        workers = {"num_workers": self.num_workers, "persistent_workers": self.num_workers > 0, "pin_memory": on_gpu}
        return {**workers, "collate_fn": Collator(self.conversation().pad_token_id), "worker_init_fn": start_worker}

    def _rank_and_world_size(self) -> tuple[int, int]:
        """Rank of this process and number of processes."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def train_dataloader(self) -> ResumableLoader:
        """Shuffled, sharded over ranks, resumable within an epoch."""
        rows = self.rows("train")
        rank, world_size = self._rank_and_world_size()
        sampler = MixedSampler(
            rows.groups,
            self.batch_size,
            self.shares(list(rows.groups.sizes())),
            self.seed,
            rank,
            world_size,
            rows.streams,
        )
        limit = self.trainer.limit_train_batches if self.trainer else 1.0
        self._loader = ResumableLoader(rows, batch_sampler=sampler, limit=limit, **self._loader_arguments())
        if self._resumed is not None:
            self._loader.load_state_dict(self._resumed)
            self._resumed = None
        return self._loader

    def state_dict(self) -> dict[str, Any]:
        """Lightning's hook: position in the training order.

        Lightning also saves it with its loops, but does not restore it where the number of steps is counted from the
        data loader, which is then made before the loops are restored.
        """
        return {} if self._loader is None else {"train": self._loader.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Lightning's hook: the training order continues at the saved position."""
        self._resumed = state_dict.get("train")

    def val_dataloader(self) -> RowLoader:
        """In order, sharded over ranks; some items repeat if the number of ranks does not divide their number."""
        rows = self.rows("val")
        # interleaved, so that a run limited to a few validation batches still sees every group
        order = rows.groups.interleaved()
        rank, world_size = self._rank_and_world_size()
        mine = order[(rank + world_size * np.arange(math.ceil(len(order) / world_size))) % len(order)]
        return RowLoader(rows, batch_size=self.val_batch_size, sampler=InOrder(mine), **self._loader_arguments())

    def every_item(self, rank: int, world_size: int) -> RowLoader:
        """The training and validation items of one rank, group by group; used to fill a feature cache.

        Media of one modality are together, and a batch is a multiple of what an encoder takes at a time, so that its
        passes are full.
        """
        train, val = self.rows("train"), self.rows("val")
        rows: ConcatDataset[UsableRow] = ConcatDataset([train, val])
        order = np.concatenate([train.by_group(), len(train) + val.by_group()])[rank::world_size]
        size = math.ceil(self.val_batch_size / MEDIA_PER_PASS) * MEDIA_PER_PASS
        return RowLoader(rows, batch_size=size, sampler=InOrder(order), **self._loader_arguments())

    test_dataloader = val_dataloader
    predict_dataloader = val_dataloader


def not_negative(key: str, weights: Mapping[str, float]) -> None:
    """Refuse a weight that is negative or not finite; the message names ``data.key`` and the name."""
    for name, weight in weights.items():
        if not 0 <= weight < math.inf:
            raise UserError(f"data.{key}.{name}={weight}: expected a finite number, at least 0")
