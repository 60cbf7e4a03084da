"""Distance of projected signal tokens from caption embeddings."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric


class AlignmentQuality(Metric):
    """Mean squared error relative to the best constant prediction, and mean cosine similarity.

    The constant is the mean target embedding per position. A relative error of 1 means that predictions carry no
    information about the caption; 0 means that they are exact.

    Args:
        shape: ``(L, D)``, shape of an embedding.

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
        """Add predicted and target embeddings, both ``(S, L, D)``."""
        predicted, target = predicted.detach().double(), target.detach().double()
        self.squared_error += (predicted - target).square().sum()
        self.squares += target.square().sum()
        self.total += target.sum(0)
        self.cosine += F.cosine_similarity(predicted, target, dim=-1).mean(-1).sum()
        self.count += len(target)

    def compute(self) -> dict[str, Tensor]:
        """``mse`` per number, ``relative_mse`` and ``cosine``.

        Raises:
            ValueError: there are fewer than two embeddings, or all are equal.

        """
        if self.count < 2:
            raise ValueError(f"AlignmentQuality needs at least 2 embeddings, got {int(self.count)}")
        variance_sum = self.squares - self.total.square().sum() / self.count
        if variance_sum <= 1e-12 * self.squares:
            raise ValueError("AlignmentQuality: all caption embeddings are equal; are all captions the same?")
        return {
            "mse": (self.squared_error / (self.count * self.total.numel())).float(),
            "relative_mse": (self.squared_error / variance_sum).float(),
            "cosine": (self.cosine / self.count).float(),
        }
