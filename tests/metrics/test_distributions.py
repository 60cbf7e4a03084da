import json

import numpy as np
import pytest
import torch

from nextgpt_pl.metrics.distributions import (
    frechet_distance,
    frechet_distance_to,
    inception_score,
    kernel_distance,
    kernel_error,
    similarity,
)


@pytest.fixture(scope="module")
def golden(golden_folder):
    arrays = np.load(golden_folder / "fid.npz")
    real, fake = (torch.from_numpy(arrays[name]).double() for name in ("real", "fake"))
    return real, fake, json.loads((golden_folder / "audio_metrics.json").read_text())


def test_distances_to_one_distribution_compute_its_root_once(golden, monkeypatch):
    real, fake, _ = golden
    roots, root = [], torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", lambda matrix: roots.append(matrix) or root(matrix))
    distance = frechet_distance_to(real.mean(0), torch.cov(real.T))
    found = [float(distance(part.mean(0), torch.cov(part.T))) for part in fake.split(200)]
    assert len(roots) == 1
    for part, value in zip(fake.split(200), found, strict=True):
        expected = frechet_distance(part.mean(0), torch.cov(part.T), real.mean(0), torch.cov(real.T))
        assert value == pytest.approx(float(expected), rel=1e-9)


def test_kernel_distance_is_that_of_the_reference(golden):
    real, fake, audio = golden
    mean, deviation = kernel_distance(fake, real)
    assert mean.item() == pytest.approx(audio["kid_torchmetrics_poly_mmd_f64"], rel=1e-9)
    assert deviation == 0
    mean_of_subsets, deviation = kernel_distance(fake, real, subsets=200, subset_size=100)
    assert mean_of_subsets.item() == pytest.approx(mean.item(), rel=0.1)
    assert deviation > 0


def test_inception_score_is_that_of_the_reference(golden):
    _, fake, audio = golden
    mean, deviation = inception_score(fake[:, :10] * 3)
    wanted = audio["isc_logits=fake[:,:10]*3,splits=10,noshuffle"]
    assert mean.item() == pytest.approx(wanted["inception_score_mean"], rel=1e-7)
    assert deviation.item() == pytest.approx(wanted["inception_score_std"], rel=1e-6)


def test_fewer_items_than_splits_are_an_error():
    with pytest.raises(ValueError, match="at least 3 items are needed for 3 splits, got 2"):
        inception_score(torch.ones(2, 4), splits=3)


def test_similarity_is_the_cosine_and_never_negative():
    found = similarity(
        torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, -1.0], [1.0, 1.0]])
    )
    assert found.tolist() == pytest.approx([100, 0, 100 / 2**0.5])


def test_the_error_is_that_of_leaving_out_each_item_once():
    torch.manual_seed(0)
    a, b = torch.randn(7, 3), torch.randn(5, 3) + 0.5

    def whole(x, y):
        """On all items; sets of two sizes give it as a mean over pairs."""
        kernel = [(p.double() @ q.double().T / 3 + 1) ** 3 for p, q in ((x, x), (y, y), (x, y))]
        within = [(k.sum() - k.trace()) / (len(k) * (len(k) - 1)) for k in kernel[:2]]
        return within[0] + within[1] - 2 * kernel[2].mean()

    assert float(whole(a[:5], b)) == pytest.approx(float(kernel_distance(a[:5], b)[0]))
    wanted = 0.0
    for changed in (0, 1):
        sets = (a, b)
        rows = len(sets[changed])
        keep = [[i for i in range(rows) if i != out] for out in range(rows)]
        found = torch.stack([whole(*(s[k] if n == changed else s for n, s in enumerate(sets))) for k in keep])
        wanted += (rows - 1) / rows * (found - found.mean()).square().sum()
    assert float(kernel_error(a, b, block=2)) == pytest.approx(float(wanted.sqrt()))


def test_the_error_is_the_deviation_over_sets_drawn_anew():
    torch.manual_seed(0)
    sets = [(torch.randn(60, 4), torch.randn(60, 4) * 1.3 + 0.3) for _ in range(300)]
    spread = torch.stack([kernel_distance(*pair)[0] for pair in sets]).std()
    said = torch.stack([kernel_error(*pair) for pair in sets]).square().mean().sqrt()
    assert float(said) == pytest.approx(float(spread), rel=0.2)
