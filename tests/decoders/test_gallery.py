import numpy as np
import pytest
import torch

from nextgpt_pl.datamodules import PocketWorld
from nextgpt_pl.decoders.gallery import GalleryDecoder
from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.parts import pocket_decoder
from nextgpt_pl.pocket.world import items
from nextgpt_pl.samples import Origin


def _gallery(modality="image", **source):
    return GalleryDecoder(pocket_decoder(Modality(modality)), modality, PocketWorld(train_size=12, **source))


@pytest.mark.parametrize("modality", ["image", "audio"])
def test_the_nearest_caption_is_found_also_from_something_a_little_off(modality):
    gallery = _gallery(modality)
    pairs = [items.captioned_pair("train", Modality(modality), i) for i in (3, 7)]
    embeddings = gallery.embed_captions([pair.caption for pair in pairs])
    embeddings += 0.05 * embeddings.std() * torch.randn(embeddings.shape, generator=torch.Generator().manual_seed(0))
    found = gallery.nearest(embeddings)
    assert [item.attributes for item, _ in found] == [pair.attributes for pair in pairs]
    exact = gallery.embed_captions([item.caption for item, _ in found])
    distances = (embeddings - exact).flatten(1).square().sum(1)
    for made, (item, distance), other in zip(gallery.make(embeddings, seed=0), found, distances, strict=True):
        np.testing.assert_array_equal(made.array, item.media.source())
        assert made.origin == Origin("retrieved", distance, item.key, item.caption)
        assert distance == pytest.approx(float(other), rel=1e-5)


def test_it_passes_for_the_decoder_that_it_stands_for():
    gallery = _gallery()
    assert gallery.embedding_shape == gallery.decoder.embedding_shape
    assert set(gallery.parameter_counts()) == {"text_encoder"}
    assert gallery.captions is gallery.decoder.captions


def test_an_empty_gallery_is_an_error():
    gallery = _gallery("image", modalities=["audio"])
    with pytest.raises(UserError, match="PocketWorld has no image"):
        gallery.generate(torch.zeros(1, *gallery.embedding_shape), seed=0)
