"""The rows of one source and split, and what was counted of them so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO

import numpy as np

from nextgpt_pl.data_stats.distribution import Distribution
from nextgpt_pl.data_stats.media import MEDIUM, PROPERTIES, MediaFacts
from nextgpt_pl.data_stats.rows import CODES, LENGTHS, ROW, USE, RowFacts
from nextgpt_pl.datamodules.kinds import kind_codes
from nextgpt_pl.datamodules.sources import Item, Split
from nextgpt_pl.utils.minhash import HASHES

LISTED = 20  # examples of each finding


@dataclass
class Faults:
    """Number of faults, and the messages of the first ones."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, messages: Sequence[str]) -> None:
        """Count messages."""
        self.count += len(messages)
        self.first += messages[: LISTED - len(self.first)]


class Gathered:
    """Arrays of one dtype, joined when they are asked for."""

    def __init__(self, dtype: np.dtype) -> None:
        self._parts = [np.empty(0, dtype)]

    def add(self, array: np.ndarray) -> None:
        """Append an array."""
        self._parts.append(array)

    def array(self) -> np.ndarray:
        """All of them as one array."""
        if len(self._parts) > 1:
            self._parts = [np.concatenate(self._parts)]
        return self._parts[0]


class Part:
    """Counts of one source and split.

    Args:
        source: name of the source.
        split: ``train`` or ``val``.
        items: its items.
        broken: number of rows of the split that give no item.
        notes: further messages of the source.
        signatures: an empty file for the signatures of the texts.

    Attributes:
        kinds: kind of each item, ``(items,)`` int8.
        read: number of items that were read.
        too_long: how many of them have more tokens than ``data.max_length``.
        unusable: those that the stage cannot render.
        lengths: distributions of :data:`~nextgpt_pl.data_stats.rows.LENGTHS`.
        media_read: number of media that were read.
        unreadable: those that cannot be opened.
        properties: distributions of :data:`~nextgpt_pl.data_stats.media.PROPERTIES`, per modality.

    """

    def __init__(
        self, source: str, split: Split, items: Sequence[Item], broken: int, notes: Sequence[str], signatures: IO[bytes]
    ) -> None:
        self.source, self.split, self.items, self.broken, self.notes = source, split, items, broken, list(notes)
        self.kinds = kind_codes(items)
        self.read, self.too_long, self.media_read = 0, 0, 0
        self.unusable, self.unreadable = Faults(), Faults()
        self.lengths = {name: Distribution() for name in LENGTHS}
        self.properties = {modality: {name: Distribution() for name in PROPERTIES} for modality in CODES}
        self._rows, self._uses, self._media = Gathered(ROW), Gathered(USE), Gathered(MEDIUM)
        self._signatures = signatures

    @property
    def title(self) -> str:
        """Source and split."""
        return f"{self.source}, {self.split}"

    @property
    def rows(self) -> np.ndarray:
        """The rows that the stage can render, ``(n,)`` of :data:`~nextgpt_pl.data_stats.rows.ROW`."""
        return self._rows.array()

    @property
    def uses(self) -> np.ndarray:
        """Their media, ``(m,)`` of :data:`~nextgpt_pl.data_stats.rows.USE`."""
        return self._uses.array()

    @property
    def media(self) -> np.ndarray:
        """The media that were opened, ``(k,)`` of :data:`~nextgpt_pl.data_stats.media.MEDIUM`."""
        return self._media.array()

    @property
    def signatures(self) -> np.ndarray:
        """Signatures of the texts of :attr:`rows`, ``(n, 128)`` uint8, memory-mapped."""
        self._signatures.flush()
        shape = len(self.rows), HASHES
        return np.memmap(self._signatures, np.uint8, "r", shape=shape) if shape[0] else np.empty(shape, np.uint8)

    def add_rows(self, facts: RowFacts, max_length: int) -> None:
        """Add the facts of the next rows; ``max_length`` is the maximum number of tokens."""
        self.read += facts.read
        self.unusable.add(facts.faults)
        for name, values in zip(LENGTHS, facts.lengths.T, strict=True):
            self.lengths[name].add(values)
        self.too_long += int((facts.lengths[:, LENGTHS.index("tokens")] > max_length).sum())
        self._signatures.write(facts.signatures.tobytes())
        self._rows.add(facts.rows)
        self._uses.add(facts.uses)

    def add_media(self, facts: MediaFacts) -> None:
        """Add the facts of the next media of :attr:`uses`."""
        self.media_read += facts.read
        self.unreadable.add(facts.faults)
        codes = self.uses["modality"][facts.media["use"]]
        for modality, code in CODES.items():
            for name, distribution in self.properties[modality].items():
                values = facts.media[name][codes == code]
                distribution.add(values[np.isfinite(values)])
        self._media.add(facts.media)
