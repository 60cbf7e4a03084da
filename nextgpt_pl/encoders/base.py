"""What the rest of the framework asks of a frozen encoder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nextgpt_pl.distributed import any_process
from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import Media

_CACHE_BYTES = 512 * 2**20


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
        self._known: OrderedDict[Media, Tensor] = OrderedDict()

    @property
    @abstractmethod
    def output_dim(self) -> int:
        """Width of a feature."""

    def tokens(self, modality: Modality) -> int:
        """E, features per medium."""
        return 1

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

    @torch.no_grad()
    def features(self, modality: Modality, media: Sequence[Media], device: torch.device | str) -> Tensor:
        """Features of media, ``(N, E, output_dim)``.

        What was encoded lately is remembered: the encoder is frozen, so an epoch later the feature is the same.
        """
        unknown = [m for m in dict.fromkeys(media) if m not in self._known]
        if not unknown and self.in_step and any_process(False, device):
            self(modality, self.blank(modality).to(device))
        elif unknown:
            if self.in_step:
                any_process(True, device)
            inputs = torch.stack([self.prepare(m) for m in unknown]).to(device)
            for medium, feature in zip(unknown, self(modality, inputs).cpu(), strict=True):
                self._known[medium] = feature.clone()
        if not media:
            return torch.empty(0, self.tokens(modality), self.output_dim, device=device)
        result = torch.stack([self._known[m] for m in media]).to(device)
        while len(self._known) * result[0].nbytes > _CACHE_BYTES:
            self._known.popitem(last=False)
        return result

    def train(self, mode: bool = True) -> Encoder:
        """Frozen: stays in evaluation mode, or drop path would make its features noisy."""
        return super().train(False)
