"""Base of decoders that answer from a gallery in place of, or beside, another decoder."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from nextgpt_pl.decoders.base import Decoder, Made, OnStep
from nextgpt_pl.decoders.captions import CaptionEncoder

Self = TypeVar("Self", bound="DecoderAround")


class DecoderAround(Decoder):
    """Embeds captions, checks sampling arguments and names its rate as another decoder does.

    Args:
        decoder: the other decoder.

    """

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder

    @property
    def captions(self) -> CaptionEncoder | None:
        """That of the other decoder."""
        return self.decoder.captions

    @property
    def rate(self) -> float | None:
        """That of the other decoder; media of the gallery have this rate."""
        return self.decoder.rate

    @property
    def embedding_shape(self) -> tuple[int, ...]:
        """That of the other decoder."""
        return self.decoder.embedding_shape

    def embed_captions(self, captions: Sequence[str]) -> Tensor:
        """Embed captions by the other decoder's text encoder."""
        return self.decoder.embed_captions(captions)

    @abstractmethod
    def make(
        self,
        embeddings: Tensor,
        *,
        seed: int | Sequence[int],
        negative: Tensor | None = None,
        on_step: OnStep | None = None,
        **sampling: Any,
    ) -> list[Made]:
        """See :meth:`Decoder.make`."""

    def generate(self, embeddings: Tensor, **options: Any) -> list[np.ndarray]:
        """The arrays of :meth:`make`."""
        return [made.array for made in self.make(embeddings, **options)]

    def text_parameter_counts(self) -> dict[str, int]:
        """Parameters of the other decoder's text encoder only."""
        return {name: count for name, count in self.decoder.parameter_counts().items() if "text" in name}

    def check_sampling(self, sampling: Mapping[str, Any]) -> None:
        """Check the sampling arguments of the other decoder."""
        self.decoder.check_sampling(sampling)

    def to(self: Self, device: torch.device | str) -> Self:
        """Move the other decoder; the gallery stays on the CPU."""
        self.decoder.to(device)
        return self
