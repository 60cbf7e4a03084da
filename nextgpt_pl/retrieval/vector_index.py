"""The index of a gallery's compact vectors: inverted lists of float16 vectors, memory-mapped.

Shapes: N vectors of D numbers, K results.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from nextgpt_pl.errors import UserError
from nextgpt_pl.utils.atomic import atomic_file

_PER_LIST = 40  # vectors; of fewer, k-means has too few points for its centres
_TRAINED = 50  # vectors per list by which the centres are found
_INSTALL = "pip install 'nextgpt-pl[retrieval]'"


def lists_for(count: int) -> int:
    """Number of inverted lists: 4 times the root of the number of vectors, and one list for a small gallery."""
    return max(1, min(4 * math.isqrt(count), count // _PER_LIST)) if count >= 64 * _PER_LIST else 1


def sample_size(count: int) -> int:
    """Number of vectors by which the centres of the lists are found."""
    return min(count, _TRAINED * lists_for(count))


def write_index(path: Path, sample: np.ndarray, vectors: Iterable[np.ndarray], count: int) -> None:
    """Write the index of vectors; their numbers are their positions.

    Args:
        path: the file, written atomically.
        sample: vectors ``(n, D)`` by which the centres are found, see :func:`sample_size`.
        vectors: blocks ``(n, D)`` float32 of all vectors.
        count: number of all vectors.

    """
    faiss = _faiss()
    index = faiss.index_factory(sample.shape[1], f"IVF{lists_for(count)},SQfp16")
    index.train(np.ascontiguousarray(sample, np.float32))
    for block in vectors:
        index.add(np.ascontiguousarray(block, np.float32))
    with atomic_file(path) as scratch:
        faiss.write_index(index, str(scratch))


class VectorIndex:
    """An index on disk; inverted lists are read when a query needs them.

    Args:
        path: file of :func:`write_index`.
        count: number of its vectors.
        dimensions: D.
        probes: number of lists that a query reads, the nearest first.

    Raises:
        UserError: the file is damaged, or faiss is not installed.

    """

    def __init__(self, path: Path, count: int, dimensions: int, probes: int) -> None:
        faiss = _faiss()
        try:
            self._index: Any = faiss.read_index(str(path), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
        except RuntimeError as error:
            raise UserError(f"{path}: not a readable index ({str(error).splitlines()[0]:.120})") from error
        if self._index.d != dimensions or self._index.ntotal != count:
            found = f"{self._index.ntotal} vectors of {self._index.d} numbers"
            raise UserError(f"{path}: {found}, expected {count} of {dimensions}")
        self._index.nprobe = probes
        self._path, self._count = path, count

    def search(self, query: np.ndarray, count: int) -> list[int]:
        """Numbers of the nearest vectors of one query ``(D,)``, at most ``count``, the nearest first.

        Queries are searched one by one: products of several queries at once are rounded in another way, and the result
        of a query would depend on the batch.

        Raises:
            UserError: the index is damaged.

        """
        _, found = self._index.search(query[None].astype(np.float32), min(count, self._count))
        rows = [int(row) for row in found[0] if row >= 0]
        if any(row >= self._count for row in rows):
            raise UserError(f"{self._path}: damaged: it names row {max(rows)} of {self._count}")
        return rows


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise UserError(f"a gallery's index needs the package faiss: {_INSTALL}") from error
    return faiss
