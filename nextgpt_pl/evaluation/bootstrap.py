"""Bootstrap confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1_000
_LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number with its 95% interval.

    Attributes:
        value: on all items.
        low, high: the interval; both ``None`` if none was computed.
        count: number of items.

    """

    value: float
    low: float | None
    high: float | None
    count: int

    def __str__(self) -> str:
        text = f"{self.value:.4g}"
        return text if self.low is None else f"{text} [{self.low:.4g}, {self.high:.4g}]"


def of_mean(per_item: np.ndarray, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """The mean of ``(N,)`` scores with a confidence interval; a single score has no interval.

    Raises:
        ValueError: there are no scores, or one is not finite.

    """
    scores = np.asarray(per_item, dtype=np.float64)
    if not len(scores):
        raise ValueError("no items to take a mean of")
    if not np.isfinite(scores).all():
        raise ValueError(f"{int((~np.isfinite(scores)).sum())} of {len(scores)} scores are not finite")
    if len(scores) == 1:
        return Estimate(float(scores[0]), None, None, 1)
    rng = np.random.default_rng(seed)
    # one resample at a time, since 1,000 resamples of 40,000 items need 300 MB
    means = np.array([scores[rng.integers(0, len(scores), len(scores))].mean() for _ in range(resamples)])
    return _estimate(float(scores.mean()), means, len(scores))


def of_error(value: float, error: float | None, count: int) -> Estimate:
    """A score with an interval from its standard error; without an interval if that is unknown or not finite.

    Raises:
        ValueError: the score is not finite.

    """
    if error is None or not math.isfinite(error):
        return Estimate(_finite(value, count), None, None, count)
    return Estimate(_finite(value, count), value - 1.96 * error, value + 1.96 * error, count)


def of_set(score: Callable[[np.ndarray], float], count: int, seed: int = 0, resamples: int = 100) -> Estimate:
    """A score of a set, with an interval from resamples with replacement.

    Duplicate items bias some scores of sets, such as the Frechet distance. The scores of the resamples are therefore
    shifted so that their mean equals the score.

    Args:
        score: function of item indices ``(N,)``.
        count: N.
        seed: seed of the resamples.
        resamples: number of resamples; 0: no interval. A single item has no interval either.

    """
    value = _finite(score(np.arange(count)), count)
    if not resamples or count < 2:
        return Estimate(value, None, None, count)
    rng = np.random.default_rng(seed)
    draws = np.array([score(rng.integers(0, count, count)) for _ in range(resamples)])
    return _estimate(value, draws - draws.mean() + value, count)


def _finite(value: float, count: int) -> float:
    if not math.isfinite(value):
        raise ValueError(f"the score of {count} items is {value}")
    return value


def _estimate(value: float, draws: np.ndarray, count: int) -> Estimate:
    low, high = np.quantile(draws, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Estimate(_finite(value, count), float(low), float(high), count)
