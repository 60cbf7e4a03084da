import numpy as np
import pytest
import torch
from torch.nn import functional as F

from nextgpt_pl.encoders import ClipClapEncoder
from nextgpt_pl.errors import UserError
from nextgpt_pl.features import FeatureCache
from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.samples import Media

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A tiny CLIP of width 12 and a tiny CLAP of width 8, saved whole as the published ones are."""
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, CLIPConfig, CLIPImageProcessor, CLIPModel

    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("encoders")
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    clip = CLIPConfig(
        text_config={**small, "vocab_size": 20, "projection_dim": 12},
        vision_config={**small, "image_size": 16, "patch_size": 8, "projection_dim": 12},
        projection_dim=12,
    )
    CLIPModel(clip).save_pretrained(root / "clip")
    square = {"height": 16, "width": 16}
    CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=square).save_pretrained(root / "clip")
    audio = {"spec_size": 64, "num_mel_bins": 16, "patch_embeds_hidden_size": 8, "hidden_size": 16, "window_size": 4}
    audio |= {"depths": [1, 1], "num_attention_heads": [1, 1], "num_hidden_layers": 2, "patch_stride": [4, 4]}
    clap = ClapConfig(text_config={**small, "vocab_size": 20}, audio_config=audio, projection_dim=8)
    ClapModel(clap).save_pretrained(root / "clap")
    ClapFeatureExtractor(
        feature_size=16, sampling_rate=8_000, max_length_s=1, truncation="rand_trunc", padding="repeatpad"
    ).save_pretrained(root / "clap")
    return {"clip": str(root / "clip"), "clap": str(root / "clap")}


@pytest.fixture(scope="module")
def media():
    rng = np.random.default_rng(0)
    arrays = {
        Modality.IMAGE: rng.integers(0, 256, (20, 30, 3), dtype=np.uint8),
        Modality.VIDEO: rng.integers(0, 256, (9, 20, 30, 3), dtype=np.uint8),
        Modality.AUDIO: rng.normal(0, 0.1, 48_000).astype(np.float32),
    }
    return {m: Media(m, lambda a=a: a, 16_000, 4.0) for m, a in arrays.items()}


def _loaded(folders, **options):
    encoder = ClipClapEncoder(**folders, **options)
    encoder.load()
    return encoder


def test_features_are_the_networks_own_with_zeros_behind_the_narrower(folders, media):
    from transformers import ClapModel, CLIPModel

    encoder = _loaded(folders, video_frames=3)
    assert encoder.width(Modality.IMAGE) == 12
    found = {m: encoder.features(m, [medium, medium], CPU) for m, medium in media.items()}
    assert {tuple(f.shape) for f in found.values()} == {(2, 1, 12)}
    clip, clap = CLIPModel.from_pretrained(folders["clip"]), ClapModel.from_pretrained(folders["clap"])
    with torch.no_grad():
        pictures = encoder.prepare(media[Modality.VIDEO])
        direct = F.normalize(clip.get_image_features(pixel_values=pictures).pooler_output, dim=1)
        sound = clap.get_audio_features(input_features=encoder.prepare(media[Modality.AUDIO])[None]).pooler_output
    # longer than CLAP reads: the same part of it every time
    torch.testing.assert_close(encoder.prepare(media[Modality.AUDIO]), encoder.prepare(media[Modality.AUDIO]))
    torch.testing.assert_close(found[Modality.VIDEO][0, 0], direct.mean(0))
    torch.testing.assert_close(found[Modality.AUDIO][0, 0, :8], F.normalize(sound, dim=1)[0])
    assert not found[Modality.AUDIO][0, 0, 8:].any()


def test_only_what_is_asked_for_is_read_and_nothing_on_meta(folders):
    encoder = ClipClapEncoder(clip="/nowhere", clap=folders["clap"], modalities=["audio"])
    encoder.load()
    assert set(encoder.networks) == {"clap"}
    with torch.device("meta"):
        built = _loaded(folders)
    assert all(p.is_meta for p in built.parameters())
    assert {n: p.shape for n, p in built.named_parameters()} == {
        n: p.shape for n, p in _loaded(folders).named_parameters()
    }


def test_a_process_with_nothing_to_encode_has_something_of_the_same_shape(folders, media):
    encoder = _loaded(folders)
    for modality in GENERATED:
        assert encoder.blank(modality).shape[1:] == encoder.prepare(media[modality]).shape


def test_features_can_be_cached(folders, media, tmp_path):
    first = ClipClapEncoder(**folders)
    cache = FeatureCache(tmp_path)
    made = first.features(Modality.IMAGE, [media[Modality.IMAGE]], CPU, first.stores(cache))
    cache.flush()
    second = ClipClapEncoder(**folders)
    kept = second.features(Modality.IMAGE, [media[Modality.IMAGE]], CPU, second.stores(FeatureCache(tmp_path)))
    assert not second.loaded
    torch.testing.assert_close(kept, made, atol=1e-3, rtol=1e-3)


def test_what_it_cannot_read_is_said(folders):
    with pytest.raises(UserError, match="depth"):
        ClipClapEncoder(**folders, modalities=["depth"])
    with pytest.raises(UserError, match="/nowhere"):
        ClipClapEncoder(clip="/nowhere").width(Modality.IMAGE)
