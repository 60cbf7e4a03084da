"""Which text-to-image, text-to-video and text-to-audio pipelines work as decoders, by their YAML arguments alone."""

import shutil

import numpy as np
import pytest
import torch
from tiny_pipelines import PIPELINES, saved

from nextgpt_pl import decoders
from nextgpt_pl.decoders.drawing import finite_medium
from nextgpt_pl.errors import UserError

CAPTIONS = ["a small red circle", "star"]
# a caption and a negative prompt pass the connectors together
TOGETHER = ("LTX2Pipeline",)
# a vector of one caption is projected by another matrix product than vectors of two captions
PROJECTED = ("StableDiffusionXLPipeline", "StableDiffusion3Pipeline", "HiDreamImagePipeline")
_ROUNDED = 2e-6
# its generated states depend on the longest caption of the call
UNINVARIANT = ("AudioLDM2Pipeline",)
# HiDream upscales every image to 128 x 128 latents; others that take longer are like one that is tested each time
SLOW = (
    "HiDreamImagePipeline",
    "Flux2KleinPipeline",
    "HunyuanVideoPipeline",
    "HunyuanDiTPipeline",
    "PixArtAlphaPipeline",
)


def _names(chosen=lambda name: True):
    marked = [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in PIPELINES if chosen(n)]
    # of module scope: all tests of a pipeline run together
    return pytest.mark.parametrize("name", marked, scope="module")


def _decoder(name, folder, **options):
    case = PIPELINES[name]
    decoder_class = getattr(decoders, case.decoder)
    fps = case.rate if "num_frames" in case.sampling else None
    return decoder_class(name, str(folder), case.sampling, max_length=case.length, fps=fps, **options)


class Made:
    """A pipeline, and a decoder that reads its folder."""

    def __init__(self, name, folder):
        self.case, self.name, self.folder = PIPELINES[name], name, folder
        self.pipeline = saved(name, folder)
        self.decoder = self.new_decoder()
        # the decoder's memory format of the autoencoder changes the last bits
        self.decoder.set_up.apply(self.pipeline, torch.device("cpu"))

    def new_decoder(self, **options):
        """A decoder that keeps what its pipeline returns, in ``raw``."""
        decoder = _decoder(self.name, self.folder, **{"negative_prompt": self.case.negatives[0], **options})
        arrays, decoder.raw = decoder._arrays, []

        def recorded(output):
            decoder.raw.extend(arrays(output))
            return arrays(output)

        decoder._arrays = recorded
        return decoder

    def generate(self, decoder, captions, seed=3):
        """Media, and the raw numbers in the order of the captions."""
        decoder.raw.clear()
        media = decoder.generate(decoder.embed_captions(captions), seed=seed)
        for medium, raw in zip(media, decoder.raw, strict=True):
            np.testing.assert_array_equal(medium, finite_medium(raw, ""))
        return list(decoder.raw)

    def ask(self, captions, seed=3, **arguments):
        """What the pipeline makes of the captions themselves."""
        asked = {**self.case.arguments(self.pipeline, len(captions)), **arguments}
        generators = [torch.Generator().manual_seed(seed + i) for i in range(len(captions))]
        output = self.pipeline(prompt=list(captions), generator=generators, output_type="np", **asked)
        media = next(iter(output.values()))
        arrays = [np.asarray(medium, np.float32) for medium in media]
        return [a.mean(0) if a.ndim == 2 else a for a in arrays]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Pipelines by name, each built once."""
    known = {}

    def get(name):
        if name not in known:
            known.clear()
            known[name] = Made(name, tmp_path_factory.mktemp(name))
        return known[name]

    return get


def _equal(ours, theirs, difference=0.0):
    """The same numbers and media; with a difference, a level of 255 may be rounded to the next one."""
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.std() > 0
        assert mine.shape == other.shape
        assert np.abs(mine - other).max() <= difference
        levels = [finite_medium(array, "").astype(float) for array in (mine, other)]
        assert np.abs(levels[0] - levels[1]).max() <= (difference > 0)


@_names()
@pytest.mark.support("decoders", "shape without weights")
def test_shapes_sizes_and_rates_are_known_without_weights(name, made, tmp_path):
    this = made(name)
    bare = tmp_path / "bare"
    shutil.copytree(this.folder, bare, ignore=shutil.ignore_patterns("*.safetensors"))
    decoder = _decoder(name, bare)
    assert decoder.embedding_shape == decoder.projection_shape == this.case.shape
    assert decoder.rate == this.case.rate
    networks = {n: p for n, p in this.pipeline.components.items() if isinstance(p, torch.nn.Module)}
    assert decoder.parameter_counts() == {n: sum(p.numel() for p in m.parameters()) for n, m in networks.items()}
    assert not decoder.captions.loaded


@_names()
@pytest.mark.support("decoders", "equal to the prompt")
def test_media_from_embeddings_are_those_from_the_caption(name, made):
    this = made(name)
    _equal(this.generate(this.decoder, CAPTIONS[:1]), this.ask(CAPTIONS[:1]), _ROUNDED if name in TOGETHER else 0.0)


@_names(lambda name: name not in UNINVARIANT)
@pytest.mark.support("decoders", "two unequal captions")
def test_a_batch_of_unequal_captions(name, made):
    this = made(name)
    _equal(this.generate(this.decoder, CAPTIONS), this.ask(CAPTIONS), _ROUNDED if name in PROJECTED + TOGETHER else 0.0)


@_names(lambda name: name not in UNINVARIANT)
@pytest.mark.support("decoders", "captions in batches")
def test_captions_that_are_embedded_together_have_the_same_embeddings(name, made):
    this = made(name)
    captions = [*CAPTIONS, "a large blue ring to the left of a star", "a low bell", "ring"]
    alone, together = (_decoder(name, this.folder, text_batch=n).embed_captions(captions) for n in (1, 4))
    errors = (together - alone).flatten(1).norm(dim=1) / alone.flatten(1).norm(dim=1)
    assert errors.max() < 1e-6


@_names(lambda name: name in UNINVARIANT)
def test_captions_that_depend_on_each_other_are_not_embedded_together(name, made):
    with pytest.raises(UserError, match=rf"text_batch=2: embeddings of {name} depend on the other captions"):
        _decoder(name, made(name).folder, text_batch=2)


@_names(lambda name: PIPELINES[name].takes_negative)
@pytest.mark.support("decoders", "negative prompt")
def test_a_negative_prompt(name, made):
    this = made(name)
    negative = this.case.negatives[1]
    decoder = this.new_decoder(negative_prompt=negative)
    ours = this.generate(decoder, CAPTIONS[:1])
    _equal(ours, this.ask(CAPTIONS[:1], negative_prompt=[negative]), _ROUNDED if name in TOGETHER else 0.0)
    assert not np.array_equal(ours[0], this.generate(this.decoder, CAPTIONS[:1])[0])


@_names()
@pytest.mark.support("decoders", "several media in a call")
def test_a_medium_does_not_depend_on_the_others_of_the_call(name, made):
    this, other = made(name), PIPELINES[name].negatives[1]
    together = this.generate(this.decoder, [CAPTIONS[0], CAPTIONS[0], other])
    alone = [this.generate(this.decoder, [c], seed=3 + i)[0] for i, c in ((0, CAPTIONS[0]), (2, other))]
    np.testing.assert_allclose(together[0], alone[0], atol=1e-4)
    np.testing.assert_allclose(together[2], alone[1], atol=1e-4)
    assert not np.array_equal(together[0], together[1])
