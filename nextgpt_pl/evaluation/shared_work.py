"""Work of scores that the ranks of a launch do together, and features that scores have in common.

Every rank calls the same methods in the same order, with equal arguments. An error of one rank is an error of all.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from nextgpt_pl.errors import UserError
from nextgpt_pl.evaluation.shares import attempted
from nextgpt_pl.metrics.extractors import Extractor
from nextgpt_pl.samples import Media
from nextgpt_pl.utils.distributed import rank, world_size

S = TypeVar("S")
T = TypeVar("T")


class SharedWork:
    """Splits work over all ranks, and computes each feature once.

    Args:
        shared: split the work over the ranks of the process group; otherwise each process does all of it.

    """

    def __init__(self, *, shared: bool = False) -> None:
        self.shared = shared and world_size() > 1
        self._extractors: dict[Hashable, Extractor] = {}
        self._features: dict[Hashable, Tensor] = {}

    def split(self, function: Callable[[Sequence[S]], Sequence[T]], items: Sequence[S], block: int = 1) -> list[T]:
        """The results of all items, in order.

        Args:
            function: the result of each of some consecutive items.
            items: all items, the same on all ranks.
            block: a rank's number of items is a multiple of it, but for the last ones.

        Raises:
            ValueError: the function has raised one, on this rank or on another.
            RuntimeError: the function has failed on another rank for another reason.

        """
        return [result for part in self._parts(lambda own: list(function(own)), items, block) for result in part]

    def each(self, function: Callable[[S], T], items: Sequence[S]) -> list[T]:
        """The result of each item; see :meth:`split`."""
        return self.split(lambda own: [function(item) for item in own], items)

    def once(self, function: Callable[[], T]) -> T:
        """The result of rank 0, on all ranks; see :meth:`split` for errors."""
        return self.each(lambda _: function(), [None])[0]

    def media(self, extractor: Extractor, media: Sequence[Media]) -> Tensor:
        """Features ``(N, D)`` float64 of media of one modality; equal requests are computed once.

        Raises:
            UserError: a medium is missing or unreadable.

        """
        own = self._extractor(extractor)
        return self._known(own, own.media, tuple(media))

    def captions(self, extractor: Extractor, captions: Sequence[str]) -> Tensor:
        """Features ``(N, D)`` float64 of captions; see :meth:`media`."""
        own = self._extractor(extractor)
        return self._known(own, own.captions, tuple(captions))

    def forget(self) -> None:
        """Drop the features that are kept, but not the extractors."""
        self._features.clear()

    def _extractor(self, extractor: Extractor) -> Extractor:
        """The first extractor that computes the same features, so that only one network is loaded."""
        return self._extractors.setdefault(extractor.identity, extractor)

    def _known(self, extractor: Extractor, encode: Callable[[Sequence[S]], Tensor], items: tuple[S, ...]) -> Tensor:
        key = extractor.identity, items
        if key not in self._features:
            # with the batches of one process, so that the features are equal
            self._features[key] = torch.cat(self._parts(encode, items, extractor.batch_size)).double()
        return self._features[key]

    def _parts(self, function: Callable[[Sequence[S]], T], items: Sequence[S], block: int) -> list[T]:
        """The results of the ranks' consecutive parts of the items; parts without items have none."""
        if not self.shared:
            return [function(items)]
        blocks = -(-len(items) // block)
        first, stop = (-(-number * blocks // world_size()) * block for number in (rank(), rank() + 1))
        own = items[first:stop]
        return _agreed(lambda: [function(own)] if own else [])


def _agreed(function: Callable[[], list[T]]) -> list[T]:
    """The results of all ranks in order; the error of the first rank that fails is raised on all."""
    results, failures, own = attempted(function)
    if not failures:
        return results
    worst = min(failures, key=lambda failure: failure.is_value)  # an error of a score, unless one is worse
    if worst.is_value:
        raise UserError(worst.message) from own
    if own is not None and not isinstance(own, ValueError):
        raise own
    raise RuntimeError(f"another rank failed: {worst.text}")
