import json

import numpy as np
import pytest
import torch
from torch import nn

from nextgpt_pl.metrics import FrechetDistance


@pytest.fixture(scope="module")
def golden(golden_folder):
    arrays = np.load(golden_folder / "fid.npz")
    real, fake = (torch.from_numpy(arrays[name]).double() for name in ("real", "fake"))
    return real, fake, json.loads((golden_folder / "fid.json").read_text())


def _filled(metric, real, fake, parts=3):
    for is_real, features in ((True, real), (False, fake)):
        for part in features.tensor_split(parts):
            metric.update(part, real=is_real)
    return metric


def test_frechet_distance_is_that_of_the_reference(golden):
    real, fake, fid = golden
    assert _filled(FrechetDistance(64), real, fake).compute().item() == pytest.approx(fid["scipy_sqrtm"], rel=1e-9)
    few = _filled(FrechetDistance(64), real[:40], fake[:40]).compute().item()
    assert few == pytest.approx(fid["n40_scipy"], rel=1e-6)
    assert _filled(FrechetDistance(64), real, real).compute().item() == pytest.approx(0, abs=1e-9)


def test_an_extractor_is_used_and_never_becomes_part_of_a_module():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.metric = FrechetDistance(4, nn.Linear(3, 4))

    model = Model()
    assert not list(model.parameters())
    assert not model.state_dict()
    model.metric.update(torch.randn(5, 3), real=True)
    assert model.metric.count.tolist() == [0, 5]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: _filled(FrechetDistance(4), torch.randn(5, 4), torch.randn(1, 4), 1),
            "at least 2 generated items.*got 1",
        ),
        (lambda: _filled(FrechetDistance(4), torch.ones(5, 4), torch.randn(5, 4)), "all 5 real items have equal"),
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
        (torch.ones(2, 3), r"shape \(2, 3\), expected \(items, 4\)"),
        (torch.ones(4), r"shape \(4,\), expected \(items, 4\)"),
    ],
)
def test_wrong_features_are_named(features, message):
    with pytest.raises(ValueError, match=message):
        FrechetDistance(4).update(features, real=True)
