"""Writing the shards of one chunk of rows; continues behind the shards that an interrupted conversion has written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from nextgpt_pl.converting.plan import Chunk, Part
from nextgpt_pl.converting.samples import Samples, one_row
from nextgpt_pl.converting.writers import ShardWriter
from nextgpt_pl.datamodules.sources import Item
from nextgpt_pl.errors import UserError
from nextgpt_pl.utils.atomic import atomic_file, write_atomic


class Stopped(Exception):  # noqa: N818 - it is no error
    """The conversion was interrupted."""


@dataclass
class ShardRecord:
    """What was written to a shard, and what was skipped meanwhile.

    Attributes:
        next: number of the first row of the next shard.
        written: number of rows of which at least one item was written.
        skipped: number of rows of which none was.
        items: number of items that were written.
        skipped_items: number of items that were not.
        samples: number of samples, or rows of a Parquet file; pairs about one medium are one sample.
        missing: number of media that do not exist, where the source does not need them.
        attributes: number of items whose exact attributes shards do not hold.
        faults: why items were skipped.

    """

    next: int
    written: int = 0
    skipped: int = 0
    items: int = 0
    skipped_items: int = 0
    samples: int = 0
    missing: int = 0
    attributes: int = 0
    faults: list[str] = field(default_factory=list)


@dataclass
class _Unit:
    """Rows that are in the same shard: one, or several whose pairs are one sample.

    Attributes:
        first: number of its first row.
        rows: number of its rows.
        groups: the items of each sample.
        faults: why further items cannot be read.

    """

    first: int
    rows: int = 1
    groups: list[list[Item]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def take(self, other: _Unit) -> bool:
        """Add the row of another unit if all items of both are one sample; returns whether they are."""
        single = len(self.groups) == len(other.groups) == 1 and not self.faults and not other.faults
        if not single or not one_row(self.groups[0], *other.groups[0]):
            return False
        self.rows += 1
        self.groups[0] += other.groups[0]
        return True


@dataclass
class _Ready:
    """The samples of a unit.

    Attributes:
        of: the unit.
        encoded: its samples for the writer, each with its bytes.
        written: the items in them.
        faults: why the others are not.
        missing: number of media that do not exist.

    """

    of: _Unit
    encoded: list[tuple[Any, int]] = field(default_factory=list)
    written: list[Item] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    missing: int = 0

    def count(self, record: ShardRecord) -> None:
        """Add the unit to what was written."""
        rows, items = self.of.rows, sum(map(len, self.of.groups)) + len(self.of.faults)
        record.written += rows if self.written else 0
        record.skipped += 0 if self.written else rows
        record.items += len(self.written)
        record.skipped_items += items - len(self.written)
        record.samples += len(self.encoded)
        record.missing += self.missing
        record.attributes += sum(item.attributes is not None for item in self.written)
        record.faults += self.faults


def _units(part: Part, first: int, end: int) -> Iterator[_Unit]:
    """The rows of a part from ``first`` on, with those that follow and are about the same medium."""
    waiting: _Unit | None = None
    for row in range(first, end):
        unit = _unit(part, row)
        if waiting is not None:
            if waiting.take(unit):
                continue
            yield waiting
        waiting = unit
    if waiting is not None:
        yield waiting


def _unit(part: Part, row: int) -> _Unit:
    unit = _Unit(row)
    for position in range(int(part.starts[row]), int(part.starts[row + 1])):
        try:
            item = part.items[position]
        except UserError as error:  # a file has vanished since the rows were indexed
            unit.faults.append(str(error))
            continue
        if unit.groups and one_row(unit.groups[-1], item):
            unit.groups[-1].append(item)
        else:
            unit.groups.append([item])
    return unit


@dataclass
class ChunkWriter:
    """Writes the shards of chunks.

    Attributes:
        parts: all parts.
        folder: folder of unnumbered shards and their records.
        writer: class of the shards' writer.
        columns: the columns of Parquet files.
        limit: bytes of a shard.
        check: decode media to find unreadable ones.
        need_media: whether the source's media must exist.
        skips: whether unusable items are skipped.

    """

    parts: list[Part]
    folder: Path
    writer: type[ShardWriter]
    columns: list[str]
    limit: int
    check: bool
    need_media: bool
    skips: bool

    def file(self, chunk: Chunk, number: int) -> Path:
        """Shard ``number`` of a chunk, while it has no final name."""
        return self.folder / f"{chunk.part}-{chunk.first:010}-{number:06}{self.writer.suffix}"

    def records(self, chunk: Chunk) -> list[ShardRecord]:
        """What is written of a chunk."""
        found: list[ShardRecord] = []
        while (file := self.file(chunk, len(found)).with_suffix(".json")).is_file():
            found.append(ShardRecord(**json.loads(file.read_text(encoding="utf-8"))))
        return found

    def write(self, chunk: Chunk, advance: Callable[[int], object]) -> None:
        """Write the shards of a chunk that are not there.

        Args:
            chunk: the chunk.
            advance: called with the number of rows that are done; may raise :class:`Stopped`.

        Raises:
            UserError: an item is unusable, and unusable items are not skipped.

        """
        known = self.records(chunk)
        first, number = (known[-1].next if known else chunk.first), len(known)
        part = self.parts[chunk.part]
        ready: Iterator[_Ready] = (self._ready(unit, part.split) for unit in _units(part, first, chunk.end))
        while first < chunk.end:
            file = self.file(chunk, number)
            with atomic_file(file) as scratch:
                record, rest = self._shard(scratch, chunk, ready, advance)
            if not record.samples:
                file.unlink()
            write_atomic(file.with_suffix(".json"), json.dumps(asdict(record), ensure_ascii=False))
            ready = chain([rest], ready) if rest is not None else ready
            first, number = record.next, number + 1

    def _shard(
        self, file: Path, chunk: Chunk, ready: Iterator[_Ready], advance: Callable[[int], object]
    ) -> tuple[ShardRecord, _Ready | None]:
        """Write one shard; returns the unit that does not fit, which begins the next one."""
        record = ShardRecord(chunk.end)
        with self.writer(file, self.columns) as shard:
            for unit in ready:
                size = sum(size for _, size in unit.encoded)
                if record.samples and shard.size + size > self.limit:
                    record.next = unit.of.first
                    return record, unit
                for content, added in unit.encoded:
                    shard.add(content)
                    shard.size += added
                unit.count(record)
                advance(unit.of.rows)
        return record, None

    def _ready(self, unit: _Unit, split: str | None) -> _Ready:
        """The samples of a unit as they are written; items that cannot be used are skipped, if the source says so."""
        samples, ready = Samples(split, self.check, self.need_media), _Ready(unit, faults=list(unit.faults))
        if unit.faults and not self.skips:
            raise UserError(unit.faults[0])
        for number, group in enumerate(unit.groups):
            key = f"{unit.first:09}-{number}" if number else f"{unit.first:09}"
            try:
                ready.encoded.append(self.writer.encoded(key, samples.of(group)))
                ready.written += group
            except UserError as error:
                if not self.skips:
                    raise
                ready.faults.append(str(error))
        ready.missing = samples.missing
        return ready
