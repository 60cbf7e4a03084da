"""Which text-to-image, text-to-video and text-to-audio pipelines work as decoders, by their YAML arguments alone."""

import shutil

import numpy as np
import pytest
import torch
from tiny_pipelines import PIPELINES, saved

from nextgpt_pl import decoders
from nextgpt_pl.decoders.drawing import finite_medium

CAPTIONS = ["a small red circle", "star"]
NEGATIVE = "a blue star on the left"
# of module scope: all tests of a pipeline run together
ALL = pytest.mark.parametrize("name", PIPELINES, scope="module")
WITH_NEGATIVE = pytest.mark.parametrize(
    "name", [n for n, case in PIPELINES.items() if case.takes_negative], scope="module"
)


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
        decoder = _decoder(self.name, self.folder, **options)
        arrays, decoder.raw = decoder._arrays, []
        decoder._arrays = lambda output: decoder.raw.extend(arrays(output)) or decoder.raw[-len(arrays(output)) :]
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


def _equal(ours, theirs):
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.std() > 0
        np.testing.assert_array_equal(mine, other)


@ALL
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


@ALL
@pytest.mark.support("decoders", "equal to the prompt")
def test_media_from_embeddings_are_those_from_the_caption(name, made):
    this = made(name)
    _equal(this.generate(this.decoder, CAPTIONS[:1]), this.ask(CAPTIONS[:1]))


@ALL
@pytest.mark.support("decoders", "two unequal captions")
def test_a_batch_of_unequal_captions(name, made):
    this = made(name)
    _equal(this.generate(this.decoder, CAPTIONS), this.ask(CAPTIONS))


@WITH_NEGATIVE
@pytest.mark.support("decoders", "negative prompt")
def test_a_negative_prompt(name, made):
    this = made(name)
    decoder = this.new_decoder(negative_prompt=NEGATIVE)
    ours = this.generate(decoder, CAPTIONS[:1])
    _equal(ours, this.ask(CAPTIONS[:1], negative_prompt=[NEGATIVE]))
    assert not np.array_equal(ours[0], this.generate(this.decoder, CAPTIONS[:1])[0])


@ALL
@pytest.mark.support("decoders", "several media in a call")
def test_a_medium_does_not_depend_on_the_others_of_the_call(name, made):
    this = made(name)
    together = this.generate(this.decoder, [CAPTIONS[0], CAPTIONS[0], NEGATIVE])
    alone = [this.generate(this.decoder, [c], seed=3 + i)[0] for i, c in ((0, CAPTIONS[0]), (2, NEGATIVE))]
    np.testing.assert_allclose(together[0], alone[0], atol=1e-4)
    np.testing.assert_allclose(together[2], alone[1], atol=1e-4)
    assert not np.array_equal(together[0], together[1])
