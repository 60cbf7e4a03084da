"""Kinds of items: what data modules group and weight them by, as small numbers."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from nextgpt_pl.modality import MODALITIES
from nextgpt_pl.samples import CaptionedPair, Dialogue, MediaPart

TEXT = "text"


class Kind(NamedTuple):
    """A kind of item.

    Attributes:
        pair: whether it is a captioned pair; else it is a dialogue.
        medium: the pair's modality, or the modality of a dialogue's first reply with media, or ``text``.

    """

    pair: bool
    medium: str


#: all kinds; an item's code is its kind's position
KINDS = (*(Kind(True, m.value) for m in MODALITIES), *(Kind(False, name) for name in (TEXT, *map(str, MODALITIES))))
_CODES = {kind: code for code, kind in enumerate(KINDS)}
#: code of a pair's kind
PAIR_CODES = {m: _CODES[Kind(True, m.value)] for m in MODALITIES}
_DIALOGUE_CODES = {m: _CODES[Kind(False, m.value)] for m in MODALITIES}


def kind_code(item: CaptionedPair | Dialogue) -> int:
    """The code of an item's kind."""
    if isinstance(item, CaptionedPair):
        return PAIR_CODES[item.modality]
    for message in item.messages:
        if message.role == "assistant":
            for part in message.parts:
                if isinstance(part, MediaPart):
                    return _DIALOGUE_CODES[part.modality]
    return _CODES[Kind(False, TEXT)]


def kind_codes(items: Sequence[CaptionedPair | Dialogue]) -> np.ndarray:
    """Code of each item, ``(n,)`` int8; those of indexed items are known."""
    known = getattr(items, "kinds", None)
    return known if known is not None else np.fromiter((kind_code(i) for i in items), np.int8, len(items))


@dataclass(frozen=True)
class Groups:
    """The sampling group of each item.

    Attributes:
        codes: position of each item's group in ``names``, ``(n,)`` int32.
        names: the groups.

    """

    codes: np.ndarray
    names: Sequence[Hashable]

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, index: int) -> Hashable:
        return self.names[self.codes[index]]

    def sizes(self) -> dict[Hashable, int]:
        """Number of items of each group, in the order of first occurrence; groups without items are left out."""
        counts = np.bincount(self.codes, minlength=len(self.names))
        return {name: int(n) for name, n in zip(self.names, counts, strict=True) if n}

    def members(self, index: int) -> np.ndarray:
        """Positions of the items of an item's group."""
        return np.flatnonzero(self.codes == self.codes[index])

    def interleaved(self) -> np.ndarray:
        """Positions of all items, ``(n,)`` int64: one of each group in turn, in the order in which groups occur."""
        by_group = np.argsort(self.codes, kind="stable")
        sizes = np.bincount(self.codes, minlength=len(self.names))
        turn = np.empty(len(self), np.int64)
        turn[by_group] = np.arange(len(self)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return np.lexsort((self.codes, turn))
