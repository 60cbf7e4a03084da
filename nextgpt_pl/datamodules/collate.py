"""Items to batches: rendering, padding, spans grouped by modality. Runs in data-loader workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from nextgpt_pl.conversation import IGNORE
from nextgpt_pl.datamodules.rows import load_embedding
from nextgpt_pl.errors import UserError
from nextgpt_pl.samples import Batch, CaptionedPair, Dialogue, Rendered, SpanTargets


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
        width = max(len(row.input_ids) for row in rows)
        batch = Batch(
            input_ids=torch.full((len(rows), width), self.pad_token_id),
            attention_mask=torch.zeros(len(rows), width, dtype=torch.bool),
            labels=torch.full((len(rows), width), IGNORE),
            keys=[row.key for row in rows],
            attributes=[row.attributes for row in rows],
        )
        for index, row in enumerate(rows):
            length = len(row.input_ids)
            batch.input_ids[index, :length] = torch.tensor(row.input_ids)
            batch.attention_mask[index, :length] = True
            batch.labels[index, :length] = torch.tensor(row.labels)
            for slot in row.slots:
                batch.slots.setdefault(slot.modality, []).append((index, slot))
        _gather_spans(batch, rows)
        return batch


def _gather_spans(batch: Batch, rows: Sequence[Rendered]) -> None:
    found = [(index, span) for index, row in enumerate(rows) for span in row.spans]
    for modality in dict.fromkeys(span.modality for _, span in found):
        spans = [(index, span) for index, span in found if span.modality is modality]
        batch.spans[modality] = SpanTargets(
            rows=torch.tensor([index for index, _ in spans]),
            starts=torch.tensor([span.start for _, span in spans]),
            captions=[span.caption for _, span in spans],
            embeddings=[None if s.caption_embedding is None else load_embedding(s.caption_embedding) for _, s in spans],
        )
