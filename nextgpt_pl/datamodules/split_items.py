"""The items of a split from all sources, with their groups."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from lightning.pytorch.utilities import rank_zero_info

from nextgpt_pl.datamodules.concatenated import Concatenated
from nextgpt_pl.datamodules.kinds import KINDS, Groups, Kind, kind_codes
from nextgpt_pl.datamodules.sources import Item, Source, Split
from nextgpt_pl.datamodules.stream_order import Stream
from nextgpt_pl.datamodules.streamed_shards import StreamedItems
from nextgpt_pl.errors import UserError

GroupOf = Callable[[Kind, str], Hashable]


@dataclass(frozen=True)
class SplitItems:
    """What the sources gave for a split.

    Attributes:
        items: the items of all sources.
        groups: the group of each item.
        streams: runs of items that are in shards.
        used: number of rows that were used.
        skipped: number of rows that were not.

    """

    items: Concatenated[Item]
    groups: Groups
    streams: list[Stream]
    used: int
    skipped: int


def read_split(split: Split, sources: Sequence[Source], group: GroupOf) -> SplitItems:
    """Read a split of all sources, and report its rows.

    Args:
        split: the split.
        sources: the sources.
        group: the group of a kind of item of the source with this name.

    Raises:
        UserError: a row is broken, or no item is left.

    """
    parts = [source.read(split) for source in sources]
    items = Concatenated(parts)
    if not len(items):
        raise UserError(_no_items(split, sources))
    groups, reports = _grouped(parts, sources, group), [source.report for source in sources]
    streams = [
        Stream(start, part.ends, part.buffer)
        for start, part in zip(items.starts, parts, strict=True)
        if isinstance(part, StreamedItems)
    ]
    used, skipped = (sum(report.split_counts[i] for report in reports) for i in (0, 1))
    for report in reports:
        rank_zero_info(f"{split}: {report.message()}")
    counts = sorted((str(name), n) for name, n in groups.sizes().items())
    rank_zero_info(f"{split}: {', '.join(f'{n} {name}' for name, n in counts)}")
    return SplitItems(items, groups, streams, used, skipped)


def _grouped(parts: Sequence[Sequence[Item]], sources: Sequence[Source], group: GroupOf) -> Groups:
    """The group of each item of all sources; groups in the order of their first items."""
    names: dict[Hashable, int] = {}
    codes = []
    for items, source in zip(parts, sources, strict=True):
        kinds = kind_codes(items)
        present, first = np.unique(kinds, return_index=True)
        of_kind = np.zeros(len(KINDS), np.int32)
        for kind in present[np.argsort(first)].tolist():
            of_kind[kind] = names.setdefault(group(KINDS[kind], source.name), len(names))
        codes.append(of_kind[kinds])
    return Groups(np.concatenate(codes), tuple(names))


def _no_items(split: Split, sources: Sequence[Source]) -> str:
    notes = [note for source in sources for note in source.report.notes]
    remedy = "; val_fraction: 0 validates on the training rows" if split == "val" and notes else ""
    return "\n  ".join([f"data.sources give no item for {split}{remedy}", *notes])
