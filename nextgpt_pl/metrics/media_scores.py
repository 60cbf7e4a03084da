"""Scores of generated media as torchmetrics metrics: sets against sets, and media against their captions.

Any feature extractor can be plugged in. It is held outside of the module tree: no checkpoint and no parameter list ever
has it. Without one, ``update`` takes features. Shapes: N items, D features, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric

from nextgpt_pl.metrics.distributions import frechet_distance, inception_score, kernel_distance, paired_kl

Extractor = Callable[[Any], Tensor]


class FeatureMetric(Metric):
    """Base: media come in, the extractor makes features of them.

    Args:
        extractor: from what ``update`` is given to features ``(N, D)``; ``None`` if that is features already.
        kwargs: of :class:`torchmetrics.Metric`.

    """

    full_state_update = False

    def __init__(self, extractor: Extractor | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._extractors = (extractor,)  # in a tuple, a module is no child

    @torch.no_grad()
    def features(self, media: Any, extractor: Extractor | None = None) -> Tensor:
        """``(N, D)`` float64, by the metric's own extractor or another.

        Raises:
            ValueError: not two-dimensional, or not finite.

        """
        extractor = extractor or self._extractors[0]
        found = torch.as_tensor(media if extractor is None else extractor(media)).to(self.device).double()
        if found.ndim != 2:
            raise ValueError(f"{self._name}: features {tuple(found.shape)}, wanted (items, features)")
        if not found.isfinite().all():
            raise ValueError(f"{self._name}: {int((~found.isfinite()).any(1).sum())} items have features not finite")
        return found

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _enough(self, count: int, least: int, what: str) -> None:
        if count < least:
            raise ValueError(f"{self._name} needs at least {least} {what}, it has {count}")


class FrechetDistance(FeatureMetric):
    """Frechet distance of two sets of features: FID, FVD, FAD or FD, by the extractor.

    Only means and second moments are kept, so the sets may be of any size.

    Args:
        num_features: D.
        extractor: see :class:`FeatureMetric`.
        kwargs: of :class:`torchmetrics.Metric`.

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
        self._enough(int(count), 2, f"{name} items")
        mean = self.total[index] / count
        covariance = (self.products[index] - count * mean.outer(mean)) / (count - 1)
        if covariance.trace() <= 1e-12 * self.products[index].trace() / count:
            raise ValueError(f"{self._name}: all {int(count)} {name} items have equal features; are they all the same?")
        return mean, covariance

    def compute(self) -> Tensor:
        """The distance, from unbiased covariances.

        Raises:
            ValueError: fewer than two items in a set, or all of a set's features equal.

        """
        return frechet_distance(*self._moments(0), *self._moments(1))


class KernelDistance(FeatureMetric):
    """Kernel distance (KID) of two sets of features: mean and deviation over subsets; all features are kept.

    Args:
        extractor: see :class:`FeatureMetric`.
        subsets, subset_size, seed: see :func:`kernel_distance`.
        kwargs: of :class:`torchmetrics.Metric`.

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
            ValueError: fewer than two items in a set.

        """
        generated, real = _joined(self.generated), _joined(self.real)
        for found, name in ((generated, "generated"), (real, "real")):
            self._enough(len(found), 2, f"{name} items")
        mean, std = kernel_distance(generated, real, self.subsets, self.subset_size, self.seed)
        return {"mean": mean, "std": std}


class InceptionScore(FeatureMetric):
    """Inception score of generated media; the extractor gives logits ``(N, C)``.

    Args:
        extractor: see :class:`FeatureMetric`.
        splits: parts in the order of the items, over which mean and deviation are taken.
        kwargs: of :class:`torchmetrics.Metric`.

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
            ValueError: fewer items than splits.

        """
        logits = _joined(self.logits)
        self._enough(len(logits), self.splits, f"items for {self.splits} splits")
        mean, std = inception_score(logits, self.splits)
        return {"mean": mean, "std": std}


class PairedKL(FeatureMetric):
    """KL divergence of class probabilities between generated media and their own references (AudioLDM's KL)."""

    generated: list[Tensor]
    reference: list[Tensor]

    def __init__(self, extractor: Extractor | None = None, **kwargs: Any) -> None:
        super().__init__(extractor, **kwargs)
        for name in ("generated", "reference"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, generated: Any, reference: Any) -> None:
        """Add pairs, in the same order."""
        pair = self.features(generated), self.features(reference)
        if pair[0].shape != pair[1].shape:
            raise ValueError(f"{self._name}: {tuple(pair[0].shape)} against references {tuple(pair[1].shape)}")
        self.generated.append(pair[0])
        self.reference.append(pair[1])

    def compute(self) -> dict[str, Tensor]:
        """``softmax`` and ``sigmoid``.

        Raises:
            ValueError: no pair.

        """
        generated = _joined(self.generated)
        self._enough(len(generated), 1, "pair")
        softmax, sigmoid = paired_kl(generated, _joined(self.reference))
        return {"softmax": softmax, "sigmoid": sigmoid}


class PairedSimilarity(FeatureMetric):
    """100 x cosine similarity of media and what they should show, not below 0, averaged.

    CLIPScore and CLAPScore with media and captions, CLIPSIM where the extractor averages a video's frames, CLIP-I with
    two images.

    Args:
        extractor: of the media.
        other_extractor: of the captions, or of the other media; by default the same.
        kwargs: of :class:`torchmetrics.Metric`.

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
        """Add pairs, in the same order."""
        a, b = self.features(media), self.features(others, self._others[0])
        if a.shape != b.shape:
            raise ValueError(f"{self._name}: features {tuple(a.shape)} against {tuple(b.shape)}")
        self.total += (100 * F.cosine_similarity(a, b, dim=1)).clamp(min=0).sum()
        self.count += len(a)

    def compute(self) -> Tensor:
        """The mean.

        Raises:
            ValueError: no pair.

        """
        self._enough(int(self.count), 1, "pair")
        return self.total / self.count


def _joined(state: list[Tensor] | Tensor) -> Tensor:
    """A list state, which is one tensor after it was gathered."""
    if isinstance(state, Tensor):
        return state
    return torch.cat(state) if state else torch.empty(0, 0)
