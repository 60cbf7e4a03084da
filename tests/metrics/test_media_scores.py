import json

import numpy as np
import pytest
import torch
from torch import nn

from nextgpt_pl.metrics.media_scores import (
    FrechetDistance,
    InceptionScore,
    KernelDistance,
    PairedSimilarity,
)


@pytest.fixture(scope="module")
def golden(golden_folder):
    arrays = np.load(golden_folder / "fid.npz")
    real, fake = (torch.from_numpy(arrays[name]).double() for name in ("real", "fake"))
    audio = json.loads((golden_folder / "audio_metrics.json").read_text())
    fid = json.loads((golden_folder / "fid.json").read_text())
    return real, fake, audio, fid


def _filled(metric, real, fake, parts=3):
    for is_real, features in ((True, real), (False, fake)):
        for part in features.tensor_split(parts):
            metric.update(part, real=is_real)
    return metric


def test_frechet_distance_is_that_of_the_reference(golden):
    real, fake, _, fid = golden
    assert _filled(FrechetDistance(64), real, fake).compute().item() == pytest.approx(fid["scipy_sqrtm"], rel=1e-9)
    few = _filled(FrechetDistance(64), real[:40], fake[:40]).compute().item()
    assert few == pytest.approx(fid["n40_scipy"], rel=1e-6)
    assert _filled(FrechetDistance(64), real, real).compute().item() == pytest.approx(0, abs=1e-9)


def test_kernel_distance_is_that_of_the_reference(golden):
    real, fake, audio, _ = golden
    found = _filled(KernelDistance(), real, fake).compute()
    assert found["mean"].item() == pytest.approx(audio["kid_torchmetrics_poly_mmd_f64"], rel=1e-9)
    assert found["std"] == 0
    subsets = _filled(KernelDistance(subsets=200, subset_size=100), real, fake).compute()
    assert subsets["mean"].item() == pytest.approx(found["mean"].item(), rel=0.1)
    assert subsets["std"] > 0


def test_inception_score_is_that_of_the_reference(golden):
    _, fake, audio, _ = golden
    score = InceptionScore()
    score.update(fake[:, :10] * 3)
    wanted = audio["isc_logits=fake[:,:10]*3,splits=10,noshuffle"]
    assert score.compute()["mean"].item() == pytest.approx(wanted["inception_score_mean"], rel=1e-7)
    assert score.compute()["std"].item() == pytest.approx(wanted["inception_score_std"], rel=1e-6)


def test_similarity_is_the_mean_cosine_and_never_negative():
    metric = PairedSimilarity()
    metric.update(
        torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, -1.0], [1.0, 1.0]])
    )
    assert metric.compute().item() == pytest.approx((100 + 0 + 100 / 2**0.5) / 3)


def test_extractors_are_used_and_never_become_part_of_a_module():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.metrics = nn.ModuleList([FrechetDistance(4, nn.Linear(3, 4)), PairedSimilarity(nn.Linear(3, 4))])

    model = Model()
    assert not list(model.parameters())
    assert not model.state_dict()
    model.metrics[0].update(torch.randn(5, 3), real=True)
    assert model.metrics[0].count.tolist() == [0, 5]
    captions = PairedSimilarity(nn.Linear(3, 4), lambda texts: torch.ones(len(texts), 4))
    captions.update(torch.randn(2, 3), ["a", "b"])
    assert captions.count == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: _filled(FrechetDistance(4), torch.randn(5, 4), torch.randn(1, 4), 1),
            "at least 2 generated items.*got 1",
        ),
        (lambda: _filled(FrechetDistance(4), torch.ones(5, 4), torch.randn(5, 4)), "all 5 real items have equal"),
        (lambda: _filled(KernelDistance(), torch.randn(1, 4), torch.randn(5, 4), 1), "at least 2 real items"),
        (lambda: InceptionScore(splits=3), "at least 3 items"),
        (PairedSimilarity, "at least 1 pair"),
    ],
)
@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_too_little_to_say_anything_is_an_error(make, message):
    with pytest.raises(ValueError, match=message):
        make().compute()


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (torch.full((2, 4), float("nan")), "2 items have features that are not finite"),
        (torch.ones(2, 3), "3 features, num_features=4"),
        (torch.ones(4), "expected"),
    ],
)
def test_wrong_features_are_named(features, message):
    with pytest.raises(ValueError, match=message):
        FrechetDistance(4).update(features, real=True)
