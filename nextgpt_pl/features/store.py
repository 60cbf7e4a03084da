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

from nextgpt_pl.atomic import clear_abandoned, write_whole
from nextgpt_pl.errors import UserError
from nextgpt_pl.features.shards import Shard, write_shard

_ENTRY = 1024  # bytes that a key, a tensor's objects and their places take
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
        """Take in what other processes have added, where they can."""

    def missing(self, keys: Sequence[Hashable]) -> list[int]:
        """Positions of the keys that are not there, of equal ones the first."""
        first: dict[Hashable, int] = {}
        for index, key in enumerate(keys):
            first.setdefault(key, index)
        return [index for key, index in first.items() if key not in self]

    def look_up(self, keys: Sequence[Hashable]) -> Lookup:
        """What is there of some keys."""
        found = {key: self.get(key) for key in dict.fromkeys(keys)}
        return Lookup(self, keys, found, self.missing(keys))

    def fetch(self, keys: Sequence[Hashable], make: Callable[[list[int]], Tensor]) -> list[Tensor]:
        """One tensor per key, on the CPU; ``make(positions)`` computes those that are missing, each key once."""
        lookup = self.look_up(keys)
        return complete([lookup], [make(lookup.missing) if lookup.missing else None])[0]


@dataclass
class Lookup:
    """Keys that were looked up in a store.

    Attributes:
        store: where.
        keys: in the order that is asked for.
        found: what is there by key, float32; ``None`` if it is not.
        missing: positions of the keys that are not there, of equal ones the first.

    """

    store: Store
    keys: Sequence[Hashable]
    found: dict[Hashable, Tensor | None]
    missing: list[int]


def complete(lookups: Sequence[Lookup], made: Sequence[Tensor | None]) -> list[list[Tensor]]:
    """Per lookup one tensor per key, on the CPU; what was missing is added to the stores.

    Args:
        lookups: one or several.
        made: per lookup the tensors of its missing keys, ``(n, ...)`` on any device, which is waited for once; ``None``
            where nothing is missing.

    """
    copied = iter(_on_host([values.detach().float() for values in made if values is not None]))
    for lookup, values in zip(lookups, made, strict=True):
        if values is None:
            continue
        for key, value in zip([lookup.keys[i] for i in lookup.missing], next(copied), strict=True):
            lookup.store.add(key, value)
            kept = lookup.store.get(key)
            # a memory that is full keeps nothing
            lookup.found[key] = value if kept is None else kept
    return [[v for v in (lookup.found[key] for key in lookup.keys) if v is not None] for lookup in lookups]


def _on_host(tensors: list[Tensor]) -> list[Tensor]:
    """Copies on the CPU, of all tensors at once."""
    if len(tensors) < 2 or all(t.device.type == "cpu" for t in tensors):
        return [t.cpu() for t in tensors]
    flat = torch.cat([t.flatten() for t in tensors]).cpu()
    return [part.view(t.shape) for part, t in zip(flat.split([t.numel() for t in tensors]), tensors, strict=True)]


class Memory(Store):
    """A dictionary of bounded size, its keys counted.

    Args:
        max_bytes: of values, keys and the dictionary itself.
        evict: make room by dropping what was asked for longest ago, as an endless stream of new media wants it. By
            default what comes too late is not kept: of a set larger than the memory that is read epoch by epoch,
            dropping the oldest would drop each feature before it is asked for again.

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
        """Nothing: it is of one process alone."""

    def add(self, key: Hashable, value: Tensor) -> None:
        """If there is room, or room can be made."""
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

    Any number of processes may write: each into shards of its own, which appear whole. What a killed process had not
    written yet is computed again; so is, with a warning that names the shard, what is damaged.

    Args:
        folder: of this producer.
        producer: what computes the features, as plain data; written beside them.
        dtype: of the features on disk.

    """

    def __init__(self, folder: Path, producer: dict[str, Any], dtype: torch.dtype) -> None:
        self.folder, self.producer, self.dtype = folder, producer, dtype
        self._shards: dict[str, Shard | None] = {}
        self._index: dict[bytes, tuple[Shard, int]] = {}
        self._new: dict[bytes, Tensor] = {}
        self._changed = 0  # the folder's time of change when it was last looked at
        folder.mkdir(parents=True, exist_ok=True)
        clear_abandoned(folder)
        write_whole(folder / MANIFEST, json.dumps(producer, indent=2, sort_keys=True) + "\n")
        self.refresh()

    def __reduce__(self) -> tuple[Any, ...]:
        # memory maps do not travel: a worker that is spawned, not forked, opens the folder anew
        return FeatureStore, (self.folder, self.producer, self.dtype)

    def __len__(self) -> int:
        return len(self._index) + len(self._new)

    def __contains__(self, key: object) -> bool:
        return key in self._new or self._read(key) is not None

    def look_again(self) -> None:
        """Refresh if the folder has changed; costs one look at its time of change."""
        if self.folder.stat().st_mtime_ns != self._changed:
            self.refresh()

    def refresh(self) -> None:
        """Take in shards that have appeared, of this process or of others; a later one counts before an earlier one."""
        self._changed = self.folder.stat().st_mtime_ns
        for path in sorted(self.folder.glob("*.safetensors")):
            if path.name in self._shards:
                continue
            try:
                shard = Shard(path)
            except (SafetensorError, OSError) as error:
                self._shards[path.name] = None
                warnings.warn(
                    f"feature cache: {path} is damaged ({error}): its features are computed anew; delete it",
                    stacklevel=2,
                )
                continue
            self._shards[path.name] = shard
            for row, key in enumerate(shard.keys):
                self._index[key] = (shard, row)

    def _read(self, key: object) -> Tensor | None:
        """From the memory map; ``None`` if it is not there, or damaged."""
        assert isinstance(key, bytes)
        place = self._index.get(key)
        if place is None:
            return None
        shard, row = place
        value = shard.read(row, key)
        if value is None:
            del self._index[key]
            warnings.warn(
                f"feature cache: {shard.path}: the value in row {row} is damaged (checksum): it is computed anew",
                stacklevel=3,
            )
        return value

    def get(self, key: Hashable) -> Tensor | None:
        """From the memory map, or from what is not written yet."""
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
            # by time, and unique over machines that share the folder
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
