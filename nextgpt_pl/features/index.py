"""Index of the keys of a store: where in the shards each key is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from nextgpt_pl.features.keys import KEY_BYTES

#: keys ``(n, KEY_BYTES)`` uint8
Keys: TypeAlias = NDArray[np.uint8]
#: number of the shard in the upper 32 bits, row in the lower ones; -1: nowhere
Places: TypeAlias = NDArray[np.int64]

_PREFIX = np.dtype(np.uint64)
_ROW_BITS = 32


def as_array(keys: Sequence[bytes]) -> Keys:
    """Keys as an array; they all have ``KEY_BYTES`` bytes."""
    return np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), KEY_BYTES)


@dataclass(frozen=True)
class _Run:
    """Keys of some shards, sorted.

    Attributes:
        prefixes: first 8 bytes of each key as a number, ``(n,)`` uint64, ascending.
        places: place of each key, ``(n,)``; of equal prefixes in the order in which they were added.

    """

    prefixes: NDArray[np.uint64]
    places: Places


class KeyIndex:
    """Sorted arrays of the first 8 bytes of all keys, 16 bytes per key; the shards have the rest of the keys.

    Keys are hashes, so almost no two of them share these bytes. Those that do are told apart by the whole key. A key
    that was added twice is found where it was added last.

    """

    def __init__(self) -> None:
        self._runs: list[_Run] = []
        self._shards: list[Keys] = []

    def add(self, shards: Sequence[Keys]) -> None:
        """Add the keys of shards, which are numbered in the order in which they are added.

        The arrays are kept as they are, memory-mapped. Adding many small shards one by one costs O(n log n) in all:
        a run is merged with the one before it once it has half its length, so that there are few runs.
        """
        if not shards:
            return
        numbered = enumerate(shards, len(self._shards))
        places = [np.arange(len(keys), dtype=np.int64) | number << _ROW_BITS for number, keys in numbered]
        self._shards += shards
        prefixes = np.concatenate([_prefixes(keys) for keys in shards])
        self._runs.append(_sorted(prefixes, np.concatenate(places)))
        while len(self._runs) > 1 and 2 * len(self._runs[-1].places) >= len(self._runs[-2].places):
            self._merge(2)

    def _merge(self, count: int) -> None:
        """Make one run of the last ones."""
        runs = self._runs[-count:]
        merged = _sorted(np.concatenate([r.prefixes for r in runs]), np.concatenate([r.places for r in runs]))
        self._runs[-count:] = [merged]

    def find(self, keys: Keys) -> Places:
        """Place of each of ``n`` keys, ``(n,)``; -1: it was not added."""
        asked, found = _prefixes(keys), np.full(len(keys), -1, np.int64)
        for run in reversed(self._runs):
            rest = np.flatnonzero(found < 0)
            at = np.searchsorted(run.prefixes, asked[rest], "right") - 1
            while len(rest):
                equal = (at >= 0) & (run.prefixes[at] == asked[rest])
                rest, at = rest[equal], at[equal]
                same = (self._whole(run.places[at]) == keys[rest]).all(1)
                found[rest[same]] = run.places[at[same]]
                rest, at = rest[~same], at[~same] - 1
        return found

    def __len__(self) -> int:
        """The number of different keys."""
        if not self._runs:
            return 0
        self._merge(len(self._runs))
        (run,) = self._runs
        equal = run.prefixes[1:] == run.prefixes[:-1]
        shared = np.append(equal, False) | np.insert(equal, 0, False)
        different = np.unique(self._whole(run.places[shared]), axis=0) if shared.any() else ()
        return int((~shared).sum()) + len(different)

    def _whole(self, places: Places) -> Keys:
        """The whole keys at some places."""
        keys = np.empty((len(places), KEY_BYTES), np.uint8)
        for position, (number, row) in enumerate(zip(*shard_and_row(places), strict=True)):
            keys[position] = self._shards[number][row]
        return keys


def shard_and_row(places: Places) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of the shards and rows of places."""
    return places >> _ROW_BITS, places & (1 << _ROW_BITS) - 1


def _prefixes(keys: Keys) -> NDArray[np.uint64]:
    return np.ascontiguousarray(keys[:, : _PREFIX.itemsize]).view(_PREFIX)[:, 0]


def _sorted(prefixes: NDArray[np.uint64], places: Places) -> _Run:
    order = np.argsort(prefixes, kind="stable")
    return _Run(prefixes[order], places[order])
