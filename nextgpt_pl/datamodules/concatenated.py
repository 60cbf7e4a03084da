"""Several sequences as one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from nextgpt_pl.utils.lazy_sequence import LazySequence

T = TypeVar("T")


class Concatenated(LazySequence[T]):
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

    def item(self, index: int) -> T:
        """The item of the sequence that has the position."""
        part = bisect_right(self.starts, index) - 1
        return self._parts[part][index - self.starts[part]]
