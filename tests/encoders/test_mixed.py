from functools import partial

import numpy as np
import pytest
import tiny_towers
import torch

from nextgpt_pl.adapter import load_adapter, save_adapter
from nextgpt_pl.config.trust import instantiate
from nextgpt_pl.encoders import Encoder, ImageBindEncoder, MixedEncoder, PretrainedEncoder
from nextgpt_pl.errors import UserError
from nextgpt_pl.features import FeatureCache
from nextgpt_pl.llm import CausalLM
from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.model import NextGPT
from nextgpt_pl.projections import MLPInputProjection
from nextgpt_pl.samples import Media

IMAGE, VIDEO, AUDIO = GENERATED


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("towers")
    torch.manual_seed(0)
    for save in (tiny_towers.clip, tiny_towers.whisper, tiny_towers.vjepa2):
        save(root / save.__name__)
    return root


@pytest.fixture(scope="module")
def media():
    rng = np.random.default_rng(0)
    arrays = {
        IMAGE: rng.integers(0, 256, (20, 30, 3), dtype=np.uint8),
        VIDEO: rng.integers(0, 256, (9, 20, 30, 3), dtype=np.uint8),
        AUDIO: rng.normal(0, 0.1, 16_000).astype(np.float32),
    }
    return {m: Media(m, lambda a=a: a, 16_000, 4.0) for m, a in arrays.items()}


def _parts(folders):
    return {
        "hearing": PretrainedEncoder(str(folders / "whisper"), ["audio"], "patches", [5]),
        "sight": PretrainedEncoder(str(folders / "clip"), ["image"]),
        "motion": PretrainedEncoder(str(folders / "vjepa2"), ["video"], "patches", [1, 2, 2]),
    }


def _mix(folders):
    return MixedEncoder(_parts(folders))


def test_widths_and_numbers_of_features_are_those_of_each_modality(folders, media):
    mix = _mix(folders)
    assert mix.modalities == (IMAGE, VIDEO, AUDIO)
    shapes = {m: (mix.tokens(m), mix.width(m)) for m in mix.modalities}
    assert shapes == {IMAGE: (1, 12), VIDEO: (4, 24), AUDIO: (5, 16)}
    alone = {m: part for part in _parts(folders).values() for m in part.modalities}
    for modality, medium in media.items():
        features = mix.features(modality, [medium, medium], "cpu")
        assert features.shape == (2, *shapes[modality])
        assert torch.equal(features, alone[modality].features(modality, [medium, medium], "cpu"))
        assert mix.features(modality, [], "cpu").shape == (0, *shapes[modality])


def test_only_the_encoder_of_a_missing_feature_is_loaded(folders, media):
    mix = _mix(folders)
    mix.features(AUDIO, [media[AUDIO]], "cpu")
    assert [m for m in mix.modalities if mix.of(m).loaded] == [AUDIO]
    assert not mix.loaded
    mix.load()
    assert mix.loaded
    assert list(mix.parameter_counts()) == ["hearing", "sight", "motion"]
    assert len(mix.blocks()) == 6


def test_the_cache_is_that_of_the_encoders_alone(folders, media, tmp_path):
    alone = _parts(folders)["sight"]
    made = alone.features(IMAGE, [media[IMAGE]], "cpu", alone.stores(FeatureCache(tmp_path, "float32")))
    alone_cache = FeatureCache(tmp_path, "float32")
    alone.features(IMAGE, [media[IMAGE]], "cpu", alone.stores(alone_cache))
    alone_cache.flush()
    mix = _mix(folders)
    kept = mix.features(IMAGE, [media[IMAGE]], "cpu", mix.stores(FeatureCache(tmp_path, "float32")))
    assert torch.equal(kept, made)
    assert not mix.of(IMAGE).loaded


def _network(encoder, **options):
    torch.manual_seed(0)
    return NextGPT(
        llm=CausalLM("pocket:llm"),
        encoder=encoder,
        input_projection=partial(MLPInputProjection, width=8, expand=2),
        **options,
    )


def test_each_modality_has_a_projection_of_its_width_and_takes_its_slots(folders, tmp_path):
    network = _network(_mix(folders))
    assert {m: network.slot_length(m) for m in GENERATED} == {IMAGE: 2, VIDEO: 8, AUDIO: 10}
    network.load()
    widths = {name: p.mlp[0].in_features for name, p in network.input_projections.items()}
    assert widths == {"image": 12, "video": 24, "audio": 16}
    keys = [n for n, _ in network.named_parameters() if n.startswith("input_projections.")]
    save_adapter(tmp_path, network, keys, stage="EncoderAlignment")
    again = _network(_mix(folders))
    again.load()
    with torch.no_grad():
        for projection in again.input_projections.parameters():
            projection.zero_()
    load_adapter(tmp_path, again)
    named = dict(again.named_parameters())
    assert all(torch.equal(named[key], dict(network.named_parameters())[key]) for key in keys)


def test_an_adapter_of_other_widths_is_refused(folders, tmp_path):
    network = _network(_mix(folders))
    network.load()
    keys = [n for n, _ in network.named_parameters() if n.startswith("input_projections.")]
    save_adapter(tmp_path, network, keys, stage="EncoderAlignment")
    other = _network(ImageBindEncoder("pocket:encoder", video_clips=1, audio_clips=1))
    other.load()
    with pytest.raises(UserError, match=r"input_projections\.audio\.mlp\.0\.weight: \(8, 16\) there"):
        load_adapter(tmp_path, other)


def test_one_projection_needs_one_width(folders):
    with pytest.raises(UserError, match=r"network\.share_input_projection=true: .*image 12, video 24, audio 16"):
        _network(_mix(folders), share_input_projection=True).load()


def test_wrong_mixes_are_named(folders):
    def tower(*modalities):
        return PretrainedEncoder(str(folders / "clip"), list(modalities))

    with pytest.raises(UserError, match=r"encoder\.encoders: video is read by 'a' and by 'b'"):
        MixedEncoder({"a": tower("image", "video"), "b": tower("video")})
    with pytest.raises(UserError, match=r"encoder\.encoders=\{\}"):
        MixedEncoder({})
    with pytest.raises(UserError, match=r"encoder\.encoders: 'a\.b' is no name"):
        MixedEncoder({"a.b": tower("image")})


def test_yaml_names_it(folders):
    def spec(name, **arguments):
        return {"class_path": f"nextgpt_pl.encoders.{name}", "init_args": arguments}

    parts = {
        "items": spec("PretrainedEncoder", path=str(folders / "clip"), modalities=["image", "video"]),
        "hearing": spec("ImageBindEncoder", weights="pocket:encoder", modalities=["audio"]),
    }
    mix = instantiate(spec("MixedEncoder", encoders=parts), Encoder, "encoder")
    assert mix.modalities == (IMAGE, VIDEO, AUDIO)
    assert isinstance(mix.of(AUDIO), ImageBindEncoder)
    assert mix.width(Modality.IMAGE) == 12
