"""Collate rows to batches. Runs in data-loader workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nextgpt_pl.batches import Batch
from nextgpt_pl.datamodules.usable import UsableRow
from nextgpt_pl.dialogue.batching import pad


@dataclass
class Collator:
    """Collates rows to a :class:`Batch`.

    Attributes:
        pad_token_id: fills rows on the right.

    """

    pad_token_id: int

    def __call__(self, rows: Sequence[UsableRow]) -> Batch:
        """Pad the rows; their notes and the time of their reading are added to the batch."""
        batch = pad([row for usable in rows for row in usable.rows], self.pad_token_id)
        batch.notes = [note for usable in rows for note in usable.notes]
        batch.reading = sum(usable.reading for usable in rows)
        return batch
