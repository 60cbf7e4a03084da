"""What the data modules share: items from sources, rendered by the model, mixed, resumable."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, cast

from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import DataLoader

from nextgpt_pl.conversation import Conversation
from nextgpt_pl.datamodules.collate import Collator
from nextgpt_pl.datamodules.samplers import MixedSampler, ResumableLoader
from nextgpt_pl.datamodules.sources import Item, Source, Split
from nextgpt_pl.errors import UserError


class ItemData(LightningDataModule):
    """Batches of items; one batch may mix their groups.

    Args:
        sources: where the items come from.
        batch_size: items per process and step.
        val_batch_size: the same for validation; by default as in training.
        max_length: longest row in tokens; a longer one is an error that names the item.
        num_workers: processes that render batches.
        seed: of the order.

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
        if batch_size < 1:
            raise UserError(f"data.batch_size={batch_size}: at least 1")
        self.sources, self.batch_size, self.val_batch_size = sources, batch_size, val_batch_size or batch_size
        self.max_length, self.num_workers, self.seed = max_length, num_workers, seed
        self.renderer: Conversation | None = None
        self._items: dict[str, list[Item]] = {}
        self._origins: dict[str, list[str]] = {}
        self._rows: dict[str, dict[str, int]] = {}  # of each split that was read: used and skipped

    @abstractmethod
    def group(self, item: Item, origin: str) -> Hashable:
        """What an item is mixed by; ``origin`` is the name of its source."""

    @abstractmethod
    def shares(self, groups: Sequence[Hashable]) -> Mapping[Any, float] | None:
        """Relative share of each group in training; ``None``: each item is seen once per epoch."""

    def conversation(self) -> Conversation:
        """The model's renderer; outside a Trainer, the one that was set by hand."""
        if self.renderer is None:
            assert self.trainer is not None
            self.renderer = cast(Conversation, self.trainer.lightning_module.renderer)
        assert self.renderer is not None
        return self.renderer

    def items(self, split: Split) -> Sequence[Item]:
        """All items of a split; read, checked and reported once.

        Raises:
            UserError: a row is broken, or no item is left.

        """
        if split not in self._items:
            shapes = dict(self.conversation().embedding_shapes)
            items: list[Item] = []
            origins: list[str] = []
            for source in self.sources:
                found = source.read(split, shapes)
                items += found
                origins += [source.name] * len(found)
            if not items:
                raise UserError(_no_items(split, self.sources))
            self._items[split], self._origins[split] = items, origins
            reports = [source.report for source in self.sources]
            self._rows[split] = {"used": sum(r.used for r in reports), "skipped": sum(len(r.broken) for r in reports)}
            for report in reports:
                rank_zero_info(f"{split}: {report.message()}")
            counts = Counter(str(g) for g in self._groups(split))
            rank_zero_info(f"{split}: {', '.join(f'{n} {group}' for group, n in sorted(counts.items()))}")
        return self._items[split]

    def _groups(self, split: Split) -> list[Hashable]:
        pairs = zip(self._items[split], self._origins[split], strict=True)
        return [self.group(item, origin) for item, origin in pairs]

    def rows_used(self) -> dict[str, int]:
        """Rows used and skipped of each split that was read, over all sources; the stage logs them."""
        return {f"{split}_rows_{what}": n for split, rows in self._rows.items() for what, n in rows.items()}

    def _loader_arguments(self) -> dict[str, Any]:
        conversation = self.conversation()
        return {
            "collate_fn": Collator(conversation, conversation.pad_token_id, self.max_length),
            "num_workers": self.num_workers,
            "persistent_workers": self.num_workers > 0,
        }

    def _process(self) -> tuple[int, int]:
        """The number of this process, and how many there are."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def train_dataloader(self) -> ResumableLoader:
        """Shuffled, sharded over processes, resumable in mid-epoch."""
        items = self.items("train")
        groups = self._groups("train")
        rank, world_size = self._process()
        sampler = MixedSampler(groups, self.batch_size, self.shares(groups), self.seed, rank, world_size)
        return ResumableLoader(items, batch_sampler=sampler, **self._loader_arguments())

    def val_dataloader(self) -> DataLoader:
        """In order, split over processes; some items are seen twice where they do not divide evenly."""
        items = self.items("val")
        # interleaved, so that a run limited to a few validation batches still sees every group
        items = interleaved(items, self._groups("val"))
        rank, world_size = self._process()
        items = [items[(rank + world_size * i) % len(items)] for i in range(math.ceil(len(items) / world_size))]
        return DataLoader(items, batch_size=self.val_batch_size, **self._loader_arguments())  # type: ignore[arg-type]

    def every_item(self, rank: int, world_size: int) -> DataLoader:
        """The items of training and validation, in order, those of one process: what a feature cache is filled from."""
        items = [*self.items("train"), *self.items("val")][rank::world_size]
        return DataLoader(items, batch_size=self.val_batch_size, **self._loader_arguments())  # type: ignore[arg-type]

    test_dataloader = val_dataloader
    predict_dataloader = val_dataloader


def _no_items(split: Split, sources: Sequence[Source]) -> str:
    notes = [note for source in sources for note in source.report.notes]
    remedy = "; val_fraction: 0 validates on the training rows" if split == "val" and notes else ""
    return "\n  ".join([f"data.sources give no item for {split}{remedy}", *notes])


def not_negative(key: str, weights: Mapping[str, float]) -> None:
    """Refuse a negative share; the message names ``data.key`` and the name."""
    for name, weight in weights.items():
        if weight < 0:
            raise UserError(f"data.{key}.{name}={weight}: a share is not negative")


def interleaved(items: Sequence[Item], groups: Sequence[Hashable]) -> list[Item]:
    """One item of each group in turn, in the order in which groups occur."""
    by_group: dict[Hashable, list[Item]] = {}
    for item, group in zip(items, groups, strict=True):
        by_group.setdefault(group, []).append(item)
    longest = max(len(members) for members in by_group.values())
    return [members[i] for i in range(longest) for members in by_group.values() if i < len(members)]
