"""What the rest of the framework asks of a frozen encoder."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import Media


class Encoder(nn.Module, ABC):
    """Turns media into features. The constructor is instant; :meth:`load` reads weights.

    Attributes:
        modalities: what it reads.

    """

    modalities: tuple[Modality, ...]

    @property
    @abstractmethod
    def output_dim(self) -> int:
        """Width of a feature."""

    @property
    def tokens_per_medium(self) -> int:
        """Features per medium."""
        return 1

    @abstractmethod
    def load(self) -> None:
        """Build the network, read its weights (not under the meta device) and freeze it."""

    @abstractmethod
    def prepare(self, media: Media) -> Tensor:
        """One medium as the network's input; light, for data-loader workers."""

    @abstractmethod
    def forward(self, modality: Modality, inputs: Tensor) -> Tensor:
        """Prepared media ``(N, ...)`` to features ``(N, tokens_per_medium, output_dim)``."""

    def train(self, mode: bool = True) -> Encoder:
        """Frozen: stays in evaluation mode, or drop path would make its features noisy."""
        return super().train(False)
