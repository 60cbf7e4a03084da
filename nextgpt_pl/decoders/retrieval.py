"""Retrieval beside generation: the nearest medium of a gallery, or a generated one where nothing is near."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nextgpt_pl.decoders.around import DecoderAround
from nextgpt_pl.decoders.base import Decoder, Made, OnStep, item_seeds
from nextgpt_pl.decoders.captions import CaptionEncoder
from nextgpt_pl.errors import UserError, at_least
from nextgpt_pl.features import Preparation
from nextgpt_pl.modality import Modality
from nextgpt_pl.retrieval import Gallery, Retrieved, Retriever
from nextgpt_pl.samples import Media, Origin

log = logging.getLogger(__name__)


class RetrievalDecoder(DecoderAround):
    """Answers with the medium of a gallery whose caption embedding is nearest, or generates where none is near.

    Distances are squared Euclidean distances of caption embeddings, divided by the mean squared distance of the
    gallery's captions to their mean. ``data index-gallery`` makes the gallery, and prints the distances of held-out
    captions. Each choice is logged at the level ``INFO``, and is the ``origin`` of the reply's part. Seeds choose among
    items of equal distance; the other arguments of :meth:`generate` apply to generated media only.

    Args:
        decoder: embeds captions, and generates where nothing is near; adapters trained with it fit this decoder too.
        modality: modality of the media.
        gallery: folder of the gallery.
        threshold: highest distance at which the medium of the gallery is taken; ``None``: nothing is generated.
        candidates: number of items that the index proposes per request, and that are compared exactly.
        probes: number of the index's lists that are searched.

    Attributes:
        counts: number of media that were ``retrieved`` and ``generated``, and of ``unreadable`` ones of the gallery.

    """

    def __init__(
        self,
        decoder: Decoder,
        modality: str,
        gallery: Path,
        threshold: float | None = None,
        candidates: int = 16,
        probes: int = 32,
    ) -> None:
        try:
            self.modality = Modality(modality)
        except ValueError as error:
            raise UserError(f"RetrievalDecoder.modality={modality!r}: {error}") from error
        at_least(0, RetrievalDecoder__threshold=threshold)
        at_least(1, RetrievalDecoder__candidates=candidates, RetrievalDecoder__probes=probes)
        name, captions = type(decoder).__name__, decoder.captions
        if captions is None:
            raise UserError(f"RetrievalDecoder.decoder: {name} has no text encoder that embeds a gallery's captions")
        if threshold is not None and not decoder.can_generate:
            raise UserError(f"RetrievalDecoder.threshold={threshold}: {name} cannot generate; null is expected")
        super().__init__(decoder)
        self.folder, self.threshold = Path(gallery), threshold
        self.candidates, self.probes = candidates, probes
        self._captions = captions
        self.counts = Counter[str]()
        self._retriever: Retriever | None = None

    @property
    def captions(self) -> CaptionEncoder:
        """That of the generating decoder."""
        return self._captions

    @property
    def negative_prompt(self) -> str:
        """That of the generating decoder."""
        return getattr(self.decoder, "negative_prompt", "")

    def parameter_counts(self) -> dict[str, int]:
        """Those of the generating decoder; without a threshold, of its text encoder only."""
        return self.text_parameter_counts() if self.threshold is None else self.decoder.parameter_counts()

    def preparation(self) -> Preparation:
        """That of the generating decoder, whose network the denoising loss trains through."""
        return self.decoder.preparation()

    def latents(self, media: Sequence[Media], inputs: Sequence[Tensor | None] = ()) -> Tensor:
        """Those of the generating decoder."""
        return self.decoder.latents(media, inputs)

    def denoising_loss(
        self, embeddings: Tensor, latents: Tensor, *, gamma: float, generator: torch.Generator
    ) -> Tensor:
        """That of the generating decoder."""
        return self.decoder.denoising_loss(embeddings, latents, gamma=gamma, generator=generator)

    @property
    def retriever(self) -> Retriever:
        """The opened gallery; it is opened once.

        Raises:
            UserError: it is missing, damaged, or of another modality or text encoder.

        """
        if self._retriever is None:
            gallery = Gallery.open(self.folder, self.modality, self.captions.producer(), self.probes)
            self._retriever = Retriever(gallery, self.embed_captions, self.threshold, self.candidates, self.rate)
        return self._retriever

    @torch.no_grad()
    def retrieve(self, embeddings: Tensor, seeds: Sequence[int]) -> list[Retrieved]:
        """What the gallery has for each of ``embeddings (N, *embedding_shape)``, in their order.

        Items whose media are missing or damaged are left out.

        Raises:
            UserError: an embedding is not finite, the gallery cannot be opened, or without a threshold none of an
                embedding's candidates can be read.

        """
        flat = embeddings.detach().float().cpu().flatten(1)
        return [self.retriever(embedding, seed) for embedding, seed in zip(flat, seeds, strict=True)]

    def make(
        self,
        embeddings: Tensor,
        *,
        seed: int | Sequence[int],
        negative: Tensor | None = None,
        on_step: OnStep | None = None,
        **sampling: Any,
    ) -> list[Made]:
        """The media of the nearest items, and generated ones where none is near, in the order of ``embeddings``.

        An item's result does not depend on the batch. ``on_step`` is called while media are generated.
        """
        self.check_sampling(sampling)
        seeds = item_seeds(seed, len(embeddings))
        found = self.retrieve(embeddings, seeds)
        origins = [_origin(each) for each in found]
        for each, origin in zip(found, origins, strict=True):
            kind = origin.kind
            self.counts.update({kind: 1, "unreadable": each.unreadable})
            log.info("%s %s: distance %.4g, caption %r, %s", self.modality, kind, each.distance, each.caption, each.key)
        far = [i for i, each in enumerate(found) if each.array is None]
        drawn: list[np.ndarray] = []
        if far:
            drawn = self.decoder.generate(
                embeddings[far], seed=[seeds[i] for i in far], negative=negative, on_step=on_step, **sampling
            )
        arrays = iter(drawn)
        media = [each.array if each.array is not None else next(arrays) for each in found]
        return [Made(array, origin) for array, origin in zip(media, origins, strict=True)]


def _origin(found: Retrieved) -> Origin:
    distance = found.distance if math.isfinite(found.distance) else None
    return Origin("generated" if found.array is None else "retrieved", distance, found.key, found.caption)
