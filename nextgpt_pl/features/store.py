"""Where features are kept: in memory, or on disk in shards that are whole or not there."""

from __future__ import annotations

import json
import time
import uuid
import warnings
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from nextgpt_pl.errors import UserError
from nextgpt_pl.features.shards import Shard, write_shard
from nextgpt_pl.utils.atomic import delete_abandoned, write_atomic

_ENTRY = 1024  # bytes of an entry besides the values: key, tensor object, dictionary slot
SHARD_BYTES = 64 * 2**20
MANIFEST = "manifest.json"


class Store(ABC):
    """Tensors of one producer, all of one shape, by key."""

    @abstractmethod
    def __contains__(self, key: object) -> bool: ...

    @abstractmethod
    def get(self, key: Hashable) -> Tensor | None:
        """The tensor, float32; ``None`` if it is not there."""

    @abstractmethod
    def add(self, key: Hashable, value: Tensor) -> None:
        """Keep a tensor; what :meth:`get` gives afterwards is rounded to the store's dtype."""

    @abstractmethod
    def look_again(self) -> None:
        """Find entries that other processes have added, if the store is shared."""

    def missing(self, keys: Sequence[Hashable]) -> list[int]:
        """Positions of the keys that are not there, of equal ones the first."""
        first: dict[Hashable, int] = {}
        for index, key in enumerate(keys):
            first.setdefault(key, index)
        return [index for key, index in first.items() if key not in self]

    def look_up(self, keys: Sequence[Hashable]) -> Lookup:
        """Look up several keys."""
        found = {key: self.get(key) for key in dict.fromkeys(keys)}
        return Lookup(self, keys, found, self.missing(keys))

    def fetch(self, keys: Sequence[Hashable], make: Callable[[list[int]], Tensor]) -> list[Tensor]:
        """One CPU tensor per key; ``make(positions)`` computes the missing ones, each key once."""
        lookup = self.look_up(keys)
        return complete([lookup], [make(lookup.missing) if lookup.missing else None])[0]


@dataclass
class Lookup:
    """Keys that were looked up in a store.

    Attributes:
        store: the store.
        keys: keys in the requested order.
        found: float32 values by key; ``None`` for a missing value.
        missing: positions of missing keys; only the first of equal keys.

    """

    store: Store
    keys: Sequence[Hashable]
    found: dict[Hashable, Tensor | None]
    missing: list[int]


def complete(lookups: Sequence[Lookup], made: Sequence[Tensor | None]) -> list[list[Tensor]]:
    """Per lookup one CPU tensor per key; computed values are added to the stores.

    Args:
        lookups: lookups to complete.
        made: per lookup the values of its missing keys ``(n, ...)`` on any device, or ``None`` if nothing is missing.
            All lookups together take one host synchronisation.

    """
    copied = iter(_on_host([values.detach().float() for values in made if values is not None]))
    for lookup, values in zip(lookups, made, strict=True):
        if values is None:
            continue
        for key, value in zip([lookup.keys[i] for i in lookup.missing], next(copied), strict=True):
            lookup.store.add(key, value)
            kept = lookup.store.get(key)
            # a full memory does not keep the value
            lookup.found[key] = value if kept is None else kept
    return [[v for v in (lookup.found[key] for key in lookup.keys) if v is not None] for lookup in lookups]


def _on_host(tensors: list[Tensor]) -> list[Tensor]:
    """CPU copies of all tensors in one transfer."""
    if len(tensors) < 2 or all(t.device.type == "cpu" for t in tensors):
        return [t.cpu() for t in tensors]
    flat = torch.cat([t.flatten() for t in tensors]).cpu()
    return [part.view(t.shape) for part, t in zip(flat.split([t.numel() for t in tensors]), tensors, strict=True)]


class Memory(Store):
    """An in-memory store of bounded size, including keys.

    Args:
        max_bytes: maximum size of values, keys and dictionary.
        evict: evict the least recently used entries, for an endless stream of new media. By default nothing is
            evicted and new values are dropped once the store is full: over epochs of a data set that exceeds the
            store, eviction would remove every entry before its next use.

    """

    def __init__(self, max_bytes: int, evict: bool = False) -> None:
        self.max_bytes, self.evict, self.bytes = max_bytes, evict, 0
        self._values: OrderedDict[Hashable, Tensor] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def get(self, key: Hashable) -> Tensor | None:
        """As it was added."""
        if self.evict and key in self._values:
            self._values.move_to_end(key)
        return self._values.get(key)

    def look_again(self) -> None:
        """Do nothing: the store belongs to one process."""

    def add(self, key: Hashable, value: Tensor) -> None:
        """Add a value if it fits, or if eviction can make room."""
        kept = value.detach().float().cpu().clone()
        if key in self._values or _size(kept) > self.max_bytes:
            return
        while self.evict and self.bytes + _size(kept) > self.max_bytes:
            self.bytes -= _size(self._values.popitem(last=False)[1])
        if self.bytes + _size(kept) <= self.max_bytes:
            self._values[key] = kept
            self.bytes += _size(kept)


