"""The items of a source that a gallery can hold: captioned media of one modality."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import CaptionedPair


class CaptionedMedia:
    """Captioned media of a modality among other items; each is built when it is asked for.

    Args:
        items: the items.
        modality: the modality.

    """

    def __init__(self, items: Sequence[Any], modality: Modality) -> None:
        self._items, self._modality = items, modality

    def __len__(self) -> int:
        """Number of all items."""
        return len(self._items)

    def pair(self, index: int) -> CaptionedPair | str | None:
        """An item; why it cannot be used; or ``None`` if it is something else."""
        try:
            item = self._items[index]
        except UserError as error:  # a file of its row does not exist any more
            return str(error)
        fits = isinstance(item, CaptionedPair) and item.modality is self._modality and item.media is not None
        return item if fits else None

    def captions(self, count: int, looked_at: int) -> list[str]:
        """At most ``count`` captions, spread evenly over the items, of which at most ``looked_at`` are built."""
        found = [self.pair(index) for index in _spread(len(self), looked_at)]
        pairs = [pair for pair in found if isinstance(pair, CaptionedPair)]
        return [pairs[i].caption for i in _spread(len(pairs), count)]


def _spread(length: int, count: int) -> list[int]:
    """At most ``count`` positions below ``length``, evenly spread."""
    return np.linspace(0, length - 1, min(length, count)).astype(int).tolist() if length else []
