"""Baseline: retrieval of the training medium with the nearest caption embedding, instead of generation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nextgpt_pl.decoders.around import DecoderAround
from nextgpt_pl.decoders.base import Decoder, Made, OnStep
from nextgpt_pl.errors import UserError
from nextgpt_pl.media.reading import array_of
from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import CaptionedPair, ItemSource, Origin


class GalleryDecoder(DecoderAround):
    """Returns the medium whose caption embedding has the smallest squared distance.

    Captions are embedded by another decoder's text encoder; its diffusion network is never loaded. Seed, guidance and
    negative prompts have no effect.

    Args:
        decoder: decoder of the text encoder; adapters trained with this decoder fit the gallery too.
        modality: modality of the gallery.
        source: source of the gallery's training items; items of other modalities or without medium are left out.

    """

    def __init__(self, decoder: Decoder, modality: str, source: ItemSource) -> None:
        super().__init__(decoder)
        self.modality, self.source = Modality(modality), source
        self._items: list[CaptionedPair] = []
        self._embeddings = torch.empty(0)

    def parameter_counts(self) -> dict[str, int]:
        """Parameters of the text encoder only."""
        return self.text_parameter_counts()

    def nearest(self, embeddings: Tensor) -> list[tuple[CaptionedPair, float]]:
        """The gallery's item for each of ``embeddings (N, *embedding_shape)``, and its squared distance.

        Raises:
            UserError: the source has no medium of this modality.

        """
        if not self._items:
            self._read()
        queries = embeddings.detach().float().cpu().flatten(1)
        # the norm of a query is the same for all items
        distances = self._embeddings.square().sum(1) - 2 * queries @ self._embeddings.T
        nearest = distances.argmin(1)
        exact = (self._embeddings[nearest] - queries).square().sum(1)
        return [(self._items[i], distance) for i, distance in zip(nearest.tolist(), exact.tolist(), strict=True)]

    def _read(self) -> None:
        pairs = self.source.read("train")
        items = [p for p in pairs if isinstance(p, CaptionedPair) and p.modality is self.modality and p.media]
        if not items:
            raise UserError(f"GalleryDecoder: its source {type(self.source).__name__} has no {self.modality}")
        self._embeddings = self.embed_captions([p.caption for p in items]).cpu().flatten(1)
        self._items = items

    def make(
        self,
        embeddings: Tensor,
        *,
        seed: int | Sequence[int],
        negative: Tensor | None = None,
        on_step: OnStep | None = None,
        **sampling: Any,
    ) -> list[Made]:
        """The media of the nearest items."""
        self.check_sampling(sampling)
        media = []
        for item, distance in self.nearest(embeddings):
            assert item.media is not None
            media.append(Made(array_of(item.media)[0], Origin("retrieved", distance, item.key, item.caption)))
        return media
