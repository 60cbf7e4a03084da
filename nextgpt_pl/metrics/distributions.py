"""Scores of features and classifier outputs as pure functions in float64.

The Frechet distance is FID on Inception features (Heusel et al. 2017), FVD on I3D's, FAD on VGGish's, FD on PANNs'.
The kernel distance is KID (Binkowski et al. 2018), the inception score that of Salimans et al. 2016.
Shapes: N and M items, D features, C classes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def frechet_distance(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> Tensor:
    """Squared 2-Wasserstein distance of two normal distributions, given means ``(D,)`` and covariances ``(D, D)``.

    The trace of the matrix root is the sum of the roots of the eigenvalues of ``root(cov_a) cov_b root(cov_a)``. This
    matrix is symmetric, so the eigenvalues are real for any number of samples.

    >>> one = torch.eye(2)
    >>> round(frechet_distance(torch.zeros(2), one, torch.tensor([3.0, 0.0]), 4 * one).item(), 6)
    11.0

    """
    return frechet_distance_to(mean_a, cov_a)(mean_b, cov_b)


def frechet_distance_to(mean_b: Tensor, cov_b: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """:func:`frechet_distance` as a function of the other distribution's mean and covariance.

    The root of ``cov_b`` is computed once, which saves more than half of the time of each further distance.
    """
    mean_b, cov_b = mean_b.double(), cov_b.double()
    values, vectors = torch.linalg.eigh(cov_b)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T

    def distance(mean_a: Tensor, cov_a: Tensor) -> Tensor:
        cov_a = cov_a.double()
        trace_of_root = torch.linalg.eigvalsh(root @ cov_a @ root).clamp(min=0).sqrt().sum()
        squares = (mean_a.double() - mean_b).square().sum()
        return (squares + cov_a.trace() + cov_b.trace() - 2 * trace_of_root).clamp(min=0)

    return distance


def kernel_distance(
    features_a: Tensor, features_b: Tensor, subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Squared maximum mean discrepancy under ``(x.y / D + 1)^3``, unbiased: mean and deviation over random subsets.

    Args:
        features_a, features_b: ``(N, D)`` and ``(M, D)``.
        subsets: number of random subsets, drawn without replacement; 1 if a subset would be both full sets.
        subset_size: number of items per subset, at most the size of the smaller set.
        seed: seed of the random subsets.

    """
    a, b = features_a.double(), features_b.double()
    size = min(subset_size, len(a), len(b))
    if size == len(a) == len(b):
        subsets = 1
    generator = torch.Generator().manual_seed(seed)
    distances = []
    for _ in range(subsets):
        x, y = (s[torch.randperm(len(s), generator=generator)[:size].to(s.device)] for s in (a, b))
        k_xx, k_yy, k_xy = (_kernel(p, q) for p, q in ((x, x), (y, y), (x, y)))
        distances.append(_unbiased(k_xx, k_yy, k_xy))
    values = torch.stack(distances)
    return values.mean(), values.std(correction=0)


def kernel_error(features_a: Tensor, features_b: Tensor, block: int = 1000) -> Tensor:
    """Jackknife standard error of the kernel distance of two sets, leaving out one item of either set at a time.

    The standard deviation over random subsets underestimates the error for large subsets; it is zero if a subset is the
    full set.

    Args:
        features_a, features_b: ``(N, D)`` and ``(M, D)``, at least 3 rows each.
        block: rows of the kernel matrix that are computed at a time.

    """
    a, b = features_a.double(), features_b.double()
    (aa, ab), (ba, bb) = (_kernel_sums(a, a, b, block), _kernel_sums(b, a, b, block))
    own = {"a": aa - _kernel(a, a, paired=True), "b": bb - _kernel(b, b, paired=True)}
    variance = a.new_zeros(())
    for within, across, others in ((own["a"], ab, len(b)), (own["b"], ba, len(a))):
        count = len(within)
        left_out = (within.sum() - 2 * within) / ((count - 1) * (count - 2))
        left_out = left_out - 2 * (across.sum() - across) / ((count - 1) * others)
        variance = variance + (count - 1) / count * (left_out - left_out.mean()).square().sum()
    return variance.sqrt()


def _kernel(x: Tensor, y: Tensor, *, paired: bool = False) -> Tensor:
    """``(x.y / D + 1)^3`` for all pairs of rows ``(N, M)``, or for rows of equal index ``(N,)``."""
    products = (x * y).sum(1) if paired else x @ y.T
    return (products / x.shape[1] + 1) ** 3


def _kernel_sums(x: Tensor, a: Tensor, b: Tensor, block: int) -> tuple[Tensor, Tensor]:
    """For each row of ``x``, the sums of its kernel values with all rows of ``a`` and with all rows of ``b``."""
    sums = [(_kernel(rows, a).sum(1), _kernel(rows, b).sum(1)) for rows in x.split(block)]
    return torch.cat([sum_a for sum_a, _ in sums]), torch.cat([sum_b for _, sum_b in sums])


def _unbiased(k_xx: Tensor, k_yy: Tensor, k_xy: Tensor) -> Tensor:
    count = len(k_xx)
    within = sum((k.sum() - k.trace()) / (count * (count - 1)) for k in (k_xx, k_yy))
    return torch.as_tensor(within - 2 * k_xy.mean())


def inception_score(logits: Tensor, splits: int = 10) -> tuple[Tensor, Tensor]:
    """Mean and deviation over ``splits`` of ``exp(E KL(p(c|x) || p(c)))``; logits ``(N, C)`` in item order.

    >>> mean, deviation = inception_score(100 * torch.eye(4), splits=1)
    >>> round(mean.item(), 4), deviation.item()
    (4.0, 0.0)

    Raises:
        ValueError: there are fewer items than splits.

    """
    if len(logits) < splits:
        raise ValueError(f"at least {splits} items are needed for {splits} splits, got {len(logits)}")
    scores = []
    for part in logits.double().tensor_split(splits):
        log_p = part.log_softmax(1)
        log_mean = log_p.exp().mean(0).log()
        scores.append((log_p.exp() * (log_p - log_mean)).sum(1).mean().exp())
    values = torch.stack(scores)
    return values.mean(), values.std(correction=0)


def similarity(features_a: Tensor, features_b: Tensor) -> Tensor:
    """100 x cosine similarity of rows of equal index ``(N,)``, at least 0; both arguments ``(N, D)``.

    Raises:
        ValueError: the shapes differ.

    """
    if features_a.shape != features_b.shape:
        raise ValueError(f"features {tuple(features_a.shape)} against {tuple(features_b.shape)}")
    return (100 * F.cosine_similarity(features_a, features_b, dim=1)).clamp(min=0)


def check_moments(count: int, covariance: Tensor, mean_square: Tensor, what: str) -> None:
    """Check that a set of features has a distribution.

    Args:
        count: number of items.
        covariance: ``(D, D)``.
        mean_square: mean squared norm of the features.
        what: name of the items in the message, such as ``generated``.

    Raises:
        ValueError: there are fewer than two items, or their features are equal.

    """
    if count < 2:
        raise ValueError(f"at least 2 {what} items are needed, got {count}")
    if covariance.trace() <= 1e-12 * mean_square:
        raise ValueError(f"all {count} {what} items have equal features")
