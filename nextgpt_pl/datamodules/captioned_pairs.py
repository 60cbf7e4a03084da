"""Captioned pairs for encoder and decoder alignment, from any number of sources."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from nextgpt_pl.datamodules.base import ItemData, not_negative
from nextgpt_pl.datamodules.kinds import Kind
from nextgpt_pl.datamodules.sources import Source
from nextgpt_pl.errors import UserError, nearest
from nextgpt_pl.modality import Modality


class CaptionedPairs(ItemData):
    """Batches of captioned pairs; one batch may mix modalities.

    Args:
        sources: sources of the pairs.
        weights: relative share of each modality in training; by default each item is seen once per epoch.
        batch_size, val_batch_size, max_length, num_workers, seed: see :class:`ItemData`.

    """

    def __init__(
        self,
        sources: list[Source],
        batch_size: int = 16,
        val_batch_size: int | None = None,
        max_length: int = 512,
        num_workers: int = 0,
        weights: dict[str, float] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(sources, batch_size, val_batch_size, max_length, num_workers, seed)
        self.weights = by_modality(weights) if weights else None

    def group(self, kind: Kind, origin: str) -> Hashable:
        """The kind's modality.

        Raises:
            UserError: the items are no pairs.

        """
        if not kind.pair:
            raise UserError(f"data.sources: {origin!r} gives dialogues; these are for nextgpt_pl.datamodules.Dialogues")
        return Modality(kind.medium)

    def shares(self, groups: Sequence[Hashable]) -> Mapping[Any, float] | None:
        """The configured weights.

        Raises:
            UserError: no pair has a modality with a weight.

        """
        if self.weights and not set(self.weights) & set(groups):
            raise UserError(f"data.weights gives a share only to {sorted(self.weights)}, which no pair has")
        return self.weights


def by_modality(weights: dict[str, float]) -> dict[Modality, float]:
    """Convert weights by name to weights by modality.

    Raises:
        UserError: a modality is unknown, or a weight is negative.

    """
    known = [m.value for m in Modality]
    not_negative("weights", weights)
    for name in weights:
        if name not in known:
            raise UserError(f"data.weights: {name!r} is no modality{nearest(name, known)}")
    if not any(weights.values()):
        raise UserError(f"data.weights={weights}: all shares are 0, so no item would ever be drawn")
    return {Modality(name): weight for name, weight in weights.items()}
