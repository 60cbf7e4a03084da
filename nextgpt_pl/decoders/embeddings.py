"""Caption embeddings of a network's decoders: from the feature cache, or from each decoder's own memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from nextgpt_pl.decoders.base import Decoder
from nextgpt_pl.decoders.captions import CaptionEncoder
from nextgpt_pl.features import FeatureCache, Memory, Store
from nextgpt_pl.modality import Modality


class CaptionEmbeddings:
    """Embeds captions for the decoder of a modality; owns the stores of the embeddings.

    Args:
        decoders: per modality.
        cache: where embeddings are kept between runs; ``None``: nowhere.
        memory: size in bytes of a memory for recent captions, without ``cache``; ``None``: each decoder's own.

    """

    def __init__(
        self, decoders: Mapping[Modality, Decoder], cache: FeatureCache | None = None, memory: int | None = None
    ) -> None:
        self._decoders, self._cache, self._memory = decoders, cache, memory
        self._stores: dict[Modality, Store] = {}

    def __call__(self, modality: Modality, captions: Sequence[str]) -> Tensor:
        """``(N, *embedding_shape)`` float32; only captions that are missing from the store are embedded."""
        decoder = self._decoders[modality]
        store = None if decoder.captions is None else self._store(modality, decoder.captions)
        if decoder.captions is None or store is None:
            return decoder.embed_captions(captions)
        return decoder.captions.embed(captions, store)

    def _store(self, modality: Modality, captions: CaptionEncoder) -> Store | None:
        if modality not in self._stores:
            if self._cache is not None:
                self._stores[modality] = captions.store(self._cache)
            elif self._memory is not None:
                self._stores[modality] = Memory(self._memory, evict=True)
        return self._stores.get(modality)

    def unconditional(self, modality: Modality) -> Tensor:
        """The embedding ``embedding_shape`` of the decoder's negative prompt, as its pipeline computes it."""
        decoder = self._decoders[modality]
        prompt = getattr(decoder, "negative_prompt", "")
        if decoder.captions is None:
            return decoder.embed_captions([prompt])[0]
        return decoder.captions.embed_negative(prompt, self._store(modality, decoder.captions))

    def negative_prompt(self, modality: Modality) -> Tensor | None:
        """The embedding of the decoder's negative prompt in the cache.

        ``None``: there is no cache or no such prompt, and the decoder's ``generate`` embeds its default itself.
        """
        decoder = self._decoders[modality]
        kept = self._cache is not None and decoder.captions is not None and hasattr(decoder, "negative_prompt")
        return self.unconditional(modality) if kept else None
