"""What the rest of the framework asks of a frozen encoder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nextgpt_pl.distributed import largest
from nextgpt_pl.errors import UserError
from nextgpt_pl.features import FeatureCache, Memory, Store
from nextgpt_pl.features.keys import media_key, media_name
from nextgpt_pl.features.store import in_chunks
from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.precision import compute_dtype, own_precision
from nextgpt_pl.samples import Media, MediaSlot
from nextgpt_pl.transfer import upload

_MEMORY_BYTES = 512 * 2**20
_CHUNK = 4  # media that are encoded at a time


def known_modalities(names: Sequence[str] | None, known: Sequence[Modality]) -> tuple[Modality, ...]:
    """What an encoder is asked to read; by default image, video and audio.

    Raises:
        UserError: one of them is none that it knows.

    """
    wanted = names or [m.value for m in GENERATED]
    unknown = set(wanted) - {m.value for m in known}
    if unknown:
        raise UserError(f"encoder.modalities: {sorted(unknown)} unknown; known: {[m.value for m in known]}")
    return tuple(Modality(name) for name in wanted)


class Encoder(nn.Module, ABC):
    """Turns media into features. The constructor is instant; :meth:`load` reads weights.

    Attributes:
        modalities: what it reads.
        in_step: its weights are sharded: every process must run it as often as the others.

    """

    modalities: tuple[Modality, ...]
    in_step = False

    def __init__(self) -> None:
        super().__init__()
        self.cache: FeatureCache | None = None
        self._memory = Memory(_MEMORY_BYTES)
        self._stores: dict[Modality, Store] = {}

    @property
    @abstractmethod
    def output_dim(self) -> int:
        """Width of a feature."""

    def tokens(self, modality: Modality) -> int:
        """E, features per medium."""
        return 1

    @property
    @abstractmethod
    def source(self) -> str:
        """Where its weights are from, as the YAML says it."""

    @property
    @abstractmethod
    def loaded(self) -> bool:
        """Whether :meth:`load` has run."""

    @abstractmethod
    def producer(self, modality: Modality) -> dict[str, Any]:
        """All that features depend on but for their medium, as plain data: weights and preprocessing."""

    @abstractmethod
    def load(self) -> None:
        """Build the network, read its weights (not under the meta device) and freeze it."""

    def blocks(self) -> list[nn.Module]:
        """Its repeated parts, for sharding."""
        return []

    @abstractmethod
    def blank(self, modality: Modality) -> Tensor:
        """Something that :meth:`prepare` could have given, ``(1, ...)``, for a process that has nothing to encode."""

    @abstractmethod
    def prepare(self, media: Media) -> Tensor:
        """One medium as the network's input; light, for data-loader workers."""

    @abstractmethod
    def forward(self, modality: Modality, inputs: Tensor) -> Tensor:
        """Prepared media ``(N, ...)`` to features ``(N, E, output_dim)``."""

    def open_stores(self) -> None:
        """Open the cache's stores, so that processes forked from here on know what is there (:meth:`keeps`)."""
        if self.cache is not None:
            for modality in self.modalities:
                self._store(modality)

    def keeps(self, media: Media) -> bool:
        """Whether the medium's feature is known to be kept; never opens a store, which reads all weights for its key.

        Raises:
            UserError: its file is missing.

        """
        if self.cache is not None and media.modality not in self._stores:
            return False
        store, key = self._store(media.modality)
        store.look_again()  # a worker lives for many epochs, in which its parent fills the cache
        return key(media) in store

    @torch.no_grad()
    @own_precision()
    def features(
        self,
        modality: Modality,
        media: Sequence[Media],
        device: torch.device | str,
        inputs: Sequence[Tensor | None] | None = None,
    ) -> Tensor:
        """Features of media, ``(N, E, output_dim)`` float32, computed outside of autocast.

        The encoder is frozen, so what it gave once is remembered: in the cache, or without one in memory.

        Args:
            modality: of the media.
            media: N of them.
            device: where features are computed and returned.
            inputs: per medium what :meth:`prepare` has given already; ``None`` where it has not.

        """
        given = inputs or [None] * len(media)
        store, key = self._store(modality)
        keys = [key(m) for m in media]
        chunks = -(-len(store.missing(keys)) // _CHUNK)
        # agreed on before anything is encoded: with sharded weights encoding is communication
        together = largest(chunks, device) if self.in_step else chunks

        def make(positions: list[int]) -> Tensor:
            some = [(media[i], given[i]) for i in positions]
            return in_chunks(some, _CHUNK, lambda chunk: self._encode(modality, chunk, device))

        found = store.fetch(keys, make)
        for _ in range(together - chunks):
            self(modality, self.blank(modality).expand(_CHUNK, *[-1] * (self.blank(modality).ndim - 1)).to(device))
        if not media:
            return torch.empty(0, self.tokens(modality), self.output_dim, device=device)
        return upload(torch.stack(found), device)

    def slot_features(self, modality: Modality, slots: Sequence[MediaSlot], device: torch.device | str) -> Tensor:
        """:meth:`features` of the media in slots, of which data-loader workers may have prepared some."""
        return self.features(modality, [s.media for s in slots], device, [s.inputs for s in slots])

    def _encode(
        self, modality: Modality, media: Sequence[tuple[Media, Tensor | None]], device: torch.device | str
    ) -> Tensor:
        if not self.loaded:
            # a module's random initial weights are not the training's business
            with torch.random.fork_rng([]):
                self.load()
            self.to(device)
        prepared = torch.stack([self.prepare(m) if given is None else given for m, given in media])
        return self(modality, upload(prepared, device))

    def _store(self, modality: Modality) -> tuple[Store, Callable[[Media], Hashable]]:
        if self.cache is None:
            return self._memory, media_name
        if modality not in self._stores:
            producer = {**self.producer(modality), "compute_dtype": compute_dtype(torch.float32)}
            self._stores[modality] = self.cache.store(f"encoder-{modality}", self.source, producer)
        return self._stores[modality], media_key

    def remember(self, max_bytes: int) -> None:
        """Without a cache: remember the features of the media that were shown last, in so many bytes."""
        self._memory = Memory(max_bytes, evict=True)

    def train(self, mode: bool = True) -> Encoder:
        """Frozen: stays in evaluation mode, or drop path would make its features noisy."""
        return super().train(False)
