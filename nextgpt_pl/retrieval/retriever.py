"""The medium of a gallery that answers a request, if one is near enough and can be read."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nextgpt_pl.errors import UserError
from nextgpt_pl.media.audio import resample
from nextgpt_pl.media.reading import array_of
from nextgpt_pl.media.timeline import at_rate
from nextgpt_pl.modality import Modality
from nextgpt_pl.retrieval.compact import Embed
from nextgpt_pl.retrieval.gallery import Gallery

log = logging.getLogger(__name__)

_SAME = 1e-6  # difference of relative squared distances that rounding makes


@dataclass(frozen=True)
class Retrieved:
    """What a gallery has for one request.

    Attributes:
        distance: relative squared distance of the nearest item that can be read; infinite if there is none.
        key: key of the chosen item; ``None`` if none is near enough.
        caption: its caption.
        array: its medium.
        unreadable: number of nearer items whose media are missing or damaged.

    """

    distance: float
    key: str | None = None
    caption: str | None = None
    array: np.ndarray | None = None
    unreadable: int = 0


class Retriever:
    """Answers requests from a gallery.

    Args:
        gallery: the gallery.
        embed: embeds captions by its text encoder.
        threshold: highest distance at which a medium is taken; ``None``: any.
        candidates: number of items that are compared with a request.
        rate: frames per second or sample rate of the answers; ``None``: that of the gallery's files.

    """

    def __init__(
        self, gallery: Gallery, embed: Embed, threshold: float | None, candidates: int, rate: float | None
    ) -> None:
        self.gallery, self.threshold, self.candidates = gallery, threshold, candidates
        self._embed, self._rate = embed, rate

    def __call__(self, embedding: Tensor, seed: int) -> Retrieved:
        """The nearest medium of an embedding ``(F,)`` float32 on the CPU; ``seed`` chooses between equal distances.

        Raises:
            UserError: the embedding is not finite, or without a threshold no candidate can be read.

        """
        neighbours, unreadable = self.gallery.nearest(embedding, self.candidates, self._embed), 0
        while neighbours:
            distance = neighbours[0].distance
            if self.threshold is not None and distance > self.threshold:
                return Retrieved(distance, unreadable=unreadable)
            equal = [n for n in neighbours if n.distance <= distance + _SAME]
            chosen = equal[seed % len(equal)]
            try:
                array = self._converted(*array_of(self.gallery.medium(chosen.record)))
                return Retrieved(distance, chosen.record.key, chosen.record.caption, array, unreadable)
            except UserError as error:
                log.warning("%s of the gallery left out: %s", self.gallery.modality, error)
                neighbours.remove(chosen)
                unreadable += 1
        if self.threshold is None:
            where, count = self.gallery.folder, unreadable
            raise UserError(f"gallery {where}: none of the {count} nearest media can be read; data index-gallery again")
        return Retrieved(math.inf, unreadable=unreadable)

    def _converted(self, array: np.ndarray, rate: float | None) -> np.ndarray:
        """A medium at the rate of the answers."""
        if not rate or not self._rate or rate == self._rate:
            return array
        if self.gallery.modality is Modality.AUDIO:
            return resample(torch.from_numpy(array), int(rate), int(self._rate)).numpy()
        return at_rate(array, rate, self._rate)
