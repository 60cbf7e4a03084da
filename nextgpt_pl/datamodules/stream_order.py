"""Order of the items of streamed shards: shards are shuffled, and items within a window of the shuffled shards."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_SAME_SHARD = 10  # replacements that are drawn from one shard before the next shard is tried


@dataclass(frozen=True)
class Stream:
    """A run of positions, among all items of a split, whose items are in shards.

    Attributes:
        start: position of its first item.
        ends: number of items up to the end of each shard, ``(shards,)`` int64, ascending.
        buffer: maximum distance, in items, by which an item is moved in the sequence of the shuffled shards.

    """

    start: int
    ends: np.ndarray
    buffer: int

    def __len__(self) -> int:
        return int(self.ends[-1])

    def order(self, generator: np.random.Generator) -> np.ndarray:
        """All positions in the order of an epoch, ``(n,)`` int64.

        Items of few shards are near one another in the order, so few shards are needed at a time.
        """
        sizes = np.diff(self.ends, prepend=0)
        shards = generator.permutation(len(sizes))
        starts, lengths = (self.ends - sizes)[shards], sizes[shards]
        before = np.cumsum(lengths) - lengths
        sequence = np.arange(len(self)) + np.repeat(starts - before, lengths)
        keys = np.arange(len(self)) + generator.random(len(self)) * self.buffer
        return self.start + sequence[np.argsort(keys, kind="stable")]

    def substitute(self, position: int, attempt: int) -> int:
        """Position of a replacement: drawn from the item's shard, after ten attempts from the next shard, and so on.

        Args:
            position: of the unusable item.
            attempt: number of the attempt, from 1.

        """
        full = np.flatnonzero(np.diff(self.ends, prepend=0))
        own = int(np.searchsorted(self.ends, position - self.start, side="right"))
        shard = full[(np.searchsorted(full, own) + (attempt - 1) // _SAME_SHARD) % len(full)]
        first = int(self.ends[shard - 1]) if shard else 0
        drawn = np.random.default_rng([position, attempt]).integers(first, int(self.ends[shard]))
        return self.start + int(drawn)


def placed(order: np.ndarray, streams: list[Stream], world_size: int, seed: tuple[int, ...]) -> np.ndarray:
    """An epoch's order in which the items of streams are replaced by those of the streams' own orders.

    Rank ``r`` takes the elements ``r``, ``r + world_size`` and so on. Each rank gets a contiguous part of a stream's
    order, so ranks read different shards. If a stream occurs more often than it has items, it starts again.

    Args:
        order: positions of the epoch's items, ``(n,)`` int64.
        streams: the streams.
        world_size: number of ranks.
        seed: seed of the streams' orders.

    """
    order = order.copy()
    for number, stream in enumerate(streams):
        own = np.flatnonzero((order >= stream.start) & (order < stream.start + len(stream)))
        by_rank = own[np.argsort(own % world_size, kind="stable")]
        sequence = stream.order(np.random.default_rng([*seed, number]))
        order[by_rank] = sequence[np.arange(len(own)) % len(sequence)]
    return order
