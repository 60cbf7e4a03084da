"""Bootstrap confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1_000
_LEVEL = 0.95
_INDICES = 2**17  # of resamples that are drawn at once


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
    return of_means([per_item], seed, resamples)[0]


def of_means(scores: Sequence[np.ndarray], seed: int = 0, resamples: int = RESAMPLES) -> list[Estimate]:
    """:func:`of_mean` of each of several arrays; arrays of equal length share their resamples."""
    checked = [_checked(per_item) for per_item in scores]
    found: dict[int, Estimate] = {}
    for count in {len(per_item) for per_item in checked}:
        same = {i: per_item for i, per_item in enumerate(checked) if len(per_item) == count}
        if count == 1:
            found |= {i: Estimate(float(per_item[0]), None, None, 1) for i, per_item in same.items()}
            continue
        means: dict[int, list[np.ndarray]] = {i: [] for i in same}
        for chosen in _resamples(count, seed, resamples):
            for i, per_item in same.items():
                means[i].append(per_item[chosen].mean(1))
        found |= {i: _estimate(float(same[i].mean()), np.concatenate(m), count) for i, m in means.items()}
    return [found[i] for i in range(len(checked))]


def _checked(per_item: np.ndarray) -> np.ndarray:
    scores = np.asarray(per_item, dtype=np.float64)
    if not len(scores):
        raise ValueError("no items to take a mean of")
    if not np.isfinite(scores).all():
        raise ValueError(f"{int((~np.isfinite(scores)).sum())} of {len(scores)} scores are not finite")
    return scores


def _resamples(count: int, seed: int, resamples: int) -> Iterator[np.ndarray]:
    """Item indices ``(rows, count)`` of resamples; a few at a time, since all of 40,000 items need 300 MB."""
    rng = np.random.default_rng(seed)
    rows = max(1, _INDICES // count)
    for start in range(0, resamples, rows):
        yield rng.integers(0, count, (min(rows, resamples - start), count))


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


def of_strata(strata: Mapping[str, np.ndarray], weights: Mapping[str, float], seed: int = 0) -> Estimate:
    """A weighted sum of the means of groups, with an interval from resamples within each group.

    Args:
        strata: scores ``(N,)`` by group.
        weights: the weight of each group that is used.
        seed: seed of the resamples.

    Raises:
        ValueError: a group has no scores, or one is not finite.

    """
    checked = {name: _checked(strata[name]) for name in weights}
    value = sum(weight * float(checked[name].mean()) for name, weight in weights.items())
    count = sum(map(len, checked.values()))
    if count == len(checked):
        return Estimate(_finite(value, count), None, None, count)
    draws = np.zeros(RESAMPLES)
    for number, (name, weight) in enumerate(weights.items()):
        # with a seed of its own, since groups are independent
        resamples = _resamples(len(checked[name]), seed + number, RESAMPLES)
        means = [checked[name][chosen].mean(1) for chosen in resamples]
        draws += weight * np.concatenate(means)
    return _estimate(value, draws, count)


def _finite(value: float, count: int) -> float:
    if not math.isfinite(value):
        raise ValueError(f"the score of {count} items is {value}")
    return value


def _estimate(value: float, draws: np.ndarray, count: int) -> Estimate:
    low, high = np.quantile(draws, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Estimate(_finite(value, count), float(low), float(high), count)
