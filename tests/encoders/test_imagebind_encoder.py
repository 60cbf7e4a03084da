import hashlib

import pytest
import torch
from safetensors.torch import save_file

from nextgpt_pl.encoders import ImageBindEncoder
from nextgpt_pl.encoders.imagebind import ImageBindConfig, ImageBindModel, TowerConfig
from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.pocket.world import items


@pytest.fixture
def folder(tmp_path):
    config = ImageBindConfig.pocket(100, eos_token_id=2)
    config.to_json(tmp_path / "config.json")
    save_file(dict(ImageBindModel(config).state_dict()), tmp_path / "model.safetensors")
    return tmp_path


@pytest.mark.parametrize("modality", GENERATED)
def test_a_medium_becomes_one_feature(folder, modality):
    encoder = ImageBindEncoder(str(folder), video_clips=4, audio_clips=1)
    encoder.load()
    media = [items.captioned_pair("train", modality, i).media for i in range(2)]
    features = encoder(modality, torch.stack([encoder.prepare(m) for m in media]))
    assert features.shape == (2, 1, encoder.width(Modality.IMAGE))
    assert not torch.allclose(features[0], features[1])


@pytest.mark.parametrize("modality", GENERATED)
def test_a_medium_becomes_one_feature_per_patch(folder, modality):
    encoder = ImageBindEncoder(str(folder), video_clips=2, audio_clips=1, patches=True)
    encoder.load()
    medium = items.captioned_pair("train", modality, 0).media
    features = encoder(modality, torch.stack([encoder.prepare(medium)]))
    assert features.shape == (1, encoder.tokens(modality), encoder.width(modality))
    assert encoder.tokens(modality) > 10
    assert features[0].std(0).mean() > 1e-3


def test_it_stays_frozen_and_in_evaluation_mode(folder):
    encoder = ImageBindEncoder(str(folder))
    encoder.load()
    encoder.train()
    assert not any(m.training for m in encoder.modules())
    assert not any(p.requires_grad for p in encoder.parameters())


def test_towers_not_asked_for_are_not_built(folder):
    encoder = ImageBindEncoder(str(folder), modalities=["audio"])
    encoder.load()
    assert set(encoder.model.config.towers) == {"audio"}


def test_towers_not_asked_for_are_not_read(folder, monkeypatch):
    """Not even their bytes: the file of the published weights is 4.8 GB, its vision and audio towers 2.9 GB."""
    import safetensors

    read, opened = [], safetensors.safe_open

    class Watched:
        def __init__(self, *arguments):
            self.file = opened(*arguments)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def keys(self):
            return self.file.keys()

        def get_tensor(self, key):
            read.append(key.split(".")[1])
            return self.file.get_tensor(key)

    monkeypatch.setattr(safetensors, "safe_open", Watched)
    ImageBindEncoder(str(folder), modalities=["audio"]).load()
    assert set(read) == {"audio"}


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A file as published (all towers, ``.pth``), small, where the code looks for the size of the real one."""
    towers = {name: TowerConfig(16, 1, 2, scale=t.scale) for name, t in ImageBindConfig.huge().towers.items()}
    small = ImageBindConfig(12, towers)
    monkeypatch.setattr(ImageBindConfig, "huge", classmethod(lambda _: small))
    torch.save(ImageBindModel(small).state_dict(), tmp_path / "imagebind_huge.pth")
    return tmp_path / "imagebind_huge.pth"


def test_a_published_file_is_read_from_a_url_once_and_checked(published, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "cache"))
    digest, url = hashlib.sha256(published.read_bytes()).hexdigest(), published.as_uri()
    encoder = ImageBindEncoder(url, sha256=digest)
    assert encoder.width(Modality.IMAGE) == 12
    assert not (tmp_path / "cache").exists()
    encoder.load()
    expected = torch.load(published, weights_only=True)["modality_heads.audio.2.weight"]
    assert torch.equal(encoder.model.state_dict()["modality_heads.audio.2.weight"], expected)
    published.unlink()
    ImageBindEncoder(url, sha256=digest).load()
    with pytest.raises(UserError, match=r"the sha256 of .*, not 0"):
        ImageBindEncoder(url, sha256="0").load()
    with pytest.raises(UserError, match="or download it and give the file's path"):
        ImageBindEncoder(f"{url}.other", sha256=digest).load()
    with pytest.raises(UserError, match=r"a URL needs encoder.sha256"):
        ImageBindEncoder(url)


def test_huge_on_meta_reads_nothing():
    encoder = ImageBindEncoder("imagebind_huge.pth")
    with torch.device("meta"):
        encoder.load()
    assert encoder.width(Modality.IMAGE) == 1024


def test_mistakes_are_named(folder, tmp_path):
    with pytest.raises(UserError, match="no such file"):
        ImageBindEncoder(str(tmp_path / "none.pth")).load()
    with pytest.raises(UserError, match="the sha256 of"):
        ImageBindEncoder(str(folder), sha256="0").load()
    with pytest.raises(UserError, match="smell"):
        ImageBindEncoder(str(folder), modalities=["smell"])
    save_file({"modality_heads.vision.0.bias": torch.zeros(128)}, folder / "model.safetensors")
    with pytest.raises(UserError, match="missing"):
        ImageBindEncoder(str(folder)).load()
