"""Scores of generated media as torchmetrics metrics: distances of sets, and similarity of media and captions.

The feature extractor is an argument. It is not a submodule, so its weights are in no checkpoint or parameter list.
Without extractor, ``update`` takes features. Shapes: N items, D features, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from nextgpt_pl.metrics.distributions import (
    check_moments,
    frechet_distance,
    inception_score,
    kernel_distance,
    similarity,
)

Extractor = Callable[[Any], Tensor]


class FeatureMetric(Metric):
    """Base class of metrics on features.

    Args:
        extractor: maps the input of ``update`` to features ``(N, D)``; ``None``: the input are features.
        kwargs: arguments of :class:`torchmetrics.Metric`.

    """

    full_state_update = False

    def __init__(self, extractor: Extractor | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._extractors = (extractor,)  # a module in a tuple is not registered as a submodule

    @torch.no_grad()
    def features(self, media: Any, extractor: Extractor | None = None) -> Tensor:
        """Features ``(N, D)`` float64, by the metric's extractor or another one.

        Raises:
            ValueError: the features are not two-dimensional or not finite.

        """
        extractor = extractor or self._extractors[0]
        values = torch.as_tensor(media if extractor is None else extractor(media)).to(self.device).double()
        if values.ndim != 2:
            raise ValueError(f"{self._name}: features have shape {tuple(values.shape)}, expected (items, features)")
        if not values.isfinite().all():
            raise ValueError(
                f"{self._name}: {int((~values.isfinite()).any(1).sum())} items have features that are not finite"
            )
        return values

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _enough(self, count: int, least: int, what: str) -> None:
        if count < least:
            raise ValueError(f"{self._name} needs at least {least} {what}, got {count}")


class FrechetDistance(FeatureMetric):
    """Frechet distance of two sets of features: FID, FVD, FAD or FD, by the extractor.

    Only means and second moments are stored, so memory does not depend on the sizes of the sets.

    Args:
        num_features: D.
        extractor: see :class:`FeatureMetric`.
        kwargs: arguments of :class:`torchmetrics.Metric`.

    >>> metric = FrechetDistance(2)
    >>> for real in (True, False):
    ...     metric.update(torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.5, 3.0]]) + (not real), real=real)
    >>> round(metric.compute().item(), 6)
    2.0

    """

    count: Tensor
    total: Tensor
    products: Tensor

    def __init__(self, num_features: int, extractor: Extractor | None = None, **kwargs: Any) -> None:
        super().__init__(extractor, **kwargs)
        shape = {"count": (2,), "total": (2, num_features), "products": (2, num_features, num_features)}
        for name, size in shape.items():
            self.add_state(name, torch.zeros(size, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, media: Any, *, real: bool) -> None:
        """Add media to one of the two sets."""
        features, index = self.features(media), int(real)
        if features.shape[1] != self.total.shape[1]:
            raise ValueError(f"{self._name}: {features.shape[1]} features, num_features={self.total.shape[1]}")
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


class KernelDistance(FeatureMetric):
    """Kernel distance (KID) of two sets of features: mean and standard deviation over subsets; stores all features.

    Args:
        extractor: see :class:`FeatureMetric`.
        subsets, subset_size, seed: see :func:`kernel_distance`.
        kwargs: arguments of :class:`torchmetrics.Metric`.

    """

    generated: list[Tensor]
    real: list[Tensor]

    def __init__(
        self,
        extractor: Extractor | None = None,
        subsets: int = 100,
        subset_size: int = 1000,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(extractor, **kwargs)
        self.subsets, self.subset_size, self.seed = subsets, subset_size, seed
        for name in ("generated", "real"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, media: Any, *, real: bool) -> None:
        """Add media to one of the two sets."""
        (self.real if real else self.generated).append(self.features(media))

    def compute(self) -> dict[str, Tensor]:
        """``mean`` and ``std``.

        Raises:
            ValueError: a set has fewer than two items.

        """
        generated, real = _joined(self.generated), _joined(self.real)
        for features, name in ((generated, "generated"), (real, "real")):
            self._enough(len(features), 2, f"{name} items")
        mean, std = kernel_distance(generated, real, self.subsets, self.subset_size, self.seed)
        return {"mean": mean, "std": std}


class InceptionScore(FeatureMetric):
    """Inception score of generated media; the extractor gives logits ``(N, C)``.

    Args:
        extractor: see :class:`FeatureMetric`.
        splits: number of consecutive parts of the items, over which mean and standard deviation are computed.
        kwargs: arguments of :class:`torchmetrics.Metric`.

    """

    logits: list[Tensor]

    def __init__(self, extractor: Extractor | None = None, splits: int = 10, **kwargs: Any) -> None:
        super().__init__(extractor, **kwargs)
        self.splits = splits
        self.add_state("logits", [], dist_reduce_fx="cat")

    def update(self, media: Any) -> None:
        """Add generated media."""
        self.logits.append(self.features(media))

    def compute(self) -> dict[str, Tensor]:
        """``mean`` and ``std``.

        Raises:
            ValueError: there are fewer items than splits.

        """
        logits = _joined(self.logits)
        mean, std = inception_score(logits, self.splits)
        return {"mean": mean, "std": std}


class PairedSimilarity(FeatureMetric):
    """Mean of 100 x cosine similarity, clipped at 0, of media and their captions or reference media.

    CLIPScore and CLAPScore with media and captions, CLIPSIM where the extractor averages a video's frames, CLIP-I with
    two images.

    Args:
        extractor: extractor of the media.
        other_extractor: extractor of the captions or reference media; ``extractor`` by default.
        kwargs: arguments of :class:`torchmetrics.Metric`.

    >>> metric = PairedSimilarity()
    >>> metric.update(torch.eye(2), torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    >>> metric.compute().item()
    50.0

    """

    total: Tensor
    count: Tensor

    def __init__(
        self, extractor: Extractor | None = None, other_extractor: Extractor | None = None, **kwargs: Any
    ) -> None:
        super().__init__(extractor, **kwargs)
        self._others = (other_extractor or extractor,)
        for name in ("total", "count"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, media: Any, others: Any) -> None:
        """Add pairs; both arguments have the same order."""
        a, b = self.features(media), self.features(others, self._others[0])
        self.total += similarity(a, b).sum()
        self.count += len(a)

    def compute(self) -> Tensor:
        """The mean.

        Raises:
            ValueError: there is no pair.

        """
        self._enough(int(self.count), 1, "pair")
        return self.total / self.count


def _joined(state: list[Tensor] | Tensor) -> Tensor:
    """Concatenate a list state; after a sync it is one tensor already."""
    if isinstance(state, Tensor):
        return state
    return torch.cat(state) if state else torch.empty(0, 0)
