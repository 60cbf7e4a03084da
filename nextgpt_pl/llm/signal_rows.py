"""Trainable rows for the signal tokens beside a frozen vocabulary.

Resizing an embedding un-freezes all of it, and in the official code all of it is then trained and saved at every
stage. Here the frozen matrix is left alone and the new rows are a parameter of their own, so nothing but them can
train, be saved or be sent between processes, and no copy of the vocabulary is made at any step.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ExtendedEmbedding(nn.Module):
    """An embedding whose ids from ``base.num_embeddings`` on are rows of their own."""

    def __init__(self, base: nn.Embedding, count: int) -> None:
        super().__init__()
        self.base = base
        self.rows = nn.Parameter(initial_rows(base.weight, count))

    @property
    def num_embeddings(self) -> int:
        """All rows, old and new."""
        return self.base.num_embeddings + len(self.rows)

    def forward(self, ids: Tensor) -> Tensor:
        """``(B, T)`` ids to ``(B, T, H)`` in the frozen matrix's dtype."""
        new = ids - self.base.num_embeddings
        frozen = self.base(ids.clamp(max=self.base.num_embeddings - 1))
        rows = F.embedding(new.clamp(min=0), self.rows).to(frozen.dtype)
        return torch.where((new >= 0).unsqueeze(-1), rows, frozen)


class ExtendedHead(nn.Module):
    """An LM head with rows of their own for the new ids."""

    def __init__(self, base: nn.Linear, count: int) -> None:
        super().__init__()
        self.base = base
        self.rows = nn.Parameter(initial_rows(base.weight, count))

    def forward(self, hidden: Tensor) -> Tensor:
        """``(..., H)`` to ``(..., V + count)`` logits."""
        return torch.cat([self.base(hidden), F.linear(hidden, self.rows.to(hidden.dtype))], dim=-1)


def initial_rows(weight: Tensor, count: int) -> Tensor:
    """New rows near the mean of the old ones, in float32, each different.

    The mean keeps a new token from being likely by chance (Hewitt 2021, "Initializing New Word Embeddings"); the
    spread breaks the symmetry between the signal tokens.
    """
    if weight.is_meta:
        return torch.empty(count, weight.shape[1], device="meta")
    values = weight.detach().float()
    # drawn on the CPU, so that the rows do not depend on the device
    drawn = torch.randn(count, weight.shape[1], device="cpu").to(weight.device)
    return values.mean(0) + values.std(0) * drawn
