"""A store of features on disk: a folder of shards that many processes may write."""

from __future__ import annotations

import json
import time
import uuid
import warnings
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from nextgpt_pl.errors import UserError
from nextgpt_pl.features.index import KeyIndex, as_array, shard_and_row
from nextgpt_pl.features.rounding import Rounded, RoundingError, rounded
from nextgpt_pl.features.shards import Shard, write_shard
from nextgpt_pl.features.store import Store
from nextgpt_pl.utils.atomic import delete_abandoned, write_atomic
from nextgpt_pl.utils.storage import DiskFullError

SHARD_BYTES = 64 * 2**20
_ENTRY = 1024  # bytes of a new value besides its numbers: key, tensor object, dictionary slot
MANIFEST = "manifest.json"


class FeatureStore(Store):
    """A folder of memory-mapped shards and an index of their keys, which takes 18 bytes per value in memory.

    Any number of processes may write; each writes its own shards, atomically. Values that a killed process had not
    written are computed again. So are damaged values, and values that a full or read-only disk does not take, with a
    warning. A shard takes one memory map and no open file; Linux allows a process about 65,000 maps.

    Args:
        folder: folder of this producer's features.
        producer: description of the network that computes the features, as plain data; written to the folder.
        dtype: dtype of the features on disk, one of :data:`~nextgpt_pl.features.rounding.DTYPES`.

    Attributes:
        error: of the values that this process has added, by rounding to the dtype.
        dropped: number of values that this process could not write.

    """

    def __init__(self, folder: Path, producer: dict[str, Any], dtype: torch.dtype) -> None:
        self.folder, self.producer, self.dtype = folder, producer, dtype
        self.error, self.dropped = RoundingError(), 0
        self._seen: set[str] = set()  # names of shards, also of unreadable ones
        self._shards: list[Shard] = []
        self._index = KeyIndex()
        self._new: dict[bytes, Rounded] = {}
        self._new_bytes = 0
        self._changed = 0  # the folder's mtime at the last refresh
        self._prepare()
        self.refresh()

    def _prepare(self) -> None:
        """Make the folder, with a description of the producer.

        The description is written once: writing changes the folder's mtime, at which all processes refresh. A folder
        on a read-only disk is used as it is.

        Raises:
            UserError: the folder does not exist and cannot be made.

        """
        path, text = self.folder / MANIFEST, json.dumps(self.producer, indent=2, sort_keys=True) + "\n"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            delete_abandoned(self.folder)
            if not path.is_file() or path.read_text(encoding="utf-8", errors="replace") != text:
                write_atomic(path, text)
        except (OSError, DiskFullError) as error:
            if not self.folder.is_dir():
                raise UserError(f"network.cache.folder: {self.folder} cannot be made ({error})") from error

    def __reduce__(self) -> tuple[Any, ...]:
        # memory maps cannot be pickled: a spawned worker opens the folder again
        return FeatureStore, (self.folder, self.producer, self.dtype)

    def __len__(self) -> int:
        return len(self._index) + self._index.find(as_array(list(self._new))).tolist().count(-1)

    def __contains__(self, key: object) -> bool:
        assert isinstance(key, bytes)
        return key in self._new or self._find([key])[0] is not None

    def bytes_on_disk(self) -> int:
        """Size of all readable shards."""
        return sum(shard.path.stat().st_size for shard in self._shards)

    def refresh_if_changed(self) -> None:
        """Refresh if the folder's mtime has changed."""
        if self.folder.stat().st_mtime_ns != self._changed:
            self.refresh()

    def refresh(self) -> None:
        """Open new shards of this and of other processes; values in later shards override those in earlier ones."""
        self._changed = self.folder.stat().st_mtime_ns
        found = sorted({path.name for path in self.folder.glob("*.safetensors")} - self._seen)
        self._seen.update(found)
        opened = [shard for shard in map(self._open, found) if shard is not None]
        self._shards += opened
        self._index.add([shard.keys for shard in opened])

    def _open(self, name: str) -> Shard | None:
        """A shard; ``None``, with a warning, if it is damaged."""
        path = self.folder / name
        try:
            return Shard(path)
        except (SafetensorError, OSError, ValueError) as error:
            warnings.warn(
                f"feature cache: {path} is damaged ({error}): its features are computed again; delete it",
                stacklevel=4,
            )
            return None

    def _find(self, keys: Sequence[bytes]) -> list[tuple[Shard, int] | None]:
        """Shard and row of each undamaged value; ``None`` if it is missing or damaged."""
        found = (part.tolist() for part in shard_and_row(self._index.find(as_array(keys))))
        places = [None if n < 0 else (self._shards[n], row) for n, row in zip(*found, strict=True)]
        for shard, row in filter(None, places):
            if fault := shard.check(row):
                warnings.warn(
                    f"feature cache: {shard.path}: the value in row {row} is damaged ({fault}): it is computed again",
                    stacklevel=4,
                )
        return [None if place is None or not place[0].good(place[1]) else place for place in places]

    def get(self, key: Hashable) -> Tensor | None:
        """The value from a shard, or from the buffer of values that are not written yet."""
        return self.get_each([key])[0]

    def get_each(self, keys: Sequence[Hashable]) -> list[Tensor | None]:
        """See :meth:`Store.get_each`; one search for all keys.

        Values that are float32 on disk are views of the mapped shards.
        """
        names = [key for key in keys if isinstance(key, bytes)]
        assert len(names) == len(keys)
        written = self._find(names)
        return [
            self._new[key].value() if key in self._new else None if place is None else place[0].read(place[1])
            for key, place in zip(names, written, strict=True)
        ]

    def add(self, key: Hashable, value: Tensor) -> None:
        """Add a value; see :meth:`add_each`."""
        self.add_each([key], value.unsqueeze(0))

    def add_each(self, keys: Sequence[Hashable], values: Tensor) -> None:
        """Add values ``(N, ...)``; they are written with the next shard.

        Raises:
            UserError: a value is not finite in the store's dtype.

        """
        entries = rounded(values, self.dtype)
        kept = entries.value()
        if not torch.isfinite(kept).all():
            if not torch.isfinite(values).all():
                raise UserError(f"feature cache: {self.folder}: a computed feature is not finite, in any dtype")
            raise UserError(f"feature cache: a feature is not finite in {self.dtype}; set network.cache.dtype=float32")
        if self.dtype != torch.float32:
            self.error.add(values, kept)
        for key, entry in zip(keys, entries.each(), strict=True):
            assert isinstance(key, bytes)
            self._new[key] = entry
        self._new_bytes += entries.nbytes + _ENTRY * len(keys)
        if self._new_bytes >= SHARD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write a shard of the new values, and open the shards of other processes."""
        if self._new:
            # names sort by time and are unique across machines that share the folder
            name = f"{time.time_ns():020d}-{uuid.uuid4().hex[:12]}.safetensors"
            try:
                write_shard(self.folder / name, self._new)
            except (OSError, DiskFullError, SafetensorError) as error:
                self._drop(error)
            self._new, self._new_bytes = {}, 0
        self.refresh()

    def _drop(self, error: Exception) -> None:
        """Warn that the new values are not kept: they are computed again when they are needed."""
        self.dropped += len(self._new)
        warnings.warn(
            f"feature cache: {self.folder} cannot be written ({error}); {self.dropped} features are not kept and are"
            " computed again",
            stacklevel=3,
        )
