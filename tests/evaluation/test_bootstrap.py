import numpy as np
import pytest

from nextgpt_pl.evaluation import bootstrap


def test_the_interval_of_a_mean_is_the_normal_one_for_many_items():
    scores = np.random.default_rng(0).normal(3.0, 2.0, 4_000)
    found = bootstrap.of_mean(scores)
    half = 1.96 * scores.std() / np.sqrt(len(scores))
    assert found.value == pytest.approx(scores.mean())
    assert found.low == pytest.approx(scores.mean() - half, abs=0.01)
    assert found.high == pytest.approx(scores.mean() + half, abs=0.01)


@pytest.mark.parametrize("count", [2, 300, 200_000])
def test_scores_that_share_their_resamples_have_the_intervals_of_each_alone(count):
    resamples = 20
    rng = np.random.default_rng(0)
    means = rng.normal(size=count), rng.random(count) < 0.3, rng.normal(size=count // 2)
    drawn = np.random.default_rng(5)
    naive = [means[0][drawn.integers(0, count, count)].mean() for _ in range(resamples)]
    found = bootstrap.of_means(means, seed=5, resamples=resamples)
    assert found == [bootstrap.of_mean(scores, seed=5, resamples=resamples) for scores in means]
    assert (found[0].low, found[0].high) == tuple(np.quantile(naive, [0.025, 0.975]))
    assert [estimate.count for estimate in found] == [count, count, count // 2]


def test_the_interval_of_a_set_comes_from_sets_drawn_anew():
    scores = np.arange(50.0)
    found = bootstrap.of_set(lambda chosen: float(np.median(scores[chosen])), 50)
    assert found.value == 24.5
    assert found.low < 24.5 < found.high
    assert bootstrap.of_set(lambda _: 1.0, 5, resamples=0) == bootstrap.Estimate(1.0, None, None, 5)


def test_an_interval_holds_the_score_also_where_drawing_twice_raises_it():
    points = np.random.default_rng(0).normal(size=(40, 16))

    def spread(chosen):
        """Falls with every item that is drawn twice."""
        return float(len(np.unique(points[chosen], axis=0)))

    found = bootstrap.of_set(spread, 40)
    assert found.value == 40
    assert found.low < 40 < found.high


def test_degenerate_scores_are_named():
    with pytest.raises(ValueError, match="no items"):
        bootstrap.of_mean(np.array([]))
    with pytest.raises(ValueError, match="1 of 2 scores are not finite"):
        bootstrap.of_mean(np.array([1.0, np.nan]))
    for resamples in (0, 100):
        with pytest.raises(ValueError, match="is nan"):
            bootstrap.of_set(lambda _: float("nan"), 3, resamples=resamples)
    with pytest.raises(ValueError, match="is inf"):
        bootstrap.of_error(float("inf"), 1.0, 3)


def test_a_single_item_or_an_unknown_error_has_no_interval():
    for found in (bootstrap.of_mean(np.array([2.0])), bootstrap.of_set(lambda _: 2.0, 1)):
        assert found == bootstrap.Estimate(2.0, None, None, 1)
    for error in (None, float("nan")):
        assert bootstrap.of_error(2.0, error, 5) == bootstrap.Estimate(2.0, None, None, 5)
    known = bootstrap.of_error(2.0, 1.0, 5)
    assert (known.low, known.high) == (pytest.approx(0.04), pytest.approx(3.96))


def test_a_weighted_sum_of_groups_has_the_interval_of_independent_groups():
    scores = np.random.default_rng(0).normal(3.0, 2.0, 2_000)
    groups = {"a": scores, "b": scores, "unused": np.array([9.0])}
    found = bootstrap.of_strata(groups, {"a": 0.8, "b": 0.6})
    # the standard error is that of one group, since 0.8 and 0.6 are the sides of a right triangle with hypotenuse 1
    half = 1.96 * scores.std() / np.sqrt(len(scores))
    assert found.value == pytest.approx(1.4 * scores.mean())
    assert found.count == 4_000
    assert found.high - found.low == pytest.approx(2 * half, rel=0.1)


def test_groups_of_one_item_have_no_interval_and_empty_ones_are_named():
    assert bootstrap.of_strata({"a": np.array([2.0]), "b": np.array([4.0])}, {"a": 0.5, "b": 0.5}).low is None
    with pytest.raises(ValueError, match="no items"):
        bootstrap.of_strata({"a": np.array([])}, {"a": 1.0})
