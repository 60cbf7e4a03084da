import numpy as np
import pytest
import torch

from nextgpt_pl.decoders import PrecomputedEmbeddings
from nextgpt_pl.modality import Modality
from nextgpt_pl.stages.sample_writer import SampleWriter


class _Dark(PrecomputedEmbeddings):
    """Draws a black picture of an embedding of zeros, and noise of others."""

    can_generate = True

    def generate(self, embeddings, *, seed, negative=None, **sampling):
        noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
        return [noise if embedding.any() else 0 * noise for embedding in embeddings]


def test_black_pictures_are_written_counted_and_told(tmp_path):
    writer = SampleWriter({Modality.IMAGE: _Dark([2, 3])}, count=3)
    predicted = torch.zeros(3, 2, 3)
    predicted[0] = 1
    writer.collect(Modality.IMAGE, ["a", "b", "c"], predicted, torch.ones(3, 2, 3))
    with pytest.warns(UserWarning, match="2 of 6 image samples at step 7 are constant"):
        writer.write(tmp_path, [], 7)
    assert len(list(tmp_path.glob("image_*_signal.png"))) == 3


def test_guidance_steers_media_of_signal_tokens_away_from_what_is_given(tmp_path):
    given = []

    class Decoder(_Dark):
        def generate(self, embeddings, *, seed, negative=None, **sampling):
            given.append(negative)
            return super().generate(embeddings, seed=seed)

    writer = SampleWriter({Modality.IMAGE: Decoder([2, 3])}, count=1)
    writer.collect(Modality.IMAGE, ["a"], torch.ones(1, 2, 3), torch.ones(1, 2, 3))
    null_signal = torch.zeros(2, 3)
    writer.write(tmp_path, [], 7, lambda _: (null_signal, None))
    assert given[0] is null_signal
    assert given[1] is None
