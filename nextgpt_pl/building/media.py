"""Media for captions: retrieved from captioned sources, or drawn by a decoder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nextgpt_pl.building.checks import MediaCheck
from nextgpt_pl.building.kept_embeddings import caption_embeddings
from nextgpt_pl.building.plans import seed_of
from nextgpt_pl.decoders.base import Decoder, constant
from nextgpt_pl.errors import UserError, at_least
from nextgpt_pl.media.reading import array_of
from nextgpt_pl.metrics.extractors import Extractor, device_of
from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import CaptionedPair, ItemSource, Media


@dataclass(frozen=True)
class Wanted:
    """A medium that a dialogue needs.

    Attributes:
        modality: its modality.
        caption: its content in words.
        seed: seed of what is random in it.

    """

    modality: Modality
    caption: str
    seed: int


@dataclass(frozen=True)
class Found:
    """A medium for a caption.

    Attributes:
        medium: the medium.
        caption: its own caption: that of the retrieved item, or the one that was drawn.
        origin: how it was found.
        tries: number of media that were looked at or drawn for it.

    """

    medium: Media
    caption: str
    origin: Literal["retrieved", "drawn"]
    tries: int


class MediaSource(ABC):
    """Finds media for captions."""

    @abstractmethod
    def find(self, wanted: Sequence[Wanted]) -> list[Found | None]:
        """A medium for each of N captions of one modality; ``None`` where there is no good one."""


def find_all(sources: Mapping[Modality, Sequence[MediaSource]], wanted: Sequence[Wanted]) -> list[Found | None]:
    """A medium for each caption: from the first source of its modality that has one; ``None`` if none has."""
    found: list[Found | None] = [None] * len(wanted)
    for modality, of_modality in sources.items():
        for source in of_modality:
            missing = [i for i, w in enumerate(wanted) if w.modality is modality and found[i] is None]
            if missing:
                for index, result in zip(missing, source.find([wanted[i] for i in missing]), strict=True):
                    found[index] = result
    return found


class Retrieve(MediaSource):
    """Retrieves the item with the most similar caption.

    The captions of all items are embedded at the first use. Their embeddings are kept on disk. In memory they take 2
    bytes per number.

    Args:
        sources: sources of captioned pairs; their training split is used.
        extractor: embeds captions; similarities are cosines.
        threshold: lowest similarity of the captions.
        candidates: highest number of items that are looked at per caption, the most similar first.
        check: check of an item's medium against the wanted caption.
        embeddings: folder in which the captions' embeddings are kept.

    """

    def __init__(
        self,
        sources: list[ItemSource],
        extractor: Extractor,
        threshold: float,
        candidates: int = 4,
        check: MediaCheck | None = None,
        embeddings: Path = Path("outputs/caption_embeddings"),
    ) -> None:
        if not sources:
            raise UserError("Retrieve.sources: at least one is expected")
        if not -1 <= threshold <= 1:
            raise UserError(f"Retrieve.threshold={threshold}: a cosine between -1 and 1 is expected")
        at_least(1, Retrieve__candidates=candidates)
        self.sources, self.extractor, self.threshold = sources, extractor, threshold
        self.candidates, self.check, self.embeddings = candidates, check, embeddings
        self._indexes: dict[Modality, tuple[list[CaptionedPair], Tensor]] = {}

    def find(self, wanted: Sequence[Wanted]) -> list[Found | None]:
        """See :class:`MediaSource`.

        Raises:
            UserError: the sources have no media of this modality.

        """
        items, embeddings = self._index(wanted[0].modality)
        queries = F.normalize(self.extractor.captions([w.caption for w in wanted]).float(), dim=1)
        similarities = queries @ embeddings.float().T
        best = similarities.topk(min(self.candidates, len(items)), dim=1)
        return [
            self._first(w, [items[i] for i, s in zip(*row, strict=True) if s >= self.threshold])
            for w, row in zip(wanted, zip(best.indices.tolist(), best.values.tolist(), strict=True), strict=True)
        ]

    def _first(self, wanted: Wanted, candidates: Sequence[CaptionedPair]) -> Found | None:
        for tries, item in enumerate(candidates, start=1):
            assert item.media is not None
            try:
                array_of(item.media)
            except UserError:  # an item that cannot be read is no candidate
                continue
            if self.check is None or self.check.accepts([item.media], [wanted.caption])[0]:
                return Found(item.media, item.caption, "retrieved", tries)
        return None

    def _index(self, modality: Modality) -> tuple[list[CaptionedPair], Tensor]:
        if modality not in self._indexes:
            pairs = [pair for source in self.sources for pair in source.read("train")]
            items = [p for p in pairs if isinstance(p, CaptionedPair) and p.modality is modality and p.media]
            if not items:
                raise UserError(f"media.{modality}: the sources of Retrieve have no {modality} with a caption")
            captions = [pair.caption for pair in items]
            self._indexes[modality] = items, caption_embeddings(captions, self.extractor, self.embeddings)
        return self._indexes[modality]


class Draw(MediaSource):
    """Draws media by a decoder from the embedding of its own text encoder; a refused medium is drawn again.

    Args:
        decoder: the decoder.
        check: check of a medium against its caption; without one, only constant media (black, silent) are refused.
        tries: highest number of media that are drawn per caption.
        device: device of the decoder; by default a GPU if there is one.

    """

    def __init__(
        self, decoder: Decoder, check: MediaCheck | None = None, tries: int = 4, device: str | None = None
    ) -> None:
        if not decoder.can_generate:
            raise UserError(f"Draw.decoder: {type(decoder).__name__} cannot generate")
        at_least(1, Draw__tries=tries)
        self.decoder, self.check, self.tries = decoder, check, tries
        self.device = device_of(device)

    @torch.no_grad()
    def find(self, wanted: Sequence[Wanted]) -> list[Found | None]:
        """See :class:`MediaSource`."""
        self.decoder.to(self.device)
        embeddings = self.decoder.embed_captions([w.caption for w in wanted])
        found: list[Found | None] = [None] * len(wanted)
        for number in range(1, self.tries + 1):
            missing = [i for i, result in enumerate(found) if result is None]
            if not missing:
                break
            seeds = [seed_of(wanted[i].seed, number) for i in missing]
            arrays = self.decoder.generate(embeddings[missing], seed=seeds)
            varied = [(i, a) for i, a in zip(missing, arrays, strict=True) if not constant(a)]
            drawn = {index: self._medium(array, wanted[index].modality) for index, array in varied}
            for index, fits in zip(drawn, self._fit(drawn, wanted), strict=True):
                if fits:
                    found[index] = Found(drawn[index], wanted[index].caption, "drawn", number)
        return found

    def _medium(self, array: np.ndarray, modality: Modality) -> Media:
        rate = self.decoder.rate
        sample_rate = int(rate) if rate and modality.form is Modality.AUDIO else None
        return Media(modality, lambda: array, sample_rate, rate if modality is Modality.VIDEO else None)

    def _fit(self, drawn: Mapping[int, Media], wanted: Sequence[Wanted]) -> list[bool]:
        """Whether each medium fits the caption with its index."""
        if self.check is None or not drawn:
            return [True] * len(drawn)
        return self.check.accepts(list(drawn.values()), [wanted[index].caption for index in drawn])
