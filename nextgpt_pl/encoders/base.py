"""Interface of frozen encoders."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nextgpt_pl.encoders.stores import EncoderStores, MemoryStores
from nextgpt_pl.errors import UserError
from nextgpt_pl.features import FeatureCache
from nextgpt_pl.features.store import complete, in_fixed_batches
from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.samples import Media
from nextgpt_pl.utils.distributed import all_reduce_max
from nextgpt_pl.utils.precision import own_precision
from nextgpt_pl.utils.transfer import upload

MEDIA_PER_PASS = 4


def known_modalities(names: Sequence[str] | None, known: Sequence[Modality]) -> tuple[Modality, ...]:
    """The configured modalities of an encoder; by default image, video and audio.

    Raises:
        UserError: the encoder does not support a modality.

    """
    requested = names or [m.value for m in GENERATED]
    unknown = set(requested) - {m.value for m in known}
    if unknown:
        raise UserError(f"encoder.modalities: {sorted(unknown)} unknown; known: {[m.value for m in known]}")
    return tuple(Modality(name) for name in requested)


class EncoderInput(NamedTuple):
    """One medium.

    Attributes:
        media: the medium.
        inputs: the output of the encoder's ``prepare``, if a data-loader worker has already read the medium.
        key: the key of its features in the stores, if a worker has already hashed it.

    """

    media: Media
    inputs: Tensor | None = None
    key: bytes | None = None


class Encoder(nn.Module, ABC):
    """Computes features of media. The constructor is instant; :meth:`load` reads weights.

    Attributes:
        modalities: supported modalities.
        collective: whether its weights are sharded, so that all ranks must run the same number of forward passes.

    """

    modalities: tuple[Modality, ...]
    collective = False

    @abstractmethod
    def width(self, modality: Modality) -> int:
        """C, width of a modality's features."""

    def tokens(self, modality: Modality) -> int:
        """E, features per medium."""
        return 1

    @property
    @abstractmethod
    def source(self) -> str:
        """The configured source of its weights."""

    @property
    @abstractmethod
    def loaded(self) -> bool:
        """Whether :meth:`load` has run."""

    @abstractmethod
    def producer(self, modality: Modality) -> dict[str, Any]:
        """Description of what features depend on besides their medium, as plain data: weights and preprocessing."""

    @abstractmethod
    def load(self) -> None:
        """Build the network, read its weights (not under the meta device) and freeze it."""

    def load_for(self, _modality: Modality, device: torch.device | str) -> None:
        """Load what the features of a modality need, if it is not loaded, and move it to a device."""
        if not self.loaded:
            # random initialisation must not change the random numbers of training
            with torch.random.fork_rng([]):
                self.load()
            self.to(device)

    def parameter_counts(self) -> dict[str, int]:
        """Parameters of the loaded encoder, part by part."""
        return {"encoder": sum(p.numel() for p in self.parameters())}

    def blocks(self) -> list[nn.Module]:
        """Its repeated parts, for sharding."""
        return []

    def prepare_for_sharding(self) -> None:
        """Agree with the other ranks before each encoding; an encoder that is not loaded is not sharded."""
        self.collective = self.loaded

    @abstractmethod
    def blank(self, modality: Modality) -> Tensor:
        """A valid input ``(1, ...)`` as from :meth:`prepare`, for a rank without media in a collective pass."""

    @abstractmethod
    def prepare(self, media: Media) -> Tensor:
        """One medium as the network's input; light, for data-loader workers."""

    def together(self, modality: Modality, inputs: Sequence[Tensor]) -> Tensor:
        """N prepared media as one input ``(N, ...)``; encoders of inputs of several sizes pad them here."""
        return torch.stack(list(inputs))

    @abstractmethod
    def forward(self, modality: Modality, inputs: Tensor) -> Tensor:
        """Prepared media ``(N, ...)`` to features ``(N, E, C)``."""

    def features(
        self,
        modality: Modality,
        media: Sequence[Media],
        device: torch.device | str,
        stores: EncoderStores | MemoryStores | None = None,
    ) -> Tensor:
        """Features of media of one modality, ``(N, E, C)``; see :meth:`encode`."""
        return self.encode({modality: [EncoderInput(m) for m in media]}, device, stores)[modality]

    @torch.no_grad()
    @own_precision()
    def encode(
        self,
        media: Mapping[Modality, Sequence[EncoderInput]],
        device: torch.device | str,
        stores: EncoderStores | MemoryStores | None = None,
    ) -> dict[Modality, Tensor]:
        """Features ``(N, E, C)`` float32 per modality, computed outside of autocast.

        The encoder is frozen, so features are reused. With sharded weights there is one all-reduce, and on a GPU one
        host synchronisation, whatever the number of modalities.

        Args:
            media: per modality N media.
            device: device on which features are computed and returned.
            stores: where features are kept; ``None``: nowhere.

        """
        stores = MemoryStores() if stores is None else stores
        lookups = [stores[m].look_up([i.key or stores.key(i.media) for i in inputs]) for m, inputs in media.items()]
        passes = [-(-len(lookup.missing) // MEDIA_PER_PASS) for lookup in lookups]
        # all ranks must agree before encoding: with sharded weights the forward pass has collectives
        max_passes = all_reduce_max(passes, device) if self.collective else passes
        computed: list[Tensor | None] = []
        for (modality, entries), lookup, own, of_all in zip(media.items(), lookups, passes, max_passes, strict=True):
            missing = [entries[i] for i in lookup.missing]
            encode = partial(self._encode, modality, device)
            computed.append(in_fixed_batches(missing, MEDIA_PER_PASS, encode) if missing else None)
            for _ in range(of_all - own):
                blank = self.blank(modality)
                self(modality, blank.expand(MEDIA_PER_PASS, *[-1] * (blank.ndim - 1)).to(device))
        features = zip(media, complete(lookups, computed), strict=True)
        return {m: upload(torch.stack(v), device) if v else self._empty(m, device) for m, v in features}

    def _empty(self, modality: Modality, device: torch.device | str) -> Tensor:
        return torch.empty(0, self.tokens(modality), self.width(modality), device=device)

    def _encode(self, modality: Modality, device: torch.device | str, media: Sequence[EncoderInput]) -> Tensor:
        self.load_for(modality, device)
        # uploaded one by one: those that a data loader has pinned are copied without waiting
        prepared = [upload(self.prepare(i.media) if i.inputs is None else i.inputs, device) for i in media]
        return self(modality, self.together(modality, prepared))

    def stores(self, cache: FeatureCache) -> EncoderStores:
        """The stores of this encoder's features in a cache."""
        return EncoderStores(cache, dict.fromkeys(self.modalities, self.source), self.producer)

    def train(self, mode: bool = True) -> Encoder:
        """Stay in evaluation mode: the encoder is frozen, and stochastic depth would make features random."""
        return super().train(False)
