"""How a loss reads the true media of a modality; for data-loader workers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from nextgpt_pl.features.keys import media_name
from nextgpt_pl.features.store import Memory
from nextgpt_pl.samples import Media


@dataclass(frozen=True)
class Preparation:
    """Reads a medium as the input of a frozen network, unless the network's output is in memory.

    Attributes:
        prepare: one medium as input; holds no network, so that it can be sent to spawned workers.
        memory: the network's outputs, under :func:`~nextgpt_pl.features.keys.media_name`.

    """

    prepare: Callable[[Media], Tensor]
    memory: Memory

    def __call__(self, media: Media) -> Tensor | None:
        """The input; ``None`` if it is not needed.

        Raises:
            UserError: the file is missing, unreadable or not finite.

        """
        return None if self.memory.kept(media_name(media)) else self.prepare(media)
