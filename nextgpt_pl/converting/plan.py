"""What is to be written: the items of each folder of the output, cut into chunks of rows that workers take."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from nextgpt_pl.datamodules.indexed_items import IndexedItems
from nextgpt_pl.datamodules.kinds import KINDS, Kind, kind_codes
from nextgpt_pl.datamodules.sources import Item, Source

_LONG = 50  # mean number of rows between changes of kind from which on shards begin at these

#: folder of the items of both splits, beside folders of the splits
BOTH = "both"


@dataclass(frozen=True)
class Part:
    """The items of one folder.

    Attributes:
        folder: its name: ``train``, ``val``, ``both``, or empty if the source is not split.
        items: the items.
        starts: position of the first item of each row, ``(rows,)``, and behind them the number of items.

    """

    folder: str
    items: Sequence[Item]
    starts: np.ndarray

    @property
    def split(self) -> str | None:
        """The split that its rows are marked with."""
        return self.folder if self.folder not in ("", BOTH) else None

    def digest(self) -> str:
        """A hash that changes when other rows are used: when a file of a broken row is there by now, for example."""
        sha256 = hashlib.sha256(self.folder.encode())
        places = self.items.places() if isinstance(self.items, IndexedItems) else ()
        for numbers in (self.starts, kind_codes(self.items), *places):
            sha256.update(np.ascontiguousarray(numbers).tobytes())
        return sha256.hexdigest()[:16]

    @property
    def rows(self) -> int:
        """Number of its rows."""
        return len(self.starts) - 1


@dataclass(frozen=True)
class Chunk:
    """Rows of a part, which one worker writes to shards of their own.

    Attributes:
        part: number of the part.
        first: number of its first row.
        end: number behind its last row.

    """

    part: int
    first: int
    end: int


@dataclass(frozen=True)
class Counts:
    """How many rows of a source its readers found.

    Attributes:
        used: rows with items.
        broken: rows that cannot be used; the source's ``on_error`` is ``skip``.
        left_out: rows that are not used on purpose.
        reasons: why rows are broken, as far as the readers say.

    """

    used: int
    broken: int
    left_out: int
    reasons: Sequence[Sequence[str]]


def parts_of(source: Source) -> tuple[list[Part], Counts]:
    """The parts of a source, without empty ones, and its numbers of rows.

    Raises:
        UserError: a row is broken, and ``on_error`` is ``raise``.

    """
    train = source.read("train")
    reports = [source.report]
    if source.validates_on_training():
        parts = [_part("", train)]
    else:
        val = source.read("val")
        if isinstance(train, IndexedItems) and isinstance(val, IndexedItems):
            both, *alone = train.shared_with(val)
            parts = [_part(BOTH if any(map(len, alone)) else "", both), *map(_part, ("train", "val"), alone)]
        else:
            parts = [_part("train", train), _part("val", val)]
            reports.append(source.report)
    parts = [part for part in parts if part.rows]
    # the report of indexed items is on both splits
    broken = [len(r.broken) if isinstance(train, IndexedItems) else r.split_counts[1] for r in reports]
    left_out = sum(report.left_out for report in reports)
    return parts, Counts(sum(p.rows for p in parts), sum(broken), left_out, [report.broken for report in reports])


def _part(folder: str, items: Sequence[Item]) -> Part:
    starts = items.row_starts() if isinstance(items, IndexedItems) else np.arange(len(items))
    return Part(folder, items, np.append(starts, len(items)))


def kinds_of(parts: Sequence[Part]) -> list[Kind]:
    """The kinds of items in parts."""
    return [KINDS[code] for code in np.unique(np.concatenate([kind_codes(part.items) for part in parts])).tolist()]


def chunks_of(parts: Sequence[Part], rows: int) -> list[Chunk]:
    """Chunks of at most ``rows`` rows, which begin where the kind of items changes if it changes seldom.

    :class:`~nextgpt_pl.datamodules.StreamedShards` takes all items of a shard for one kind.
    """
    chunks = []
    for number, part in enumerate(parts):
        kinds = kind_codes(part.items)[part.starts[:-1]]
        changes = np.flatnonzero(np.diff(kinds)) + 1
        bounds = [0, *(changes.tolist() if (len(changes) + 1) * _LONG <= part.rows else ()), part.rows]
        for begin, end in pairwise(bounds):
            chunks += [Chunk(number, first, min(first + rows, end)) for first in range(begin, end, rows)]
    return chunks
