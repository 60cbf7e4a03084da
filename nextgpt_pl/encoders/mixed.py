"""Several encoders as one: each modality has an encoder of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nextgpt_pl.encoders.base import Encoder
from nextgpt_pl.encoders.stores import EncoderStores
from nextgpt_pl.errors import UserError
from nextgpt_pl.features import FeatureCache
from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import Media


class MixedEncoder(Encoder):
    """Delegates each modality to one of several encoders, whose widths and numbers of features may differ.

    Each modality has an input projection of its width, so ``network.share_input_projection`` needs equal widths.
    Cached features are those of the encoders themselves: they stay valid if an encoder joins or leaves the mix.

    Args:
        encoders: by any names; together their ``modalities`` are those of the mix.

    """

    def __init__(self, encoders: dict[str, Encoder]) -> None:
        super().__init__()
        if not encoders:
            raise UserError("encoder.encoders={}: at least one encoder is expected")
        owners: dict[Modality, str] = {}
        for name, encoder in encoders.items():
            if not name.isidentifier():
                raise UserError(f"encoder.encoders: {name!r} is no name: letters, digits and _ are expected")
            for modality in encoder.modalities:
                if modality in owners:
                    raise UserError(
                        f"encoder.encoders: {modality} is read by {owners[modality]!r} and by {name!r}; remove it from"
                        " the modalities of one of them"
                    )
                owners[modality] = name
        self.owners = owners
        self.modalities = tuple(m for m in Modality if m in owners)
        # names of methods of a ModuleDict are no keys of it
        self.encoders = nn.ModuleDict({f"{name}_encoder": encoder for name, encoder in encoders.items()})

    def of(self, modality: Modality) -> Encoder:
        """The encoder of a modality."""
        encoder = self.encoders[f"{self.owners[modality]}_encoder"]
        assert isinstance(encoder, Encoder)
        return encoder

    def _each(self) -> Iterator[tuple[str, Encoder]]:
        for name in dict.fromkeys(self.owners.values()):
            encoder = self.encoders[f"{name}_encoder"]
            assert isinstance(encoder, Encoder)
            yield name, encoder

    def width(self, modality: Modality) -> int:
        """That of the modality's encoder."""
        return self.of(modality).width(modality)

    def tokens(self, modality: Modality) -> int:
        """That of the modality's encoder."""
        return self.of(modality).tokens(modality)

    @property
    def source(self) -> str:
        """The sources of all encoders."""
        return " + ".join(encoder.source for _, encoder in self._each())

    @property
    def loaded(self) -> bool:
        """Whether all encoders are loaded."""
        return all(encoder.loaded for _, encoder in self._each())

    def producer(self, modality: Modality) -> dict[str, Any]:
        """That of the modality's encoder."""
        return self.of(modality).producer(modality)

    def stores(self, cache: FeatureCache) -> EncoderStores:
        """The stores of the encoders' features."""
        return EncoderStores(cache, {m: self.of(m).source for m in self.modalities}, self.producer)

    def load(self) -> None:
        """Load the encoders that are not loaded."""
        for _, encoder in self._each():
            if not encoder.loaded:
                encoder.load()

    def load_for(self, modality: Modality, device: torch.device | str) -> None:
        """Load the modality's encoder only."""
        self.of(modality).load_for(modality, device)

    def parameter_counts(self) -> dict[str, int]:
        """Parameters of each encoder."""
        return {name: sum(encoder.parameter_counts().values()) for name, encoder in self._each()}

    def blocks(self) -> list[nn.Module]:
        """Those of all encoders."""
        return [block for _, encoder in self._each() for block in encoder.blocks()]

    def blank(self, modality: Modality) -> Tensor:
        """That of the modality's encoder."""
        return self.of(modality).blank(modality)

    def prepare(self, media: Media) -> Tensor:
        """As the encoder of the medium's modality prepares it."""
        return self.of(media.modality).prepare(media)

    def together(self, modality: Modality, inputs: Sequence[Tensor]) -> Tensor:
        """As the encoder of the modality joins its inputs."""
        return self.of(modality).together(modality, inputs)

    def forward(self, modality: Modality, inputs: Tensor) -> Tensor:
        """Features of the modality's encoder, ``(N, E, C)``."""
        features: Tensor = self.of(modality)(modality, inputs)
        return features
