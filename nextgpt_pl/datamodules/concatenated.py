"""Several sequences as one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import TypeVar, overload

import numpy as np

T = TypeVar("T")


class Concatenated(Sequence[T]):
    """The items of several sequences, one after the other.

    Attributes:
        starts: position of the first item of each sequence.

    """

    def __init__(self, parts: Sequence[Sequence[T]]) -> None:
        self._parts = list(parts)
        ends = np.cumsum([len(part) for part in parts]).tolist()
        self.starts = [0, *ends[:-1]]
        self._length = ends[-1] if ends else 0

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        """One item, or the items of a slice."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < self._length:
            raise IndexError(index)
        part = bisect_right(self.starts, index) - 1
        return self._parts[part][index - self.starts[part]]
