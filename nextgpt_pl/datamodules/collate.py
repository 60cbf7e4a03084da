"""Items to batches: rendering, checking, padding. Runs in data-loader workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nextgpt_pl.batching import pad
from nextgpt_pl.datamodules.rows import load_embedding
from nextgpt_pl.errors import UserError
from nextgpt_pl.samples import Batch, CaptionedPair, Dialogue, Rendered


@dataclass
class Collator:
    """Makes a :class:`Batch` of any mixture of items.

    Attributes:
        render: item to token ids, of the model.
        pad_token_id: fills rows on the right.
        max_length: longest allowed row; truncating would cut a signal span or a medium in two, so longer is an error.

    """

    render: Callable[[CaptionedPair | Dialogue], Rendered]
    pad_token_id: int
    max_length: int

    def __call__(self, items: Sequence[CaptionedPair | Dialogue]) -> Batch:
        """Render, check, pad.

        Raises:
            UserError: an item is longer than ``max_length``; the message names it.

        """
        rows = [self.render(item) for item in items]
        for row in rows:
            if len(row.input_ids) > self.max_length:
                raise UserError(f"{row.key}: {len(row.input_ids)} tokens, data.max_length is {self.max_length}")
        return pad(rows, self.pad_token_id, load_embedding)
