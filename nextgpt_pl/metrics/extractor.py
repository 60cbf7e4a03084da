"""Base class of feature extractors: media are read in threads while others are encoded in batches."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from nextgpt_pl.errors import UserError
from nextgpt_pl.samples import Media

_BATCH, _GPU_BATCH = 16, 64  # larger batches are no faster on a CPU
_READERS = min(8, os.cpu_count() or 1)  # threads that read media


class Extractor(ABC):
    """Computes features of media, and of captions if the network has a text encoder.

    Media are encoded in small batches; while one is encoded, the next one is read.

    Attributes:
        name: name in tables.
        device: device of the network; by default a GPU if there is one.

    """

    name: str

    @cached_property
    def device(self) -> torch.device:
        """Device of the network; by default a GPU if there is one."""
        return device_of(None)

    @property
    def batch_size(self) -> int:
        """Number of media or captions that are encoded at a time."""
        return _BATCH if self.device.type == "cpu" else _GPU_BATCH

    @property
    def identity(self) -> Hashable:
        """Equal for extractors that compute equal features, so that these are computed once; by default none is."""
        return id(self)

    @torch.no_grad()
    def media(self, media: Sequence[Media]) -> Tensor:
        """``(N, D)`` float32 on the CPU, of media of one modality."""
        return torch.cat([self._media(batch).cpu() for batch in self._read_ahead(media)])

    def _read_ahead(self, media: Sequence[Media]) -> Iterator[list[Any]]:
        """Batches of what :meth:`_read` returns, each read while the one before is used."""
        size = self.batch_size
        with ThreadPoolExecutor(_READERS, "nextgpt_pl reader") as pool:
            # in this thread, since the first one loads what reading needs
            first = [self._read(medium) for medium in media[:1]]
            reading = [pool.submit(self._read, medium) for medium in media[1:size]]
            for start in range(0, len(media), size):
                batch, first = [*first, *(read.result() for read in reading)], []
                reading = [pool.submit(self._read, medium) for medium in media[start + size : start + 2 * size]]
                yield batch

    @torch.no_grad()
    def captions(self, captions: Sequence[str]) -> Tensor:
        """``(N, D)`` float32 on the CPU."""
        size = self.batch_size
        return torch.cat([self._captions(captions[i : i + size]).cpu() for i in range(0, len(captions), size)])

    def _read(self, medium: Media) -> Any:
        """What :meth:`_media` gets for a medium, by default the medium itself; called in several threads."""
        return medium

    @abstractmethod
    def _media(self, media: Sequence[Any]) -> Tensor: ...

    def _captions(self, captions: Sequence[str]) -> Tensor:
        raise UserError(f"{self.name}: this extractor has no text encoder; CLIP, CLAP and the pocket encoder have")


def device_of(name: str | None) -> torch.device:
    """The given device, by default a GPU if there is one.

    Raises:
        UserError: the name is not that of a device.

    """
    try:
        return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise UserError(f"device={name!r}: no such device; cpu, cuda and cuda:1 are some") from error
