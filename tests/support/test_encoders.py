"""What encoders do, each a tiny random instance that is saved to a folder and read from there."""

from functools import partial

import direct_features
import numpy as np
import pytest
import tiny
import tiny_towers
import torch

from nextgpt_pl.datamodules import CaptionedPairs, PocketWorld
from nextgpt_pl.encoders import ClipClapEncoder, ImageBindEncoder, MixedEncoder, PretrainedEncoder
from nextgpt_pl.features import FeatureCache
from nextgpt_pl.llm import CausalLM
from nextgpt_pl.modality import GENERATED
from nextgpt_pl.model import NextGPT
from nextgpt_pl.projections import MLPInputProjection
from nextgpt_pl.samples import Media
from nextgpt_pl.stages import EncoderAlignment

IMAGE, VIDEO, AUDIO = GENERATED
MODALITIES = {
    **{name: ["image", "video"] for name in tiny_towers.IMAGES},
    **{name: ["audio"] for name in tiny_towers.SOUNDS},
    **{name: ["video"] for name in tiny_towers.VIDEOS},
}
TOWERS = [*MODALITIES]
FLEXIBLE = {name: ["image", "video"] for name in tiny_towers.FLEXIBLE}
IMAGEBIND, CLIP_CLAP, MIX = "ImageBind", "CLIP beside CLAP", "a mix: SigLIP, Whisper, V-JEPA 2"
WITH_PATCHES = [*TOWERS, *FLEXIBLE, IMAGEBIND, MIX]
ALL = [*WITH_PATCHES, CLIP_CLAP]


def cell(column, names, *marks):
    """A test that is a cell of the table for each name."""

    def decorated(test):
        for mark in (*marks, pytest.mark.support("encoders", column), pytest.mark.parametrize("name", names)):
            test = mark(test)
        return test

    return decorated


@pytest.fixture(scope="module")
def folders(tmp_path_factory, tiny_models):
    return {**tiny_towers.save_towers(tmp_path_factory.mktemp("towers")), IMAGEBIND: str(tiny_models / "encoder")}


@pytest.fixture(scope="module")
def build(folders):
    """Makes an encoder by its name; its videos have 4 frames."""

    def encoder(name, features="pooled", **options):
        if name == IMAGEBIND:
            return ImageBindEncoder(folders[name], video_clips=2, audio_clips=1, patches=features == "patches")
        if name == CLIP_CLAP:
            return ClipClapEncoder(folders["CLIP"], folders["CLAP"], video_frames=4)
        if name == MIX:
            towers = {"SigLIP, SigLIP 2": ["image"], "Whisper": ["audio"], "V-JEPA 2": ["video"]}
            made = [PretrainedEncoder(folders[n], modalities, features, **options) for n, modalities in towers.items()]
            return MixedEncoder(dict(zip(("sight", "hearing", "motion"), made, strict=True)))
        if name in FLEXIBLE and features == "patches":
            options = {"grid": [2, 3], **options}
        return PretrainedEncoder(folders[name], {**MODALITIES, **FLEXIBLE}[name], features, frames=4, **options)

    return encoder


@pytest.fixture(scope="module")
def media():
    """Two media of each modality: a video has as many frames as are read, and a sound has half a second."""
    rng = np.random.default_rng(0)

    def arrays():
        yield IMAGE, rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
        yield VIDEO, rng.integers(0, 256, (4, 30, 40, 3), dtype=np.uint8)
        yield AUDIO, rng.normal(0, 0.1, 4_000).astype(np.float32)

    made = {m: [] for m in GENERATED}
    for modality, array in [*arrays(), *arrays()]:
        made[modality].append(Media(modality, lambda a=array: a, 8_000, 4.0))
    return made


def _features(encoder, media, stores=None):
    return {m: encoder.features(m, media[m], "cpu", stores) for m in encoder.modalities}


@cell("equal to transformers", [*TOWERS, MIX])
def test_features_are_those_of_the_classes_of_transformers(name, build, folders, media):
    pooled, patches = (build(name, features) for features in ("pooled", "patches"))
    for modality in pooled.modalities:
        parts = {"image": "SigLIP, SigLIP 2", "audio": "Whisper", "video": "V-JEPA 2"}
        tower = parts[modality] if name == MIX else name
        for medium in media[modality]:
            array = medium.source()
            given = [array] if modality is IMAGE else array
            if modality is AUDIO:
                rate = {"Whisper": 16_000, "CLAP": 8_000}[tower]
                given = [_at(array, rate)]
            whole, each = direct_features.direct(tower, folders[tower], given)
            found = (encoder.features(modality, [medium], "cpu")[0] for encoder in (pooled, patches))
            for ours, theirs in zip(found, (whole.mean(0, keepdim=True), each.flatten(0, 1)), strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@cell("equal to transformers", FLEXIBLE)
def test_pictures_keep_their_shape_as_in_transformers(name, build, folders):
    """Pictures of several shapes in one pass: pooled features, and averages over cells of each picture's patches."""
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in ((30, 40), (64, 16), (9, 50), (24, 24))]
    media = [Media(IMAGE, lambda a=array: a) for array in arrays]
    grids = [[1, 1], [2, 3], [4, 2], [1, 12]]
    averaged = [build(name, "patches", grid=grid).features(IMAGE, media, "cpu") for grid in grids]
    pooled = build(name).features(IMAGE, media, "cpu")
    shapes = set()
    for number, array in enumerate(arrays):
        whole, states, shape = direct_features.naflex(folders[name], array)
        shapes.add(tuple(shape))
        torch.testing.assert_close(pooled[number, 0], whole, rtol=1e-4, atol=1e-5)
        planes = states.unflatten(0, tuple(shape)).movedim(-1, 0)
        for grid, found in zip(grids, averaged, strict=True):
            means = torch.nn.functional.adaptive_avg_pool2d(planes, grid).flatten(1).T
            torch.testing.assert_close(found[number], means, rtol=1e-4, atol=1e-5)
    assert len(shapes) == len(arrays)


