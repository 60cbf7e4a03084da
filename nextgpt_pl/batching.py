"""Rows of token ids to a padded batch, with its media slots and signal spans grouped by modality."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from nextgpt_pl.conversation import IGNORE
from nextgpt_pl.samples import Batch, Rendered, SpanTargets


def pad(rows: Sequence[Rendered], pad_token_id: int, load_embedding: Callable[[Path], Tensor] | None = None) -> Batch:
    """Pad on the right.

    Args:
        rows: at least one.
        pad_token_id: fills short rows.
        load_embedding: reads the caption embeddings that spans name; without it they are left out.

    """
    width = max(len(row.input_ids) for row in rows)
    batch = Batch(
        input_ids=torch.full((len(rows), width), pad_token_id),
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
    found = [(index, span) for index, row in enumerate(rows) for span in row.spans]
    for modality in dict.fromkeys(span.modality for _, span in found):
        spans = [(index, span) for index, span in found if span.modality is modality]
        files = [span.caption_embedding for _, span in spans]
        batch.spans[modality] = SpanTargets(
            rows=torch.tensor([index for index, _ in spans]),
            starts=torch.tensor([span.start for _, span in spans]),
            captions=[span.caption for _, span in spans],
            embeddings=[load_embedding(f) if load_embedding and f else None for f in files],
            media=[span.media for _, span in spans],
        )
    return batch
