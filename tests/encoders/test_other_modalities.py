"""Depth, thermal and inertial readings: media that are only ever shown to the model."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from nextgpt_pl.encoders import ImageBindEncoder, preprocessing
from nextgpt_pl.encoders.imagebind import ImageBindConfig, ImageBindModel, TowerConfig
from nextgpt_pl.errors import UserError
from nextgpt_pl.media import reading as media
from nextgpt_pl.modality import Modality
from nextgpt_pl.pipeline import AnyToAny
from nextgpt_pl.projections import MLPInputProjection
from nextgpt_pl.samples import Media

RNG = np.random.default_rng(0)
ARRAYS = {
    Modality.DEPTH: RNG.random((240, 320), np.float32) * 0.1,
    Modality.THERMAL: RNG.random((256, 300), np.float32),
    Modality.IMU: RNG.standard_normal((6, 1000)).astype(np.float32),
}
OTHERS = list(ARRAYS)


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    towers = {name: TowerConfig(16, 1, 2, scale=t.scale) for name, t in ImageBindConfig.huge().towers.items()}
    config = ImageBindConfig(12, towers, image_size=28)
    (tmp_path / "weights").mkdir()
    config.to_json(tmp_path / "weights" / "config.json")
    save_file(dict(ImageBindModel(config).state_dict()), tmp_path / "weights" / "model.safetensors")
    return tmp_path / "weights"


@pytest.mark.parametrize("patches", [False, True])
@pytest.mark.parametrize("modality", OTHERS)
def test_an_array_and_its_file_become_the_same_features(folder, tmp_path, modality, patches):
    encoder = ImageBindEncoder(str(folder), modalities=[modality.value], patches=patches)
    encoder.load()
    assert set(encoder.model.config.towers) == {modality.value}
    np.save(tmp_path / "a.npy", ARRAYS[modality])
    features = encoder.features(
        modality, [Media(modality, lambda: ARRAYS[modality]), Media(modality, tmp_path / "a.npy")], "cpu"
    )
    assert features.shape == (2, encoder.tokens(modality), 12)
    assert (encoder.tokens(modality) > 1) == patches
    assert torch.equal(features[0], features[1])
    other = encoder.features(modality, [Media(modality, ARRAYS[modality][:, ::-1].copy)], "cpu")
    assert not torch.allclose(other[0], features[0], atol=1e-4)


def test_disparity_is_normalised_as_upstreams_authors_say():
    depth = np.full((224, 224), 4.0)
    depth[0, 0] = 0.0
    found = preprocessing.disparity(depth, focal_length=500.0)
    assert found[1, 1] == pytest.approx(500 * 0.075 / 4)
    assert found[0, 0] == pytest.approx(500 * 0.075 / 0.01)
    plane = preprocessing.depth_map(np.full((224, 300), 0.0418 + 0.0295, np.float32), 224)
    assert plane.shape == (1, 224, 224)
    torch.testing.assert_close(plane, torch.ones(1, 224, 224), atol=1e-4, rtol=0)


def test_the_middle_is_cut_out_and_readings_are_interpolated():
    wide = np.zeros((100, 300), np.float32)
    wide[:, 100:200] = 1.0
    plane = preprocessing.thermal_map(wide, 50)
    assert plane[0, :, 5:45].min() == pytest.approx(1.0, abs=0.05)
    assert preprocessing.thermal_map(1 - wide, 50)[0, :, 5:45].max() == pytest.approx(0.0, abs=0.05)
    ramp = np.tile(np.linspace(0, 1, 11, dtype=np.float32), (6, 1))
    torch.testing.assert_close(preprocessing.motion(ramp, 101)[3], torch.linspace(0, 1, 101), atol=1e-6, rtol=0)


def test_they_are_shown_to_the_model_in_messages(network, folder):
    network.encoder = ImageBindEncoder(str(folder), modalities=[m.value for m in OTHERS], scale_logits=False)
    network.input_projection_factory = lambda c, h: MLPInputProjection(c, h, width=8, expand=2)
    network.load()
    chat = AnyToAny(network)
    assert set(network.input_projections) == {m.value for m in OTHERS}
    parts = [{"type": m.value, m.value: array} for m, array in ARRAYS.items()]
    message = {"role": "user", "content": [*parts, {"type": "text", "text": "What is this?"}]}
    (written,) = chat.write([[message]])
    assert [slot.modality for slot in written.slots] == OTHERS
    assert chat([message], modalities=[], max_new_tokens=3) is not None
    with pytest.raises(UserError, match="no decoder makes 'depth'"):
        chat([message], modalities=["depth"])


def test_mistakes_are_named(folder, tmp_path):
    with pytest.raises(UserError, match=r"x: imu arrays are floating-point \(6, n\), got float64 \(3, 4\)"):
        media.as_array(np.zeros((3, 4)), Modality.IMU, "x")
    with pytest.raises(UserError, match=r"thermal values must be in \[0, 1\], or uint8; got 0 to 40"):
        media.as_array(np.array([[0.0, 40.0]]), Modality.THERMAL, "x")
    assert media.as_array(np.array([[255]], np.uint8), Modality.THERMAL)[0] == 1.0
    with pytest.raises(UserError, match="not finite"):
        media.as_array(np.array([[np.inf]]), Modality.DEPTH, "x")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match=r"objects.npy: not a readable .npy file"):
        media.load_array(tmp_path / "objects.npy", Modality.DEPTH)
    with pytest.raises(UserError, match=r"has no tower for depth; it has \['vision', 'text', 'audio'\]"):
        ImageBindEncoder("pocket:encoder", modalities=["depth"]).load()
