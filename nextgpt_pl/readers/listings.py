"""Names of the files in folders, for callers that ask for very many files in a row."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Set as AbstractSet
from itertools import islice

_FEW = 32  # files of a folder that are asked for before it is listed
_FOLDERS = 100_000  # whose questions are counted

_NONE: frozenset[str] = frozenset()


class Listings:
    """Tells which regular files exist, from listings of their folders: one system call per folder, not one per file.

    A folder is listed at most once, so files that are made later are not known.

    Args:
        most: maximum number of names in memory; the oldest listings give way to new ones.

    """

    def __init__(self, most: int = 500_000) -> None:
        self._most, self._size = most, 0
        self._names: dict[str, AbstractSet[str]] = {}
        self._listed: deque[str] = deque()
        self._asked = Counter[str]()

    def has(self, folder: str, name: str) -> bool:
        """Whether a folder is known to have a regular file; ``False`` also if that is not known."""
        names = self._names.get(folder)
        return name in (self._ask(folder) if names is None else names)

    def _ask(self, folder: str) -> AbstractSet[str]:
        self._asked[folder] += 1
        if self._asked[folder] < _FEW:
            if len(self._asked) > _FOLDERS:
                self._asked.clear()
            return _NONE
        del self._asked[folder]
        names = self._names[folder] = self._list(folder)
        self._listed.append(folder)
        self._size += len(names)
        while self._size > self._most:
            oldest = self._listed.popleft()
            self._size -= len(self._names[oldest])
            self._names[oldest] = _NONE
        return names

    def _list(self, folder: str) -> AbstractSet[str]:
        try:
            with os.scandir(folder) as entries:
                names = {e.name for e in islice(entries, self._most) if e.is_file(follow_symlinks=False)}
                # the listing of a larger folder is not completed, and not kept
                return names if next(entries, None) is None else _NONE
        except OSError:
            return _NONE
