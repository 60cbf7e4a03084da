import pytest
import torch

from nextgpt_pl.datamodules import PocketWorld
from nextgpt_pl.decoders.embeddings import CaptionEmbeddings
from nextgpt_pl.decoders.gallery import GalleryDecoder
from nextgpt_pl.features import FeatureCache
from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.parts import pocket_decoder

IMAGE = Modality.IMAGE


def _gallery():
    return GalleryDecoder(pocket_decoder(IMAGE), "image", PocketWorld(train_size=4))


@pytest.mark.parametrize("make", [lambda: pocket_decoder(IMAGE), _gallery], ids=["decoder", "gallery"])
def test_captions_in_the_cache_need_no_text_encoder(make, tmp_path):
    cache = FeatureCache(tmp_path, "float32")
    made = CaptionEmbeddings({IMAGE: make()}, cache)(IMAGE, ["a red circle", "a blue star"])
    cache.flush()
    fresh = make()
    kept = CaptionEmbeddings({IMAGE: fresh}, FeatureCache(tmp_path, "float32"))(IMAGE, ["a blue star", "a red circle"])
    assert not fresh.captions.loaded
    assert torch.equal(kept, made.flip(0))


def test_the_negative_prompt_comes_from_the_cache_and_nothing_is_given_without_one(tmp_path):
    decoder = pocket_decoder(IMAGE)
    assert CaptionEmbeddings({IMAGE: decoder}).negative_prompt(IMAGE) is None
    found = CaptionEmbeddings({IMAGE: decoder}, FeatureCache(tmp_path, "float32")).negative_prompt(IMAGE)
    assert torch.equal(found, decoder.embed_captions([decoder.negative_prompt])[0])


@pytest.mark.parametrize("options", [{}, {"memory": 2**20}, {"cache": True}], ids=["own", "memory", "cache"])
def test_embeddings_do_not_depend_on_autocast(options, tmp_path):
    options = {**options, "cache": FeatureCache(tmp_path, "float32") if "cache" in options else None}
    wanted = pocket_decoder(IMAGE).embed_captions(["a red circle"])
    with torch.autocast("cpu", torch.bfloat16):
        found = CaptionEmbeddings({IMAGE: pocket_decoder(IMAGE)}, **options)(IMAGE, ["a red circle"])
    assert torch.equal(found, wanted)
