"""The distribution of a quantity, aggregated in bounded memory."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

_DIGITS = 4  # integers below 10,000 are exact
PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
_BINS = 30
_WIDE = 100.0  # ratio of the greatest to the least value above which bins are logarithmic


class Distribution:
    """Number of occurrences of each value, to four significant digits; minimum, maximum and mean are exact."""

    def __init__(self) -> None:
        self._counts: Counter[float] = Counter()
        self._sum, self._least, self._greatest = 0.0, math.inf, -math.inf

    def __len__(self) -> int:
        return self._counts.total()

    def add(self, values: np.ndarray | Sequence[float]) -> None:
        """Add values, which are finite and not negative."""
        numbers = np.asarray(values, np.float64)
        assert np.isfinite(numbers).all()
        if not numbers.size:
            return
        self._sum += float(numbers.sum())
        self._least, self._greatest = min(self._least, float(numbers.min())), max(self._greatest, float(numbers.max()))
        distinct, counts = np.unique(_rounded(numbers), return_counts=True)
        for value, count in zip(distinct.tolist(), counts.tolist(), strict=True):
            self._counts[value] += count

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """The distinct values in ascending order, ``(n,)`` float64, and their counts, ``(n,)`` int64."""
        values = sorted(self._counts)
        return np.array(values, np.float64), np.array([self._counts[value] for value in values], np.int64)

    def percentiles(self) -> dict[int, float]:
        """The least value that at least p percent of all values do not exceed, per p of :data:`PERCENTILES`."""
        values, counts = self.arrays()
        ranks = [math.ceil(p / 100 * len(self)) for p in PERCENTILES]
        places = np.searchsorted(counts.cumsum(), ranks)
        return {p: float(values[place]) for p, place in zip(PERCENTILES, places, strict=True)}

    def summary(self) -> dict[str, Any]:
        """Count, minimum, maximum, mean, percentiles and histogram; of no values, the count alone."""
        if not len(self):
            return {"count": 0}
        values, counts = self.arrays()
        edges = edges_of([self])
        return {
            "count": len(self),
            "min": self._least,
            "max": self._greatest,
            "mean": self._sum / len(self),
            "percentiles": {str(p): value for p, value in self.percentiles().items()},
            "histogram": {
                "edges": edges.tolist(),
                "counts": np.histogram(values, edges, weights=counts)[0].astype(int).tolist(),
            },
        }


def edges_of(distributions: Sequence[Distribution]) -> np.ndarray:
    """Edges of bins for the values of all distributions; at least one is not empty.

    Values that differ by more than a factor of 100 have logarithmic bins; bins of other integers hold equal numbers of
    integers.
    """
    values = np.unique(np.concatenate([distribution.arrays()[0] for distribution in distributions]))
    least, greatest = float(values[0]), float(values[-1])
    if is_wide(least, greatest):
        edges = np.geomspace(least, greatest, _BINS + 1)
    elif (values == np.round(values)).all():
        width = math.ceil((greatest - least + 1) / _BINS)
        return np.arange(least, greatest + width + 1, width) - 0.5
    else:
        edges = np.linspace(least, greatest, _BINS + 1) if greatest > least else np.array([least, least + 1])
    # rounding must not move the outer edges between the outer values
    edges[0], edges[-1] = min(edges[0], least), max(edges[-1], greatest)
    return edges


def is_wide(least: float, greatest: float) -> bool:
    """Whether values from ``least`` to ``greatest`` are shown on a logarithmic scale."""
    return least > 0 and greatest / least > _WIDE


def _rounded(numbers: np.ndarray) -> np.ndarray:
    """Numbers to four significant digits."""
    with np.errstate(divide="ignore"):
        exponents = np.where(numbers > 0, np.floor(np.log10(numbers)), 0)
    decimals = _DIGITS - 1 - exponents
    # only multiplications with and divisions by whole powers of ten give the nearest floating-point number
    fine, coarse = 10.0 ** np.maximum(decimals, 0), 10.0 ** np.maximum(-decimals, 0)
    return np.round(numbers * fine / coarse) / fine * coarse
