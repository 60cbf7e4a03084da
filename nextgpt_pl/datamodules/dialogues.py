"""Dialogues for instruction tuning, from any number of data sets, mixed by weights."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from nextgpt_pl.datamodules.base import ItemData, not_negative
from nextgpt_pl.datamodules.kinds import TEXT, Kind
from nextgpt_pl.datamodules.sources import Source
from nextgpt_pl.errors import UserError, nearest
from nextgpt_pl.modality import Modality


class Dialogues(ItemData):
    """Batches of dialogues with any number of turns, and media in user and assistant messages.

    In training, the share of all dialogues of one data set and one kind of reply is the product of both weights.

    Args:
        sources: the data sets.
        weights: relative share per data set, by its name; 1 by default.
        reply_weights: relative share per kind of reply (``text``, ``image``, ``video``, ``audio``; a dialogue with
            several kinds counts as the first one); 1 by default.
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
        reply_weights: dict[str, float] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(sources, batch_size, val_batch_size, max_length, num_workers, seed)
        self.weights = _checked("weights", weights or {}, [s.name for s in sources])
        if not any(self.weights.get(source.name, 1.0) for source in sources):
            raise UserError(f"data.weights={weights}: all data sets have share 0, so no dialogue would ever be drawn")
        self.reply_weights = _checked("reply_weights", reply_weights or {}, [TEXT, *(m.value for m in Modality)])

    def group(self, kind: Kind, origin: str) -> Hashable:
        """The item's data set and kind of reply; a captioned pair has its modality as kind."""
        return origin, kind.medium

    def shares(self, groups: Sequence[Hashable]) -> Mapping[Any, float] | None:
        """The products of both weights; ``None`` without weights: each dialogue is seen once per epoch."""
        if not self.weights and not self.reply_weights:
            return None
        products: dict[Any, float] = {}
        for group in dict.fromkeys(groups):
            assert isinstance(group, tuple)
            products[group] = self.weights.get(group[0], 1.0) * self.reply_weights.get(group[1], 1.0)
        if not any(products.values()):
            raise UserError("data.weights and data.reply_weights leave no dialogue a share above 0")
        return products


def _checked(key: str, weights: dict[str, float], known: Sequence[str]) -> dict[str, float]:
    not_negative(key, weights)
    for name in weights:
        if name not in known:
            raise UserError(f"data.{key}: no {name!r} among {', '.join(known)}{nearest(name, known)}")
    return weights
