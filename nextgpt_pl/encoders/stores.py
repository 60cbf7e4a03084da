"""The stores of an encoder's features: in a feature cache, one per modality, or in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from nextgpt_pl.features import FeatureCache, FeatureStore, Memory
from nextgpt_pl.features.keys import media_key, media_name
from nextgpt_pl.media.reading import VERSION as READING_VERSION
from nextgpt_pl.modality import Modality
from nextgpt_pl.utils.precision import compute_dtype

_MEMORY_BYTES = 512 * 2**20


class EncoderStores:
    """Opens each store when it is first needed, since its key hashes all weights.

    Args:
        cache: where the stores are.
        sources: per modality that the encoder reads, where its weights are from, as the YAML says it.
        producer: of a modality, all that features depend on but for the medium.

    """

    def __init__(
        self,
        cache: FeatureCache,
        sources: Mapping[Modality, str],
        producer: Callable[[Modality], dict[str, Any]],
    ) -> None:
        self.key = media_key
        self._cache, self._sources, self._producer = cache, sources, producer
        self._opened: dict[Modality, FeatureStore] = {}

    def open(self) -> None:
        """Open the stores of all modalities; forked workers need them for :meth:`opened`."""
        for modality in self._sources:
            self[modality]

    def opened(self, modality: Modality) -> FeatureStore | None:
        """The modality's store, if it is open."""
        return self._opened.get(modality)

    def __getitem__(self, modality: Modality) -> FeatureStore:
        if modality not in self._opened:
            around = {"reading": READING_VERSION, "compute_dtype": compute_dtype(torch.float32)}
            producer = {**self._producer(modality), **around}
            self._opened[modality] = self._cache.store(f"encoder-{modality}", self._sources[modality], producer)
        return self._opened[modality]


class MemoryStores:
    """One store in memory for all modalities; otherwise as :class:`EncoderStores`.

    Args:
        max_bytes: size of the memory, which keeps the features of recent media; by default 512 MiB for those of the
            first media.

    """

    def __init__(self, max_bytes: int | None = None) -> None:
        self.key = media_name
        self.memory = Memory(_MEMORY_BYTES) if max_bytes is None else Memory(max_bytes, evict=True)

    def open(self) -> None:
        """Let data-loader workers know what the store holds."""
        self.memory.share()

    def opened(self, _modality: Modality) -> Memory:
        """The store."""
        return self.memory

    __getitem__ = opened
