"""Stores of features: the interface, look-ups, and the store in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nextgpt_pl.features.shared_keys import SharedKeys

_ENTRY = 1024  # bytes of an entry besides the values: key, tensor object, dictionary slot


class Store(ABC):
    """Tensors of one producer, all of one shape, by key."""

    @abstractmethod
    def __contains__(self, key: object) -> bool: ...

    @abstractmethod
    def get(self, key: Hashable) -> Tensor | None:
        """The tensor in float32; ``None`` if it is missing."""

    def get_each(self, keys: Sequence[Hashable]) -> list[Tensor | None]:
        """The tensor of each key, as of :meth:`get`."""
        return [self.get(key) for key in keys]

    @abstractmethod
    def add(self, key: Hashable, value: Tensor) -> None:
        """Add a tensor; :meth:`get` returns it rounded to the store's dtype."""

    def add_each(self, keys: Sequence[Hashable], values: Tensor) -> None:
        """Add the tensors ``(N, ...)`` of N keys."""
        for key, value in zip(keys, values, strict=True):
            self.add(key, value)

    @abstractmethod
    def refresh_if_changed(self) -> None:
        """Load entries that other processes have added, if the store is shared."""

    def kept(self, key: bytes) -> bool:
        """Whether this process, or the one that started it as a data-loader worker, has the tensor."""
        return key in self

    def missing(self, keys: Sequence[Hashable]) -> list[int]:
        """Positions of the missing keys; only the first of equal keys."""
        return self.look_up(keys).missing

    def look_up(self, keys: Sequence[Hashable]) -> Lookup:
        """Look up several keys at once; equal keys are read once."""
        first: dict[Hashable, int] = {}
        for index, key in enumerate(keys):
            first.setdefault(key, index)
        values = dict(zip(first, self.get_each(list(first)), strict=True))
        return Lookup(self, keys, values, [index for key, index in first.items() if values[key] is None])

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
        values: float32 values by key; ``None`` for a missing value.
        missing: positions of missing keys; only the first of equal keys.

    """

    store: Store
    keys: Sequence[Hashable]
    values: dict[Hashable, Tensor | None]
    missing: list[int]


def complete(lookups: Sequence[Lookup], computed: Sequence[Tensor | None]) -> list[list[Tensor]]:
    """Per lookup one CPU tensor per key; computed values are added to the stores.

    Args:
        lookups: lookups to complete.
        computed: per lookup the values of its missing keys ``(n, ...)`` on any device, or ``None`` if none are missing.
            All lookups together take one host synchronisation.

    """
    on_host = iter(_on_host([values.detach().float() for values in computed if values is not None]))
    for lookup, values in zip(lookups, computed, strict=True):
        if values is None:
            continue
        keys, new = [lookup.keys[i] for i in lookup.missing], next(on_host)
        lookup.store.add_each(keys, new)
        for key, value, kept in zip(keys, new, lookup.store.get_each(keys), strict=True):
            # a full in-memory store drops the value
            lookup.values[key] = value if kept is None else kept
    return [[v for v in (lookup.values[key] for key in lookup.keys) if v is not None] for lookup in lookups]


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
        self._shared: SharedKeys | None = None

    def share(self) -> None:
        """Let workers that are started from now on know which keys, all of them hashes, are kept; see :meth:`kept`."""
        if self._shared is None:
            self._shared = SharedKeys()
            for key in self._values:
                self._announce(key)

    def __getstate__(self) -> dict[str, Any]:
        # a spawned worker needs the keys only
        return {**vars(self), "_values": OrderedDict(), "bytes": 0} if self._shared is not None else vars(self)

    def kept(self, key: bytes) -> bool:
        """See :meth:`Store.kept`."""
        return key in self._values or (self._shared is not None and key in self._shared)

    def _announce(self, key: Hashable, added: bool = True) -> None:
        if self._shared is not None:
            assert isinstance(key, bytes)
            (self._shared.add if added else self._shared.discard)(key)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def get(self, key: Hashable) -> Tensor | None:
        """The tensor as it was added."""
        if self.evict and key in self._values:
            self._values.move_to_end(key)
        return self._values.get(key)

    def refresh_if_changed(self) -> None:
        """Do nothing: the store belongs to one process."""

    def add(self, key: Hashable, value: Tensor) -> None:
        """Add a value if it fits, or if eviction can make room."""
        kept = value.detach().float().cpu().clone()
        if key in self._values or _size(kept) > self.max_bytes:
            return
        while self.evict and self.bytes + _size(kept) > self.max_bytes:
            evicted, old = self._values.popitem(last=False)
            self.bytes -= _size(old)
            self._announce(evicted, added=False)
        if self.bytes + _size(kept) <= self.max_bytes:
            self._values[key] = kept
            self.bytes += _size(kept)
            self._announce(key)


def _size(value: Tensor) -> int:
    return value.nbytes + _ENTRY


def in_fixed_batches(items: Sequence[Any], size: int, compute: Callable[[list[Any]], Tensor]) -> Tensor:
    """Apply ``compute`` to batches of exactly ``size`` items; the last batch is padded by repeating its last item.

    Matrix products of another size are summed in another order. With a fixed size, a feature's last bits do not depend
    on which other features are missing from the cache, so a resumed run equals an uninterrupted one.
    """
    outputs = []
    for start in range(0, len(items), size):
        batch = list(items[start : start + size])
        outputs.append(compute(batch + batch[-1:] * (size - len(batch)))[: len(batch)])
    return torch.cat(outputs)
