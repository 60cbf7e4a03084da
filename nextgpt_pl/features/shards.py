"""Shards of a feature store: safetensors files with a checksum per value."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from nextgpt_pl.features.index import as_array
from nextgpt_pl.features.keys import KEY_BYTES
from nextgpt_pl.features.rounding import SCALED, Rounded
from nextgpt_pl.utils.atomic import atomic_file

_STORE = "store"  # key of the name of the store's folder, which tells its producer, in a shard's metadata


def write_shard(path: Path, entries: Mapping[bytes, Rounded]) -> None:
    """Write the tensors of a :class:`Shard` atomically."""
    values = torch.stack([entry.stored for entry in entries.values()])
    scales = [entry.scales for entry in entries.values() if entry.scales is not None]
    tensors = {"values": values} | ({"scales": torch.stack(scales)} if scales else {})
    columns = [_bytes(tensor) for tensor in tensors.values()]
    checksums = [_checksum(key, columns, row) for row, key in enumerate(entries)]
    tensors |= {"keys": torch.from_numpy(as_array(list(entries)).copy()), "checksums": torch.tensor(checksums)}
    with atomic_file(path) as scratch:
        save_file(tensors, scratch, metadata={_STORE: path.parent.name})


def _bytes(values: Tensor) -> NDArray[np.uint8]:
    """The bytes of each value ``(N, bytes)``, without a copy."""
    return values.reshape(len(values), -1).view(torch.uint8).numpy()


def _checksum(key: bytes, columns: Sequence[NDArray[np.uint8]], row: int) -> int:
    """CRC-32 of a key and of the bytes in its row: those of its value, and of its scales if there are any."""
    checksum = zlib.crc32(key)
    for column in columns:
        checksum = zlib.crc32(column[row], checksum)
    return checksum


class Shard:
    """A memory-mapped shard; a value is verified when it is read for the first time: it is finite, and its checksum.

    Its tensors are ``keys`` ``(N, KEY_BYTES)`` uint8, ``values`` ``(N, ...)``, ``checksums`` ``(N,)`` int64 and, in
    float8, ``scales``, one per vector of the values. Shards without checksums or the name of their store, which older
    versions wrote, are read. A shard keeps no file open, and 2 bytes per value in memory.

    Args:
        path: the shard's file.

    Attributes:
        keys: the keys ``(N, KEY_BYTES)``, memory-mapped.

    Raises:
        SafetensorError, OSError, ValueError: the file cannot be read, is of another store, or its tensors do not fit
            together.

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        opened = safe_open(path, "pt")
        store = (opened.metadata() or {}).get(_STORE, path.parent.name)
        if store != path.parent.name:
            raise ValueError(f"it is a shard of {store}")
        names = opened.keys()
        keys, self._values = opened.get_tensor("keys"), opened.get_tensor("values")
        self._scales = opened.get_tensor("scales") if "scales" in names else None
        checksums = opened.get_tensor("checksums") if "checksums" in names else None
        _check(keys, self._values, self._scales, checksums)
        self.keys: NDArray[np.uint8] = keys.numpy()
        self._checksums = None if checksums is None else checksums.numpy()
        self._columns = [_bytes(tensor) for tensor in (self._values, self._scales) if tensor is not None]
        self._checked = np.zeros(len(keys), bool)
        self._damaged = np.zeros(len(keys), bool)

    def check(self, row: int) -> str | None:
        """Verify the value in a row, unless that was done before; what is to be reported of it, if it is damaged."""
        if self._checked[row]:
            return None
        self._checked[row] = True
        sums = self._checksums
        if sums is not None and _checksum(self.keys[row].tobytes(), self._columns, row) != int(sums[row]):
            fault = "checksum"
        elif not self.read(row).isfinite().all():
            fault = "not finite"
        else:
            return None
        self._damaged[row] = True
        return fault

    def good(self, row: int) -> bool:
        """Whether the value in a checked row is undamaged."""
        return not self._damaged[row]

    def read(self, row: int) -> Tensor:
        """The value in a row in float32; if it is float32 on disk, a view of the mapped file."""
        return Rounded(self._values[row], None if self._scales is None else self._scales[row]).value()


def _check(keys: Tensor, values: Tensor, scales: Tensor | None, checksums: Tensor | None) -> None:
    """Refuse tensors that do not fit together."""
    if keys.dtype != torch.uint8 or keys.ndim != 2 or keys.shape[1] != KEY_BYTES or not len(keys):
        raise ValueError(f"keys: {keys.dtype} {tuple(keys.shape)}, expected uint8 (N, {KEY_BYTES}), N > 0")
    if values.ndim < 1 or len(values) != len(keys) or not values.numel() or not values.is_floating_point():
        raise ValueError(f"values: {values.dtype} {tuple(values.shape)}, expected {len(keys)} floats or vectors")
    shape = values.shape[:-1] if values.dtype == SCALED else None
    if (None if scales is None else scales.shape) != shape:
        raise ValueError(f"scales: expected one per vector of the values in {SCALED}, and none in other dtypes")
    if checksums is not None and (checksums.dtype != torch.int64 or checksums.shape != (len(keys),)):
        raise ValueError(f"checksums: {checksums.dtype} {tuple(checksums.shape)}, expected int64 ({len(keys)},)")
