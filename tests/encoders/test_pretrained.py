import pickle
from pathlib import Path

import numpy as np
import pytest
import tiny_towers
import torch

from nextgpt_pl.config.trust import instantiate
from nextgpt_pl.encoders import Encoder, PretrainedEncoder
from nextgpt_pl.encoders.families import FAMILIES
from nextgpt_pl.encoders.preprocessing import sound_windows
from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import Media

IMAGE, VIDEO, AUDIO = Modality.IMAGE, Modality.VIDEO, Modality.AUDIO


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Makes the folder of a tower, once."""
    root = tmp_path_factory.mktemp("towers")

    def made(save):
        if not (root / save.__name__).is_dir():
            torch.manual_seed(0)
            save(root / save.__name__)
        return str(root / save.__name__)

    return made


def _encoder(folder, save, modalities, *arguments, **options):
    return PretrainedEncoder(folder(save), modalities, *arguments, **options)


def _sound(seconds, rate=16_000):
    samples = np.random.default_rng(0).normal(0, 0.1, int(seconds * rate)).astype(np.float32)
    return Media(AUDIO, lambda: samples, rate)


def test_whisper_gives_as_many_tokens_as_the_yaml_says(folder):
    encoder = _encoder(folder, tiny_towers.whisper, ["audio"], "patches", [10], windows=3)
    assert encoder.feature_grid(AUDIO) == (10, 1, 1)
    assert encoder.features(AUDIO, [_sound(2.5)], "cpu").shape == (1, 10, 16)
    assert _encoder(folder, tiny_towers.whisper, ["audio"], "patches", windows=3).tokens(AUDIO) == 150


def test_windows_follow_each_other_and_are_spread_over_a_longer_sound():
    samples = np.arange(1, 1001, dtype=np.float32)
    assert [w[0] for w in sound_windows(samples, 100, 100, 400, 3)] == [1, 401, 801]
    assert [len(w) for w in sound_windows(samples, 100, 100, 400, 3)] == [400, 400, 200]
    silent = sound_windows(samples, 100, 100, 600, 3)
    assert [len(w) for w in silent] == [600, 400, 600]
    assert not silent[2].any()
    assert [w[0] for w in sound_windows(samples, 100, 100, 200, 3)] == [1, 401, 801]
    assert [(w[0], len(w)) for w in sound_windows(samples, 100, 100, 200, 1)] == [(1, 200)]


def test_a_window_of_a_long_sound_is_that_window_alone(folder):
    encoder = _encoder(folder, tiny_towers.whisper, ["audio"], "patches", windows=2)
    long, first = _sound(2), _sound(2)
    first = Media(AUDIO, lambda source=first.source: source()[:16_000], 16_000)
    both, alone = (encoder.features(AUDIO, [medium], "cpu")[0] for medium in (long, first))
    torch.testing.assert_close(both[:50], alone[:50])
    assert not torch.allclose(both[50:], alone[50:])


def test_frames_of_a_video_are_read_evenly(folder):
    encoder = _encoder(folder, tiny_towers.vjepa2, ["video"], "patches", frames=6)
    frames = np.random.default_rng(0).integers(0, 256, (11, 24, 24, 3), dtype=np.uint8)
    prepared = encoder.prepare(Media(VIDEO, lambda: frames, fps=4.0))
    chosen = encoder.prepare(Media(VIDEO, lambda: frames[::2], fps=4.0))
    assert prepared.shape == (1, 6, 3, 24, 24)
    assert torch.equal(prepared, chosen)
    assert encoder.feature_grid(VIDEO) == (3, 3, 3)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_have_their_own_dtype_also_under_autocast(dtype, folder):
    encoder = _encoder(folder, tiny_towers.siglip, ["image"], "patches", dtype=dtype)
    picture = Media(IMAGE, lambda: np.full((9, 9, 3), 77, np.uint8))
    plain = encoder.features(IMAGE, [picture], "cpu")
    assert {p.dtype for p in encoder.parameters()} == {getattr(torch, dtype)}
    assert plain.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(encoder.features(IMAGE, [picture], "cpu"), plain)


def test_the_key_of_features_has_all_that_they_depend_on(folder):
    changes = [{}, {"features": "patches"}, {"grid": [2]}, {"frames": 3}, {"dtype": "bfloat16"}]
    described = [
        _encoder(folder, tiny_towers.clip, ["video"], **{"frames": 4, **change}).producer(VIDEO) for change in changes
    ]
    assert len({str(d) for d in described}) == len(changes)
    other = _encoder(folder, tiny_towers.dinov2, ["video"], frames=4).producer(VIDEO)
    assert other["weights"] != described[0]["weights"]
    # the number of frames is not that of images
    of_images = [_encoder(folder, tiny_towers.clip, ["image"], frames=n).producer(IMAGE) for n in (2, 3)]
    assert of_images[0] == of_images[1]


def test_preparation_can_be_sent_to_a_worker(folder):
    encoder = _encoder(folder, tiny_towers.dinov2, ["image"])
    picture = Media(IMAGE, _picture)
    before = pickle.dumps(encoder.prepare)
    expected = encoder.prepare(picture)  # its processor is read now
    for sent in (before, pickle.dumps(encoder.prepare)):
        assert len(sent) < 20_000
        assert torch.equal(pickle.loads(sent)(picture), expected)


@pytest.mark.filterwarnings("error")
def test_read_only_pictures_are_read_without_a_warning(folder):
    picture, encoder = _picture(), _encoder(folder, tiny_towers.dinov2, ["image"])
    picture.setflags(write=False)
    assert torch.equal(encoder.prepare(Media(IMAGE, lambda: picture)), encoder.prepare(Media(IMAGE, _picture)))


def _picture():
    return np.arange(900, dtype=np.uint8).reshape(15, 20, 3)


def test_yaml_names_it(folder):
    arguments = {"path": folder(tiny_towers.siglip), "modalities": ["image"], "features": "patches", "grid": [2, 2]}
    spec = {"class_path": "nextgpt_pl.encoders.PretrainedEncoder", "init_args": arguments}
    assert instantiate(spec, Encoder, "encoder").tokens(IMAGE) == 4


@pytest.mark.parametrize(
    ("save", "modalities", "options", "message"),
    [
        ("siglip", ["image", "image"], {}, r"modalities=\['image', 'image'\]: a modality is named twice"),
        ("siglip", [], {}, r"modalities=\[\]"),
        ("siglip", ["smell"], {}, "smell"),
        ("siglip", ["audio"], {}, r"modalities: audio: '.*siglip' reads image, video"),
        ("whisper", ["image"], {}, r"modalities: image: '.*whisper' reads audio"),
        ("siglip", ["image"], {"features": "patches", "grid": [4, 3]}, r"grid=\[4, 3\]: .*image are 1 x 3 x 3"),
        ("siglip", ["image"], {"features": "patches", "grid": [0, 3]}, r"grid\[0\]=0: at least 1"),
        ("siglip", ["image"], {"features": "patches", "grid": [1, 2, 3, 4]}, r"grid=\[1, 2, 3, 4\]: \[time\], \[h"),
        ("siglip", ["image"], {"grid": [2, 2]}, r"grid=\[2, 2\]: \[time\] is expected with features=pooled"),
        ("siglip", ["video"], {"frames": 0}, r"frames=0: at least 1"),
        ("siglip_naflex", ["image"], {"features": "patches"}, r"grid=null: .*naflex' .*; set \[height, width\]"),
        ("whisper", ["audio"], {"windows": 0}, r"windows=0: at least 1"),
        ("videomae", ["video"], {"frames": 8}, r"frames=8: .*videomae reads 4"),
        ("vjepa2", ["video"], {"frames": 5}, r"frames=5: .*vjepa2 reads a multiple of 2"),
    ],
)
def test_wrong_arguments_are_named(save, modalities, options, message, folder):
    with pytest.raises(UserError, match=rf"encoder\.{message}" if message != "smell" else message):
        _encoder(folder, getattr(tiny_towers, save), modalities, **options).load()


def test_wrong_folders_are_named(tmp_path, folder):
    from transformers import BertConfig, SiglipVisionConfig, SiglipVisionModel

    BertConfig().save_pretrained(tmp_path / "bert")
    with pytest.raises(UserError, match=r"encoder\.path='.*bert': model type 'bert': no encoder; known: .*whisper"):
        PretrainedEncoder(str(tmp_path / "bert"), ["image"]).load()
    with pytest.raises(UserError, match=r"encoder\.path='/nowhere'"):
        PretrainedEncoder("/nowhere", ["image"]).width(IMAGE)
    network = SiglipVisionModel(SiglipVisionConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1))
    network.save_pretrained(tmp_path / "bare")
    bare = PretrainedEncoder(str(tmp_path / "bare"), ["image"], "patches")
    with pytest.raises(UserError, match=r"encoder\.path='.*bare': no processor that AutoImageProcessor reads"):
        bare.tokens(IMAGE)


def test_missing_weights_are_named_and_not_drawn_at_random(tmp_path, folder):
    from safetensors.torch import load_file, save_file

    whole = Path(folder(tiny_towers.whisper))
    for file in ("config.json", "preprocessor_config.json"):
        (tmp_path / file).write_bytes((whole / file).read_bytes())
    weights = load_file(whole / "model.safetensors")
    del weights["model.encoder.layers.1.fc1.bias"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"no weights for layers\.1\.fc1\.bias"):
        PretrainedEncoder(str(tmp_path), ["audio"]).load()


def test_a_processor_without_a_fixed_size_is_refused(tmp_path, folder):
    from transformers import BitImageProcessor

    torch.manual_seed(0)
    tiny_towers.dinov2(tmp_path)
    BitImageProcessor(size={"shortest_edge": 24}, do_center_crop=False).save_pretrained(tmp_path)
    encoder = PretrainedEncoder(str(tmp_path), ["image"], "patches")
    with pytest.raises(UserError, match=r"makes \(24, 32\) of a picture and \(24, 24\) of a square"):
        encoder.prepare(Media(IMAGE, lambda: np.zeros((15, 20, 3), np.uint8)))


def test_the_table_names_layers_and_classes_that_exist(folder):
    for save in tiny_towers.TOWERS.values():
        encoder = PretrainedEncoder(folder(save), ["audio" if save in tiny_towers.SOUNDS.values() else "video"])
        encoder.load()
        assert len(encoder.blocks()) == 2
    saved = {PretrainedEncoder(folder(save), ["video"]).tower.model_type for save in tiny_towers.TOWERS.values()}
    assert set(FAMILIES) - saved == {"clip_vision_model", "clap_audio_model", "siglip2_vision_model"}
