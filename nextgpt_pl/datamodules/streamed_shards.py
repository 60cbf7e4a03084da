"""Samples of tar shards that are streamed: fetched when training needs them, and deleted again."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nextgpt_pl.datamodules.data_files import DataFiles
from nextgpt_pl.datamodules.kinds import kind_code
from nextgpt_pl.datamodules.rows import RowReport, checked
from nextgpt_pl.datamodules.shard_counts import ShardCount, counted
from nextgpt_pl.datamodules.sources import Item, OnError, Source, Split
from nextgpt_pl.errors import UserError, at_least
from nextgpt_pl.readers.model import LeftOut
from nextgpt_pl.readers.remote import ShardFolder, shard_names
from nextgpt_pl.utils.lazy_sequence import LazySequence

_LISTED = 20  # faults of one shard that are kept
_MORE_OPEN = 4  # shards that a worker remembers beyond those within the shuffle buffer


class StreamedShards(Source):
    """Tar shards by path or URL, for data sets that do not fit on a disk.

    Shards are shuffled in each epoch, and items within a window of the shuffled shards. Each shard is read once before
    training to check and count its items; the counts are kept in ``folder``.

    Args:
        shards: paths, globs of paths, and URLs (``https``, ``s3`` and others of fsspec); ranges such as
            ``{00000..00331}`` are expanded.
        val_shards: shards of the validation split; by default validation reads the training shards.
        layout: name of the layout of all samples; ``None``: recognised sample by sample.
        ignore: keys of samples that hold nothing to learn, ``*`` for all unknown ones; other unknown keys are errors.
        shuffle_buffer: maximum distance, in items, by which an item is moved in the sequence of the shuffled shards.
        folder: folder of the counts and of the fetched shards.
        limit_gb: gigabytes of fetched shards per machine above which the least recently used ones are deleted.
        on_error: ``raise`` an error that lists all broken samples and shards, or ``skip`` and count them.
        name: name of the data set, for its weight; by default the first of ``shards``.

    """

    def __init__(
        self,
        shards: list[str],
        val_shards: list[str] | None = None,
        layout: str | None = None,
        ignore: list[str] | None = None,
        shuffle_buffer: int = 10_000,
        folder: Path = Path("outputs/shards"),
        limit_gb: float = 50.0,
        on_error: OnError = "raise",
        name: str | None = None,
    ) -> None:
        if not shards:
            raise UserError("StreamedShards.shards is empty: give at least one path or URL")
        at_least(1, StreamedShards__shuffle_buffer=shuffle_buffer)
        at_least(0, StreamedShards__limit_gb=limit_gb)
        self.shards, self.val_shards, self.on_error = list(shards), list(val_shards or ()), on_error
        self.layout, self.ignore, self.shuffle_buffer = layout, list(ignore or ()), shuffle_buffer
        self.name, self.folder = name or shards[0], folder
        self.store = ShardFolder(folder, int(limit_gb * 1e9))
        self._reader: DataFiles | None = None

    def validates_on_training(self) -> bool:
        """Whether both splits have the same items: there are no ``val_shards``."""
        return not self.val_shards

    def states(self) -> dict[str, str]:
        """Of all shards that are local files; those behind URLs have none."""
        return {name: self.store.state(name) for name in shard_names([*self.shards, *self.val_shards])}

    def read(self, split: Split) -> StreamedItems:
        """The items of a split; shards that were not counted before are read.

        Raises:
            UserError: a sample is broken or a shard unreadable, and ``on_error`` is ``raise``; the message lists them.

        """
        names, others = shard_names(self.shards), shard_names(self.val_shards)
        both = set(names) & set(others)
        if both:
            raise UserError(f"StreamedShards.val_shards: {min(both)} is one of the training shards too")
        names = others if split == "val" and others else names
        settings = json.dumps([self.layout, self.ignore]).encode()
        file = self.folder / f"counts-{hashlib.sha256(settings).hexdigest()[:8]}.jsonl"
        counts = counted(names, file, self.store.state, self._count)
        self.report = _report(self.name, counts)
        if not self.report.used or (self.report.broken and self.on_error == "raise"):
            raise UserError(self.report.message())
        return StreamedItems(self, counts)

    def shard(self, name: str) -> Shard:
        """Read a shard, without its media.

        Args:
            name: path or URL.

        Raises:
            UserError: the shard cannot be fetched.

        """
        if self._reader is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._reader = DataFiles(self.folder, [], self.layout, ignore=self.ignore)
        shard, path = Shard(), self.store.local(name)
        for position, row in enumerate(self._reader.rows(path)):
            where = f"{name}, row {position}"
            try:
                shard.items += _items(self._reader, path, row, where)
                shard.rows += 1
            except LeftOut as reason:
                shard.left_out[str(reason)] += 1
            except UserError as error:
                shard.faults.append(f"{where}: {error}")
        return shard

    def _count(self, name: str) -> ShardCount:
        state, shard = self.store.state(name), self.shard(name)
        kind = kind_code(shard.items[0]) if shard.items else 0
        faults = tuple(shard.faults[:_LISTED])
        sizes = shard.rows, len(shard.items), len(shard.faults)
        return ShardCount(name, state, *sizes, kind, faults, dict(shard.left_out))


@dataclass
class Shard:
    """What was read of a shard.

    Attributes:
        items: the items of its usable samples.
        rows: number of usable samples.
        faults: a message for each broken sample.
        left_out: number of samples that are not used on purpose, per reason.

    """

    items: list[Item] = field(default_factory=list)
    rows: int = 0
    faults: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def _items(reader: DataFiles, path: Path, row: Any, where: str) -> Sequence[Item]:
    if isinstance(row, UserError | LeftOut):
        raise row
    return checked(reader.items(path, row, where))


def _report(name: str, counts: Sequence[ShardCount]) -> RowReport:
    report = RowReport(name, sum(c.rows for c in counts), [fault for c in counts for fault in c.faults])
    report.of_split = report.used, sum(c.broken for c in counts)
    for count in counts:
        if count.broken > len(count.faults):
            report.notes.append(f"{count.name}: {count.broken} broken samples, the first {len(count.faults)} are named")
    left_out: Counter[str] = Counter()
    for count in counts:
        left_out.update(count.left_out)
    report.notes += [f"{number} rows are left out: {reason}" for reason, number in left_out.items()]
    report.left_out = left_out.total()
    return report


class StreamedItems(LazySequence[Item]):
    """Items of shards; an item's shard is fetched when the item is asked for.

    Args:
        source: reads shards.
        counts: what each shard holds.

    Attributes:
        ends: number of items up to the end of each shard, ``(shards,)`` int64.
        kinds: kind of each item, ``(n,)`` int8: that of the first item of its shard.
        buffer: the source's ``shuffle_buffer``.

    """

    def __init__(self, source: StreamedShards, counts: Sequence[ShardCount]) -> None:
        self._source, self._counts, self.buffer = source, list(counts), source.shuffle_buffer
        sizes = np.array([count.items for count in counts], np.int64)
        self.ends = np.cumsum(sizes)
        self.kinds = np.repeat(np.array([count.kind for count in counts], np.int8), sizes)
        # an error is remembered too, so that a shard that cannot be fetched is not tried for each of its items
        self._open: OrderedDict[int, list[Item] | UserError] = OrderedDict()
        self._most = _MORE_OPEN + math.ceil(self.buffer / max(1.0, float(sizes.mean())))

    def __len__(self) -> int:
        return int(self.ends[-1])

    def item(self, index: int) -> Item:
        """The item of its shard.

        Raises:
            UserError: the shard cannot be fetched, or has changed since it was counted.

        """
        shard = int(np.searchsorted(self.ends, index, side="right"))
        items = self._items_of(shard)
        if isinstance(items, UserError):
            raise items
        return items[index - int(self.ends[shard])]

    def _items_of(self, shard: int) -> list[Item] | UserError:
        count = self._counts[shard]
        if shard in self._open:
            self._open.move_to_end(shard)
            if not isinstance(self._open[shard], UserError):
                self._source.store.local(count.name)  # its items refer to its file, which may have been deleted
            return self._open[shard]
        items: list[Item] | UserError
        try:
            items = self._source.shard(count.name).items
            if len(items) != count.items:
                raise UserError(
                    f"{count.name}: it has {len(items)} items, {count.items} were counted: delete the counts in "
                    f"{self._source.folder}"
                )
        except UserError as error:
            items = error
        self._open[shard] = items
        if len(self._open) > self._most:
            self._open.popitem(last=False)
        return items
