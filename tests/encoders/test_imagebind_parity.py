"""Ours against upstream's ImageBind on small random weights, where its package is installed (extra ``imagebind``).

``import imagebind`` itself fails with present libraries; the module of its model does not, if the package is left
without initialisation.
"""

import importlib.util
import sys
import types

import pytest
import torch

from nextgpt_pl.encoders.imagebind import ImageBindConfig, ImageBindModel, TowerConfig

TOWERS = {
    "vision": TowerConfig(32, 2, 4),
    "text": TowerConfig(24, 3, 4, scale=1 / 0.07),
    "audio": TowerConfig(32, 2, 4, drop_path=0.1, scale=20.0),
    "depth": TowerConfig(24, 2, 4, scale=5.0),
    "thermal": TowerConfig(40, 2, 4, scale=10.0),
    "imu": TowerConfig(16, 2, 2, drop_path=0.7, scale=5.0),
}
INPUTS = {
    "vision": [(2, 3, 224, 224), (2, 3, 3, 2, 224, 224), (2, 3, 112, 112)],
    "audio": [(2, 3, 1, 128, 204)],
    "depth": [(2, 1, 224, 224)],
    "thermal": [(2, 1, 224, 224)],
    "imu": [(2, 6, 2000)],
}


@pytest.fixture(scope="module")
def theirs():
    spec = importlib.util.find_spec("imagebind")
    if spec is None:
        pytest.skip("upstream's ImageBind is not installed: pip install --no-deps imagebind-unofficial")
    package = types.ModuleType("imagebind")
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules["imagebind"] = package
    module = pytest.importorskip("imagebind.models.imagebind_model")
    sizes = {
        f"{name}_{key}": getattr(tower, field)
        for name, tower in TOWERS.items()
        for key, field in (("embed_dim", "width"), ("num_blocks", "blocks"), ("num_heads", "heads"))
    }
    torch.manual_seed(0)
    model = module.ImageBindModel(out_embed_dim=20, **sizes, audio_drop_path=0.1, imu_drop_path=0.7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    yield model.eval()
    del sys.modules["imagebind"]


@pytest.fixture(scope="module")
def ours(theirs):
    model = ImageBindModel(ImageBindConfig(20, TOWERS)).eval()
    model.load_published(theirs.state_dict())
    return model


@pytest.mark.parametrize(("tower", "shape"), [(tower, shape) for tower, shapes in INPUTS.items() for shape in shapes])
@torch.no_grad()
def test_towers_equal_upstreams(theirs, ours, tower, shape):
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(ours(tower, inputs), theirs({tower: inputs})[tower], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_text_tower_equals_upstreams(theirs, ours):
    ids = torch.randint(1, 49_000, (2, 77), generator=torch.Generator().manual_seed(1))
    ids[0, 10], ids[0, 11:], ids[1, 76] = 49_407, 0, 49_407
    torch.testing.assert_close(ours("text", ids), theirs({"text": ids})["text"], atol=1e-5, rtol=1e-5)


def test_the_state_dicts_have_the_same_keys(theirs, ours):
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}