def _size(value: Tensor) -> int:
    return value.nbytes + _ENTRY


class FeatureStore(Store):
    """A folder of shards, each a safetensors file with ``keys``, ``values`` and ``checksums``, memory-mapped.

    Any number of processes may write; each writes its own shards, atomically. Values that a killed process had not
    written are computed again. So are damaged values, with a warning that names the shard.

    Args:
        folder: folder of this producer's features.
        producer: description of the network that computes the features, as plain data; written to the folder.
        dtype: dtype of the features on disk.

    """

    def __init__(self, folder: Path, producer: dict[str, Any], dtype: torch.dtype) -> None:
        self.folder, self.producer, self.dtype = folder, producer, dtype
        self._shards: dict[str, Shard | None] = {}
        self._index: dict[bytes, tuple[Shard, int]] = {}
        self._new: dict[bytes, Tensor] = {}
        self._changed = 0  # the folder's mtime at the last refresh
        folder.mkdir(parents=True, exist_ok=True)
        delete_abandoned(folder)
        write_atomic(folder / MANIFEST, json.dumps(producer, indent=2, sort_keys=True) + "\n")
        self.refresh()

    def __reduce__(self) -> tuple[Any, ...]:
        # memory maps cannot be pickled: a spawned worker opens the folder again
        return FeatureStore, (self.folder, self.producer, self.dtype)

    def __len__(self) -> int:
        return len(self._index) + len(self._new)

    def __contains__(self, key: object) -> bool:
        return key in self._new or self._read(key) is not None

    def look_again(self) -> None:
        """Refresh if the folder's mtime has changed."""
        if self.folder.stat().st_mtime_ns != self._changed:
            self.refresh()

    def refresh(self) -> None:
        """Open new shards of this and of other processes; values in later shards override those in earlier ones."""
        self._changed = self.folder.stat().st_mtime_ns
        for path in sorted(self.folder.glob("*.safetensors")):
            if path.name in self._shards:
                continue
            try:
                shard = Shard(path)
            except (SafetensorError, OSError) as error:
                self._shards[path.name] = None
                warnings.warn(
                    f"feature cache: {path} is damaged ({error}): its features are computed again; delete it",
                    stacklevel=2,
                )
                continue
            self._shards[path.name] = shard
            for row, key in enumerate(shard.keys):
                self._index[key] = (shard, row)

    def _read(self, key: object) -> Tensor | None:
        """The value from a memory-mapped shard; ``None`` if it is missing or damaged."""
        assert isinstance(key, bytes)
        place = self._index.get(key)
        if place is None:
            return None
        shard, row = place
        value = shard.read(row, key)
        if value is None:
            del self._index[key]
            warnings.warn(
                f"feature cache: {shard.path}: the value in row {row} is damaged (checksum): it is computed again",
                stacklevel=3,
            )
        return value

    def get(self, key: Hashable) -> Tensor | None:
        """The value from a shard, or from the buffer of values that are not written yet."""
        assert isinstance(key, bytes)
        if key in self._new:
            return self._new[key].float()
        value = self._read(key)
        return None if value is None else value.float()

    def add(self, key: Hashable, value: Tensor) -> None:
        """Written with the next shard.

        Raises:
            UserError: the feature does not fit into half precision.

        """
        assert isinstance(key, bytes)
        rounded = value.detach().cpu().to(self.dtype, copy=True).contiguous()
        if not torch.isfinite(rounded).all():
            raise UserError(f"feature cache: a feature is not finite in {self.dtype}; set network.cache.dtype=float32")
        self._new[key] = rounded
        if rounded.nbytes * len(self._new) >= SHARD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write a shard of what is new, and take in those of other processes."""
        if self._new:
            # names sort by time and are unique across machines that share the folder
            name = f"{time.time_ns():020d}-{uuid.uuid4().hex[:12]}.safetensors"
            write_shard(self.folder / name, self._new)
            self._new.clear()
        self.refresh()


def in_chunks(items: Sequence[Any], size: int, compute: Callable[[list[Any]], Tensor]) -> Tensor:
    """``compute`` over chunks of exactly ``size`` items, the last one filled up by repeating its last item.

    Matrix products of other sizes are summed in another order: without this, a feature's last bits would depend on
    what else was missing from the cache at the time, and a resumed run would not equal an uninterrupted one.
    """
    found = []
    for start in range(0, len(items), size):
        chunk = list(items[start : start + size])
        found.append(compute(chunk + chunk[-1:] * (size - len(chunk)))[: len(chunk)])
    return torch.cat(found)
