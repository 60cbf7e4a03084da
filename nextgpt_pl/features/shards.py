"""Shards of a feature store: safetensors files with a checksum per value."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from nextgpt_pl.features.keys import KEY_BYTES
from nextgpt_pl.utils.atomic import atomic_file


def checksum(key: bytes, value: Tensor) -> int:
    """CRC-32 of a key and its value's bytes."""
    return zlib.crc32(value.reshape(-1).view(torch.uint8).numpy().data, zlib.crc32(key))


def write_shard(path: Path, entries: Mapping[bytes, Tensor]) -> None:
    """Write ``keys`` ``(N, KEY_BYTES)``, ``values`` ``(N, ...)`` and ``checksums`` ``(N,)`` atomically."""
    keys = np.frombuffer(b"".join(entries), dtype=np.uint8).reshape(-1, KEY_BYTES)
    checksums = torch.tensor([checksum(key, value) for key, value in entries.items()], dtype=torch.int64)
    tensors = {"keys": torch.from_numpy(keys.copy()), "values": torch.stack(list(entries.values()))}
    with atomic_file(path) as scratch:
        save_file({**tensors, "checksums": checksums}, scratch)


class Shard:
    """A memory-mapped shard; a value's checksum is verified when it is read for the first time.

    Shards without checksums, which older versions wrote, are read unverified.

    Args:
        path: the shard's file.

    Raises:
        SafetensorError, OSError: the file cannot be read.

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        opened = safe_open(path, "pt")
        self.keys = [key.tobytes() for key in opened.get_tensor("keys").numpy()]
        self._values = opened.get_slice("values")
        has_checksums = "checksums" in opened.keys()  # noqa: SIM118 (not a dictionary)
        self._checksums = opened.get_tensor("checksums").numpy() if has_checksums else None
        self._checked = np.full(len(self.keys), self._checksums is None)

    def read(self, row: int, key: bytes) -> Tensor | None:
        """The value in a row, in the store's dtype; ``None`` if its checksum does not match."""
        value: Tensor = self._values[row]
        if not self._checked[row]:
            assert self._checksums is not None
            if checksum(key, value) != self._checksums[row]:
                return None
            self._checked[row] = True
        return value
