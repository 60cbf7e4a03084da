"""Trainable rows of the signal tokens next to a frozen vocabulary.

The official code resizes the embedding, so the full vocabulary is trained and saved in every stage. Here the new rows
are a separate parameter: only they are trained, saved and synchronised, and the vocabulary is never copied.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ExtendedEmbedding(nn.Module):
    """An embedding with separate rows for ids from ``base.num_embeddings`` on.

    Rows are multiplied by :attr:`scale`, as ``base`` multiplies its own.
    """

    def __init__(self, base: nn.Embedding, count: int) -> None:
        super().__init__()
        self.base = base
        self.rows = nn.Parameter(initial_rows(base.weight, count))

    @property
    def num_embeddings(self) -> int:
        """Number of all rows."""
        return self.base.num_embeddings + len(self.rows)

    @property
    def scale(self) -> float:
        """Factor by which the embedding multiplies its rows; 1 except in families such as Gemma."""
        # the second name may be a tensor, which could be on the meta device
        scale = getattr(self.base, "scalar_embed_scale", None)
        return float(getattr(self.base, "embed_scale", 1.0) if scale is None else scale)

    def forward(self, ids: Tensor) -> Tensor:
        """``(B, T)`` ids to ``(B, T, H)`` in the frozen matrix's dtype."""
        new = ids - self.base.num_embeddings
        frozen = self.base(ids.clamp(max=self.base.num_embeddings - 1))
        rows = (F.embedding(new.clamp(min=0), self.rows) * self.scale).to(frozen.dtype)
        return torch.where((new >= 0).unsqueeze(-1), rows, frozen)


class ExtendedHead(nn.Module):
    """An LM head with separate rows for the new ids."""

    def __init__(self, base: nn.Linear, count: int) -> None:
        super().__init__()
        self.base = base
        self.rows = nn.Parameter(initial_rows(base.weight, count))

    def forward(self, hidden: Tensor) -> Tensor:
        """``(..., H)`` to ``(..., V + count)`` logits."""
        return torch.cat([self.base(hidden), F.linear(hidden, self.rows.to(hidden.dtype))], dim=-1)


def initial_rows(weight: Tensor, count: int) -> Tensor:
    """New rows near the mean of the old ones, in float32, each different.

    With the mean, new tokens have no high probability by chance (Hewitt 2021, "Initializing New Word Embeddings").
    Noise breaks the symmetry between the signal tokens.
    """
    if weight.is_meta:
        return torch.empty(count, weight.shape[1], device="meta")
    values = weight.detach().float()
    # random numbers of the CPU, so that the rows do not depend on the device
    noise = torch.randn(count, weight.shape[1], device="cpu").to(weight.device)
    return values.mean(0) + values.std(0) * noise
