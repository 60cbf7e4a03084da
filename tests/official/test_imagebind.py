"""A tiny ImageBind with the official weights' names, read as our encoder reads them."""

import shutil

import pytest
import torch
from safetensors.torch import load_file

from nextgpt_pl.encoders import ImageBindEncoder
from nextgpt_pl.encoders.imagebind import ImageBindConfig, TowerConfig
from nextgpt_pl.modality import GENERATED, Modality

INPUTS = {
    Modality.IMAGE: ("ib.image", (2, 3, 224, 224), 2.0),
    Modality.VIDEO: ("ib.video", (1, 2, 3, 2, 224, 224), 2.0),
    Modality.AUDIO: ("ib.audio", (2, 3, 1, 128, 204), 1.0),
}


@pytest.fixture
def features(official, tmp_path, made_input):
    towers = {"vision": TowerConfig(32, 2, 4), "audio": TowerConfig(32, 2, 4, drop_path=0.1, scale=20.0)}
    ImageBindConfig(24, towers).to_json(tmp_path / "config.json")
    shutil.copy(official / "imagebind_tiny" / "weights.safetensors", tmp_path / "model.safetensors")

    def run(medium, **arguments):
        encoder = ImageBindEncoder(str(tmp_path), modalities=[medium.value], **arguments)
        encoder.load()
        encoder.train()  # as a stage does: the encoder has to stay without drop path
        return encoder(medium, made_input(*INPUTS[medium]))

    return run


@pytest.mark.parametrize("medium", GENERATED)
def test_pooled_features_are_the_legacy_ones(official, features, medium):
    expected = load_file(official / "imagebind_tiny" / "outputs_legacy_pooled.safetensors")[medium.value]
    ours = features(medium, scale_logits=False)
    torch.testing.assert_close(ours[:, 0], expected, atol=2e-5, rtol=1e-5)
    scaled = features(medium, scale_logits=True)
    torch.testing.assert_close(scaled, ours * (20.0 if medium is Modality.AUDIO else 1.0), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("medium", GENERATED)
def test_patch_features_are_those_of_the_newer_code(official, features, medium):
    expected = load_file(official / "imagebind_tiny" / "outputs_new_tokens.safetensors")
    ours = features(medium, scale_logits=False, patches=True)
    if medium is Modality.IMAGE:
        torch.testing.assert_close(ours[:1], expected["image"], atol=2e-5, rtol=1e-5)
        return
    torch.testing.assert_close(ours[:, :16], expected[f"{medium}_first_tokens"], atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(ours.sum(1), expected[f"{medium}_sum"], atol=1e-4, rtol=1e-4)
