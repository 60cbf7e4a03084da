"""The Frechet distance of sets of media as a torchmetrics metric. Shapes: N items, D features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from nextgpt_pl.metrics.distributions import check_moments, frechet_distance


class FrechetDistance(Metric):
    """Frechet distance of two sets of features: FID, FVD, FAD or FD, by the extractor.

    Only means and second moments are stored, so memory does not depend on the sizes of the sets. The extractor is not a
    submodule, so its weights are in no checkpoint or parameter list.

    Args:
        num_features: D.
        extractor: maps the input of ``update`` to features ``(N, D)``; ``None``: the input are features.
        kwargs: arguments of :class:`torchmetrics.Metric`.

    >>> metric = FrechetDistance(2)
    >>> for real in (True, False):
    ...     metric.update(torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.5, 3.0]]) + (not real), real=real)
    >>> round(metric.compute().item(), 6)
    2.0

    """

    full_state_update = False
    count: Tensor
    total: Tensor
    products: Tensor

    def __init__(self, num_features: int, extractor: Callable[[Any], Tensor] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._extractors = (extractor or torch.as_tensor,)  # a module in a tuple is not registered as a submodule
        shape = {"count": (2,), "total": (2, num_features), "products": (2, num_features, num_features)}
        for name, size in shape.items():
            self.add_state(name, torch.zeros(size, dtype=torch.float64), dist_reduce_fx="sum")

    @torch.no_grad()
    def update(self, media: Any, *, real: bool) -> None:
        """Add media to one of the two sets.

        Raises:
            ValueError: the features do not have the shape ``(N, D)``, or are not finite.

        """
        features, index = self._extractors[0](media).to(self.device).double(), int(real)
        if features.ndim != 2 or features.shape[1] != self.total.shape[1]:
            raise ValueError(
                f"FrechetDistance: features have shape {tuple(features.shape)}, expected (items, {self.total.shape[1]})"
            )
        if not features.isfinite().all():
            bad = int((~features.isfinite()).any(1).sum())
            raise ValueError(f"FrechetDistance: {bad} items have features that are not finite")
        self.count[index] += len(features)
        self.total[index] += features.sum(0)
        self.products[index] += features.T @ features

    def _moments(self, index: int) -> tuple[Tensor, Tensor]:
        count, name = self.count[index], ("generated", "real")[index]
        mean = self.total[index] / count
        covariance = (self.products[index] - count * mean.outer(mean)) / (count - 1)
        check_moments(int(count), covariance, self.products[index].trace() / count, name)
        return mean, covariance

    def compute(self) -> Tensor:
        """The distance, from unbiased covariances.

        Raises:
            ValueError: a set has fewer than two items, or equal features only.

        """
        return frechet_distance(*self._moments(0), *self._moments(1))
