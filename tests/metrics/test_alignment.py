import pytest
import torch

from nextgpt_pl.metrics import AlignmentQuality


def test_values_and_independence_of_batching():
    torch.manual_seed(0)
    predicted, target = torch.randn(10, 3, 4), torch.randn(10, 3, 4)
    whole, parts = AlignmentQuality((3, 4)), AlignmentQuality((3, 4))
    whole.update(predicted, target)
    for index in range(0, 10, 3):
        parts.update(predicted[index : index + 3], target[index : index + 3])
    values = whole.compute()
    for name, value in parts.compute().items():
        torch.testing.assert_close(value, values[name])
    baseline = (target - target.mean(0)).square().mean()
    torch.testing.assert_close(values["relative_mse"], ((predicted - target).square().mean() / baseline))


def test_the_mean_scores_one_and_the_truth_zero():
    target = torch.randn(8, 2, 5)
    for guess, score in ((target.mean(0).expand(8, -1, -1), 1.0), (target, 0.0)):
        metric = AlignmentQuality((2, 5))
        metric.update(guess, target)
        assert metric.compute()["relative_mse"].item() == pytest.approx(score, abs=1e-6)


def test_degenerate_sets_are_refused():
    metric = AlignmentQuality((1, 2))
    metric.update(torch.ones(1, 1, 2), torch.ones(1, 1, 2))
    with pytest.raises(ValueError, match="at least 2"):
        metric.compute()
    metric.update(torch.ones(3, 1, 2), torch.ones(3, 1, 2))
    with pytest.raises(ValueError, match="all caption embeddings are equal"):
        metric.compute()
