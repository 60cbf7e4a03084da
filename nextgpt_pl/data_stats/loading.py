"""Apply a function to ranges of numbers in worker processes, in order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from torch.utils.data import Dataset
from tqdm import tqdm

from nextgpt_pl.datamodules.samplers import RowLoader
from nextgpt_pl.utils.parents import start_worker

T = TypeVar("T")


class _Chunks(Dataset[Any]):
    """The function's results, by number of the range."""

    def __init__(self, function: Callable[[range], Any], count: int, size: int) -> None:
        self.function, self.count, self.size = function, count, size

    def __len__(self) -> int:
        return math.ceil(self.count / self.size)

    def __getitem__(self, index: int) -> Any:
        return self.function(range(index * self.size, min(self.count, (index + 1) * self.size)))


def over_chunks(function: Callable[[range], T], count: int, size: int, workers: int, title: str) -> Iterator[T]:
    """The results for ``range(0, size)``, ``range(size, 2 * size)`` and so on, up to ``count``, with a progress bar."""
    loader = RowLoader(
        _Chunks(function, count, size),
        batch_size=None,
        num_workers=workers if count > size else 0,
        collate_fn=_same,
        worker_init_fn=start_worker,
    )
    with tqdm(total=count, desc=title, unit="", unit_scale=True) as bar:
        for result in loader:
            yield result
            bar.update(min(size, count - bar.n))


def _same(result: T) -> T:
    return result
