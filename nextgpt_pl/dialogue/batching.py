"""Pad rows of token ids to a batch; media slots and signal spans are grouped by modality."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from nextgpt_pl.batches import IGNORE, Batch, Rendered, SpanTargets


def pad(rows: Sequence[Rendered], pad_token_id: int) -> Batch:
    """Pad on the right.

    Args:
        rows: at least one.
        pad_token_id: fills short rows.

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
    all_spans = [(index, span) for index, row in enumerate(rows) for span in row.spans]
    for modality in dict.fromkeys(span.modality for _, span in all_spans):
        spans = [(index, span) for index, span in all_spans if span.modality is modality]
        batch.spans[modality] = SpanTargets(
            rows=torch.tensor([index for index, _ in spans]),
            starts=torch.tensor([span.start for _, span in spans]),
            captions=[span.caption for _, span in spans],
            embeddings=[span.embedding for _, span in spans],
            media=[span.media for _, span in spans],
            inputs=[span.inputs for _, span in spans],
        )
    return batch
