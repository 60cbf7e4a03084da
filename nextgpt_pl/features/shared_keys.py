"""The keys of a store in memory that data-loader workers can read."""

from __future__ import annotations

import torch

_SLOTS = 2**20  # of 8 bytes


class SharedKeys:
    """A set of hashes in memory that is shared between processes: one process writes, all read.

    Of keys that share a slot, the set holds the last one only: it may lack a key that was added, but it never holds one
    that was not. A pickled copy, as for a spawned worker, shares the memory.
    """

    def __init__(self) -> None:
        self._slots = torch.zeros(_SLOTS, dtype=torch.int64, device="cpu").share_memory_()

    def __contains__(self, key: bytes) -> bool:
        slot, mark = _place(key)
        return int(self._slots[slot]) == mark

    def add(self, key: bytes) -> None:
        """Add a key; it may displace another."""
        slot, mark = _place(key)
        self._slots[slot] = mark

    def discard(self, key: bytes) -> None:
        """Remove a key if it is there."""
        slot, mark = _place(key)
        if int(self._slots[slot]) == mark:
            self._slots[slot] = 0


def _place(key: bytes) -> tuple[int, int]:
    """Slot and mark of a key; the mark of an empty slot is 0."""
    mark = int.from_bytes(key[:8], "little", signed=True)
    return int.from_bytes(key[8:16], "little") % _SLOTS, mark or 1
