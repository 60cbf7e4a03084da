import pytest
import torch

from nextgpt_pl.encoders.imagebind import ImageBindConfig, ImageBindModel


def test_huge_has_the_published_keys_and_parameters():
    with torch.device("meta"):
        model = ImageBindModel(ImageBindConfig.huge())
    assert len(model.state_dict()) == 1311
    assert sum(p.numel() for p in model.parameters()) == 1_200_781_057


def test_a_tower_that_is_not_asked_for_is_not_built():
    with torch.device("meta"):
        model = ImageBindModel(ImageBindConfig.huge(("vision",)))
    assert {name.split(".")[1] for name in model.state_dict()} == {"vision"}


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
