"""Ours against upstream's ImageBind on small weights: recorded outputs, and its package (extra ``imagebind``)."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_official import made_input, made_parameter
from safetensors.torch import save_file

from nextgpt_pl.encoders import ImageBindEncoder
from nextgpt_pl.encoders.imagebind import ImageBindConfig, ImageBindModel, TowerConfig
from nextgpt_pl.encoders.imagebind_package import ImageBindPackageEncoder, upstream_module
from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import Media

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
CASES = [(tower, shape) for tower, shapes in INPUTS.items() for shape in shapes]


GOLDEN = Path(__file__).parent.parent / "golden" / "imagebind_towers.npz"


def _upstream():
    """Upstream's network with the golden weights.

    Raises:
        UserError: the package is not installed.
    """
    module = upstream_module()
    sizes = {
        f"{name}_{key}": getattr(tower, field)
        for name, tower in TOWERS.items()
        for key, field in (("embed_dim", "width"), ("num_blocks", "blocks"), ("num_heads", "heads"))
    }
    model = module.ImageBindModel(out_embed_dim=20, **sizes, audio_drop_path=0.1, imu_drop_path=0.7)
    model.load_state_dict({**model.state_dict(), **_weights({n: p.shape for n, p in model.named_parameters()})})
    return model.eval()


def _weights(shapes):
    """Those of the formula; temperatures (without axes) keep their value."""
    return {name: made_parameter(name, tuple(shape)) for name, shape in shapes.items() if len(shape)}


def _inputs(tower, shape):
    return made_input(f"imagebind.{tower}", shape, 2.0)


def _ids():
    ids = ((made_input("imagebind.text", (2, 77)) + 1) * 24_000).long() + 1
    ids[0, 10], ids[0, 11:], ids[1, 76] = 49_407, 0, 49_407
    return ids


@torch.no_grad()
def record():
    """Writes the outputs of upstream's network: ``python -c "import test_imagebind_parity as t; t.record()"``."""
    theirs = _upstream()
    arrays = {"text": theirs({"text": _ids()})["text"].numpy()}
    for tower, shape in CASES:
        arrays[f"{tower} {shape}"] = theirs({tower: _inputs(tower, shape)})[tower].numpy()
    keys = [f"{name} {tuple(value.shape)}" for name, value in theirs.state_dict().items()]
    np.savez_compressed(GOLDEN, keys=np.array(keys), **arrays)


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN, allow_pickle=False) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def ours():
    model = ImageBindModel(ImageBindConfig(20, TOWERS)).eval()
    parameters = dict(model.named_parameters())
    model.load_published({**model.state_dict(), **_weights({name: p.shape for name, p in parameters.items()})})
    return model


@pytest.fixture(scope="module")
def theirs():
    try:
        yield _upstream()
    except UserError as error:
        pytest.skip(str(error))
    sys.modules.pop("imagebind", None)


@pytest.mark.parametrize(("tower", "shape"), CASES)
@torch.no_grad()
def test_towers_equal_upstreams(golden, ours, tower, shape):
    found = ours(tower, _inputs(tower, shape))
    torch.testing.assert_close(found, torch.from_numpy(golden[f"{tower} {shape}"]), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_text_tower_equals_upstreams(golden, ours):
    torch.testing.assert_close(ours("text", _ids()), torch.from_numpy(golden["text"]), atol=1e-5, rtol=1e-5)


def test_the_state_dicts_have_the_same_keys(golden, ours):
    assert sorted(f"{k} {tuple(v.shape)}" for k, v in ours.state_dict().items()) == sorted(golden["keys"].tolist())


@torch.no_grad()
def test_golden_outputs_are_those_of_the_installed_package(golden, theirs):
    for tower, shape in CASES:
        expected = torch.from_numpy(golden[f"{tower} {shape}"])
        torch.testing.assert_close(theirs({tower: _inputs(tower, shape)})[tower], expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(theirs({"text": _ids()})["text"], torch.from_numpy(golden["text"]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("scale_logits", [True, False])
def test_the_package_in_the_place_of_our_network_gives_the_same_features(theirs, tmp_path, scale_logits):
    config = ImageBindConfig(20, TOWERS)
    config.to_json(tmp_path / "config.json")
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    rng = np.random.default_rng(0)
    media = {
        Modality.IMAGE: rng.integers(0, 256, (60, 80, 3), dtype=np.uint8),
        Modality.VIDEO: rng.integers(0, 256, (8, 60, 80, 3), dtype=np.uint8),
        Modality.AUDIO: rng.normal(0, 0.1, 40_000).astype(np.float32),
    }
    sample = {m: Media(m, lambda a=a: a, 16_000, 4.0) for m, a in media.items()}
    options = {"video_clips": 2, "audio_clips": 2, "scale_logits": scale_logits}
    found = []
    for encoder_class in (ImageBindEncoder, ImageBindPackageEncoder):
        encoder = encoder_class(str(tmp_path), **options)
        encoder.load()
        assert set(encoder.model.modality_trunks) == {"vision", "audio"}
        found.append({m: encoder.features(m, [medium], torch.device("cpu")) for m, medium in sample.items()})
    for modality in media:
        torch.testing.assert_close(found[0][modality], found[1][modality], atol=1e-5, rtol=1e-5)


def test_what_the_package_cannot_do_is_said(theirs):
    with pytest.raises(UserError, match="image_size=224 alone"):
        ImageBindPackageEncoder("pocket:encoder").load()
    with pytest.raises(UserError, match=r"encoder\.patches"):
        ImageBindPackageEncoder("pocket:encoder", patches=True).load()
