"""How near projected signal tokens are to the caption embeddings they stand in for."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric


class AlignmentQuality(Metric):
    """Mean squared error relative to the best constant prediction, and mean cosine similarity.

    The constant is the mean embedding of the very items that are measured, per position: the strongest one there is.
    So 1 means "has learned nothing about the caption", 0 means exact.

    Args:
        shape: ``(L, D)`` of an embedding.

    >>> metric = AlignmentQuality((1, 2))
    >>> target = torch.tensor([[[0.0, 2.0]], [[2.0, 0.0]]])
    >>> metric.update(torch.ones(2, 1, 2), target)
    >>> round(metric.compute()["relative_mse"].item(), 4)
    1.0

    """

    full_state_update = False
    squared_error: Tensor
    squares: Tensor
    total: Tensor
    cosine: Tensor
    count: Tensor

    def __init__(self, shape: tuple[int, int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # float64: the variance is a difference of two large sums
        for name in ("squared_error", "squares", "cosine", "count"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("total", torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, target: Tensor) -> None:
        """Both ``(S, L, D)``."""
        predicted, target = predicted.detach().double(), target.detach().double()
        self.squared_error += (predicted - target).square().sum()
        self.squares += target.square().sum()
        self.total += target.sum(0)
        self.cosine += F.cosine_similarity(predicted, target, dim=-1).mean(-1).sum()
        self.count += len(target)

    def compute(self) -> dict[str, Tensor]:
        """``mse`` per number, ``relative_mse`` and ``cosine``.

        Raises:
            ValueError: fewer than two embeddings, or all of them equal: nothing to be relative to.

        """
        if self.count < 2:
            raise ValueError(f"AlignmentQuality needs at least 2 embeddings, it has {int(self.count)}")
        spread = self.squares - self.total.square().sum() / self.count
        if spread <= 1e-12 * self.squares:
            raise ValueError("AlignmentQuality: all caption embeddings are equal; are all captions the same?")
        return {
            "mse": (self.squared_error / (self.count * self.total.numel())).float(),
            "relative_mse": (self.squared_error / spread).float(),
            "cosine": (self.cosine / self.count).float(),
        }
