import numpy as np
import pytest

from nextgpt_pl.data_stats.distribution import PERCENTILES, Distribution, edges_of


def _of(*parts):
    distribution = Distribution()
    for part in parts:
        distribution.add(part)
    return distribution


def test_percentiles_of_integers_are_exact_and_independent_of_the_parts():
    values = np.random.default_rng(0).integers(0, 9999, 5000)
    expected = np.percentile(values, PERCENTILES, method="inverted_cdf")
    for distribution in (_of(values), _of(values[:10], values[10:], [])):
        assert list(distribution.percentiles().values()) == expected.tolist()
        summary = distribution.summary()
        assert (summary["count"], summary["min"], summary["max"]) == (5000, values.min(), values.max())
        assert summary["mean"] == pytest.approx(values.mean())


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e9])
def test_memory_is_bounded_and_percentiles_are_near(scale):
    values = scale * np.random.default_rng(0).lognormal(0, 2, 300_000)
    distribution = _of(values)
    assert len(distribution.arrays()[0]) < 80_000
    expected = np.percentile(values, PERCENTILES, method="inverted_cdf")
    assert list(distribution.percentiles().values()) == pytest.approx(expected.tolist(), rel=1e-3)
    assert distribution.summary()["max"] == values.max()


def test_values_are_the_nearest_numbers():
    assert _of([0.3, 123_456, 0, 29.97, 1e-5, 16_000]).arrays()[0].tolist() == [0, 1e-5, 0.3, 29.97, 16_000, 123_500]


@pytest.mark.parametrize(
    "values",
    [[5], [0.1], [0.1, 0.2], [0, 1, 2], range(29), range(30), range(31), range(1000), [1, 10**9], [3.7, 4e8], [0, 1e6]],
)
def test_each_value_is_in_a_bin(values):
    values = list(values)
    summary = _of(values).summary()["histogram"]
    assert sum(summary["counts"]) == len(values)
    assert len(summary["counts"]) <= 31
    assert np.all(np.diff(summary["edges"]) > 0)


def test_bins_of_integers_hold_equal_numbers_of_integers():
    edges = edges_of([_of(range(20, 90)), _of(range(10, 20))])
    assert edges[0] == 9.5
    assert set(np.diff(edges)) == {3.0}
    assert _of(range(20, 89)).summary()["histogram"]["counts"] == [3] * 23


def test_nothing_has_no_distribution():
    assert Distribution().summary() == {"count": 0}