def _at(samples, rate):
    from nextgpt_pl.media.audio import resample

    return resample(torch.from_numpy(samples), 8_000, rate).numpy()


@cell("pooled", ALL)
def test_a_medium_becomes_one_feature(name, build, media):
    encoder = build(name)
    for modality, features in _features(encoder, media).items():
        assert features.shape == (2, 1, encoder.width(modality))
        assert encoder.tokens(modality) == 1
        assert features.isfinite().all()
        assert not torch.equal(features[0], features[1])
        assert encoder.blank(modality).shape[1:] == encoder.prepare(media[modality][0]).shape


@cell("patches", WITH_PATCHES)
def test_all_patches_are_features(name, build, media):
    encoder = build(name, "patches")
    for modality, features in _features(encoder, media).items():
        assert features.shape == (2, encoder.tokens(modality), encoder.width(modality))
        assert encoder.tokens(modality) > 4
        assert len(features[0].unique(dim=0)) > 4


@cell("averaged grid", TOWERS)
def test_patches_are_averaged_to_a_grid(name, build, media):
    sizes = [2] if AUDIO in build(name).modalities else [2, 3, 1]
    whole, averaged = build(name, "patches"), build(name, "patches", grid=sizes)
    for modality, features in _features(averaged, media).items():
        time = 1 if modality is IMAGE else 2
        columns = 1 if modality is AUDIO else 3
        assert averaged.tokens(modality) == features.shape[1] == time * columns
        full = whole.features(modality, media[modality], "cpu").unflatten(1, whole.feature_grid(modality))
        means = full.unflatten(1, (time, -1)).mean((2, 4) if modality is not AUDIO else (2, 3, 4))
        torch.testing.assert_close(features, means.flatten(1, -2), rtol=1e-4, atol=1e-5)


@cell("trains stage 1", ALL)
def test_encoder_alignment_trains_the_input_projections_alone(name, build, tiny_models, tmp_path):
    torch.manual_seed(0)
    encoder = build(name, "pooled" if name == CLIP_CLAP else "patches")
    network = NextGPT(
        llm=CausalLM(str(tiny_models / "llm")),
        encoder=encoder,
        input_projection=partial(MLPInputProjection, width=32),
    )
    stage = EncoderAlignment(network, captions=0, lr=1e-2, warmup_ratio=0.0)
    world = PocketWorld(train_size=2, val_size=1, modalities=[m.value for m in encoder.modalities])
    data = CaptionedPairs([world], batch_size=2 * len(encoder.modalities))
    losses = []
    stage.log_split = lambda values, _split: losses.append(float(values["loss"][0] / values["loss"][1]))
    stage.configure_model()
    before = {n: p.detach().clone() for n, p in network.named_parameters()}
    tiny.quiet_trainer(tmp_path, max_steps=6, limit_val_batches=0).fit(stage, data)
    changed = {n for n, p in network.named_parameters() if not torch.equal(p, before[n])}
    assert set(stage.trainable()) == changed
    assert {n.split(".")[0] for n in changed} == {"input_projections"}
    assert {n.split(".")[1] for n in changed} == {m.value for m in encoder.modalities}
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


@cell("feature cache", ALL)
def test_a_second_run_reads_features_from_the_cache(name, build, media, tmp_path):
    first, cache = build(name), FeatureCache(tmp_path, "float32")
    made = _features(first, media, first.stores(cache))
    cache.flush()
    second = build(name)
    kept = _features(second, media, second.stores(FeatureCache(tmp_path, "float32")))
    assert first.loaded
    assert not second.loaded
    assert not any(part.loaded for part in second.modules() if isinstance(part, PretrainedEncoder))
    for modality in first.modalities:
        assert torch.equal(made[modality], kept[modality])


@cell("without weights", ALL)
def test_sizes_are_known_without_weights(name, build, media, monkeypatch):
    encoder, empty = build(name), build(name)
    encoder.load()
    with torch.device("meta"):
        sizes = {m: (empty.tokens(m), empty.width(m)) for m in empty.modalities}
        with monkeypatch.context() as patched:
            patched.setattr("safetensors.safe_open", lambda *_, **__: pytest.fail("weights are read"))
            empty.load()
    assert all(p.is_meta for p in empty.parameters())
    shapes = [{n: (p.shape, p.dtype) for n, p in e.named_parameters()} for e in (encoder, empty)]
    assert shapes[0] == shapes[1]
    assert empty.parameter_counts() == encoder.parameter_counts()
    assert sum(empty.parameter_counts().values()) == sum(p.numel() for p in encoder.parameters())
    for modality, size in sizes.items():
        with torch.no_grad():
            assert empty(modality, empty.blank(modality).to("meta")).shape == (1, *size)
