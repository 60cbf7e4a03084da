"""A store of features on disk: a folder of shards that many processes may write."""

from __future__ import annotations

import json
import time
import uuid
import warnings
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from nextgpt_pl.errors import UserError
from nextgpt_pl.features.shards import Shard, write_shard
from nextgpt_pl.features.store import Store
from nextgpt_pl.utils.atomic import delete_abandoned, write_atomic

SHARD_BYTES = 64 * 2**20
MANIFEST = "manifest.json"


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

    def refresh_if_changed(self) -> None:
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
        """Add a value; it is written with the next shard.

        Raises:
            UserError: the value is not finite in the store's dtype.

        """
        assert isinstance(key, bytes)
        rounded = value.detach().cpu().to(self.dtype, copy=True).contiguous()
        if not torch.isfinite(rounded).all():
            raise UserError(f"feature cache: a feature is not finite in {self.dtype}; set network.cache.dtype=float32")
        self._new[key] = rounded
        if rounded.nbytes * len(self._new) >= SHARD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write a shard of the new values, and open the shards of other processes."""
        if self._new:
            # names sort by time and are unique across machines that share the folder
            name = f"{time.time_ns():020d}-{uuid.uuid4().hex[:12]}.safetensors"
            write_shard(self.folder / name, self._new)
            self._new.clear()
        self.refresh()
