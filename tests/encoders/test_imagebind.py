from zlib import crc32

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from nextgpt_pl.encoders.imagebind import ImageBindConfig, ImageBindModel, TowerConfig


def procedural(name: str, shape: tuple[int, ...], scale: float) -> torch.Tensor:
    """The golden data's inputs, made from their name."""
    with np.errstate(over="ignore"):
        x = (np.uint64(crc32(name.encode())) << np.uint64(32)) + np.arange(np.prod(shape), dtype=np.uint64)
        x += np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    u = (x >> np.uint64(11)).astype(np.float64) / 2**53
    return torch.from_numpy((scale * (2 * u - 1)).astype(np.float32).reshape(shape))


def test_huge_has_the_published_keys_and_parameters():
    with torch.device("meta"):
        model = ImageBindModel(ImageBindConfig.huge())
    assert len(model.state_dict()) == 1311
    assert sum(p.numel() for p in model.parameters()) == 1_200_781_057


def test_a_tower_that_is_not_asked_for_is_not_built():
    with torch.device("meta"):
        model = ImageBindModel(ImageBindConfig.huge(("vision",)))
    assert {name.split(".")[1] for name in model.state_dict()} == {"vision"}


@pytest.fixture
def golden(shared):
    folder = shared / "golden" / "official" / "imagebind_tiny"
    towers = {"vision": TowerConfig(32, 2, 4), "audio": TowerConfig(32, 2, 4, drop_path=0.1, scale=20.0)}
    model = ImageBindModel(ImageBindConfig(24, towers)).eval()
    model.load_published(load_file(folder / "weights.safetensors"))
    inputs = {
        "image": procedural("ib.image", (2, 3, 224, 224), 2.0),
        "video": procedural("ib.video", (1, 2, 3, 2, 224, 224), 2.0),
        "audio": procedural("ib.audio", (2, 3, 1, 128, 204), 1.0),
    }
    return model, inputs, folder


@pytest.mark.parametrize("medium", ["image", "video", "audio"])
def test_pooled_outputs_equal_the_official_ones(golden, medium):
    model, inputs, folder = golden
    expected = load_file(folder / "outputs_legacy_pooled.safetensors")
    tower = "audio" if medium == "audio" else "vision"
    with torch.no_grad():
        ours = model(tower, inputs[medium], scale=False)
        scaled = model(tower, inputs[medium])
    theirs = next(v for k, v in expected.items() if medium in k)
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=0)
    torch.testing.assert_close(scaled, ours * (20.0 if medium == "audio" else 1.0), atol=1e-4, rtol=1e-4)


def test_token_outputs_equal_the_official_ones(golden):
    model, inputs, folder = golden
    expected = load_file(folder / "outputs_new_tokens.safetensors")
    with torch.no_grad():
        ours = model("vision", inputs["image"][:1], scale=False, all_tokens=True)
    theirs = next(v for k, v in expected.items() if "image" in k)
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=0)


def test_missing_and_unknown_keys_are_named():
    model = ImageBindModel(ImageBindConfig.pocket(100, 2))
    weights = dict(model.state_dict())
    weights.pop("modality_heads.vision.2.weight")
    weights["modality_heads.smell.0.weight"] = torch.zeros(1)
    with pytest.raises(KeyError, match=r"missing \['modality_heads.vision.2.weight'\].*smell"):
        model.load_published(weights)


def test_pocket_reads_pictures_clips_sounds_and_texts(tmp_path):
    config = ImageBindConfig.pocket(100, eos_token_id=2)
    config.to_json(tmp_path / "config.json")
    assert ImageBindConfig.from_json(tmp_path / "config.json") == config
    model = ImageBindModel(config).eval()
    inputs = {
        "vision": [torch.rand(2, 3, 64, 64), torch.rand(2, 4, 3, 2, 64, 64), torch.rand(2, 3, 96, 96)],
        "audio": [torch.rand(2, 1, 1, 64, 200)],
        "text": [torch.tensor([[1, 5, 2, 0], [1, 6, 7, 2]])],
    }
    for tower, batches in inputs.items():
        for batch in batches:
            out = model(tower, batch, scale=False)
            assert out.shape == (2, 128)
            if batch.ndim < 6:
                torch.testing.assert_close(out.norm(dim=-1), torch.ones(2))


def test_text_behind_its_end_changes_nothing():
    model = ImageBindModel(ImageBindConfig.pocket(100, eos_token_id=2)).eval()
    a, b = model("text", torch.tensor([[1, 5, 2, 0, 0]])), model("text", torch.tensor([[1, 5, 2, 9, 8]]))
    torch.testing.assert_close(a, b)
