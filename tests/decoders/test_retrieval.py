"""Retrieval beside generation: which of the two answers, and that nothing else of the decoder changes."""

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from galleries import pairs, pocket_gallery

from nextgpt_pl import AnyToAny
from nextgpt_pl.decoders import PrecomputedEmbeddings
from nextgpt_pl.decoders.gallery import GalleryDecoder
from nextgpt_pl.decoders.retrieval import RetrievalDecoder
from nextgpt_pl.errors import UserError
from nextgpt_pl.media.audio import resample
from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.parts import pocket_decoder
from nextgpt_pl.retrieval import Retriever
from nextgpt_pl.samples import ItemSource
from nextgpt_pl.utils.paths import pocket_weights

pytest.importorskip("faiss")
QUICK = {"num_inference_steps": 2}


class _Items(ItemSource):
    def __init__(self, items):
        self.items = items

    def read(self, split):
        return self.items


def _near(decoder, captions, off=0.02):
    """Embeddings a little off those of captions, as an output projection's are."""
    embeddings = decoder.embed_captions(captions)
    noise = torch.randn(embeddings.shape, generator=torch.Generator().manual_seed(0))
    return embeddings + off * embeddings.std() * noise


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A decoder over twelve images, and the items."""
    items = pairs(count=12)
    return pocket_gallery(tmp_path_factory.mktemp("gallery"), items=items, threshold=0.1), items


@pytest.mark.parametrize("modality", ["image", "video", "audio"])
def test_without_a_threshold_it_returns_the_media_of_the_gallery_in_memory(tmp_path, modality):
    items = pairs(modality, 6)
    decoder = pocket_gallery(tmp_path, modality, items)
    baseline = GalleryDecoder(decoder.decoder, modality, _Items(items))
    embeddings = _near(decoder, [item.caption for item in items[::2]])
    found, expected = decoder.generate(embeddings, seed=0), baseline.generate(embeddings, seed=0)
    for array, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(array, other)
    assert decoder.counts["retrieved"] == 3


def test_what_is_far_is_generated_by_its_own_seed_in_the_order_of_the_batch(images, caplog):
    decoder, items = images
    near, far = [items[i].caption for i in (3, 7)], [p.caption for p in pairs(split="heldout", count=2)]
    embeddings = _near(decoder, [far[0], near[0], far[1], near[1]])
    with caplog.at_level(logging.INFO, "nextgpt_pl.decoders.retrieval"):
        mixed = decoder.generate(embeddings, seed=[5, 6, 9, 7], **QUICK)
    assert [record.message.split(":")[0] for record in caplog.records] == [
        f"image {kind}" for kind in ("generated", "retrieved", "generated", "retrieved")
    ]
    assert items[3].key in caplog.records[1].message
    generated = decoder.decoder.generate(embeddings[[0, 2]], seed=[5, 9], **QUICK)
    for place, array in (
        (0, generated[0]),
        (1, items[3].media.source()),
        (2, generated[1]),
        (3, items[7].media.source()),
    ):
        np.testing.assert_array_equal(mixed[place], array)
    for place, seed in enumerate([5, 6, 9, 7]):  # one by one; sums of another batch size are rounded otherwise
        (alone,) = decoder.generate(embeddings[place : place + 1], seed=seed, **QUICK)
        assert np.abs(alone.astype(int) - mixed[place]).max() <= 1


def test_the_threshold_decides_at_the_logged_distance(images):
    decoder, items = images
    embeddings = _near(decoder, [items[2].caption])
    (found,) = decoder.retrieve(embeddings, [0])
    assert found.key == items[2].key
    assert found.distance > 0
    for factor, taken in ((1.01, True), (0.99, False)):
        other = RetrievalDecoder(decoder.decoder, "image", decoder.folder, found.distance * factor)
        assert (other.retrieve(embeddings, [0])[0].array is not None) is taken


def test_seeds_choose_between_items_of_one_caption(tmp_path):
    items = pairs(count=6)
    items = [*items[:2], *(replace(item, caption="a red circle") for item in items[2:])]
    decoder = pocket_gallery(tmp_path, items=items)
    same = decoder.embed_captions(["a red circle"]).expand(8, -1, -1)
    keys = [found.key for found in decoder.retrieve(same, list(range(8)))]
    assert set(keys) == {item.key for item in items[2:]}
    assert keys == [found.key for found in decoder.retrieve(same, list(range(8)))]


def test_damaged_media_are_left_out_and_where_none_is_left_one_is_generated(tmp_path, caplog):
    items = pairs(count=3)
    strict = pocket_gallery(tmp_path, items=items)
    mixed = RetrievalDecoder(strict.decoder, "image", tmp_path, threshold=10.0)
    embeddings = _near(strict, [items[0].caption])
    gallery = strict.retriever.gallery
    files = [tmp_path / n.record.media for n in gallery.nearest(embeddings.flatten(), 3, strict.embed_captions)]
    files[0].write_bytes(b"damaged")
    (found,) = strict.retrieve(embeddings, [0])
    assert (found.unreadable, found.key == items[0].key) == (1, False)
    assert "has changed since it was indexed" in caplog.text
    for file in files[1:]:
        file.unlink()
    with pytest.raises(UserError, match="none of the 3 nearest media can be read"):
        strict.generate(embeddings, seed=0)
    (array,) = mixed.generate(embeddings, seed=0, **QUICK)
    np.testing.assert_array_equal(array, strict.decoder.generate(embeddings, seed=0, **QUICK)[0])
    assert mixed.counts == {"generated": 1, "unreadable": 3}


def test_media_of_another_rate_are_converted(tmp_path):
    items = pairs("audio", 2)
    decoder = pocket_gallery(tmp_path, "audio", items)
    embedding = decoder.embed_captions([items[1].caption]).flatten()
    slow = Retriever(decoder.retriever.gallery, decoder.embed_captions, None, 4, 8000.0)
    expected = resample(torch.from_numpy(items[1].media.source()), 16_000, 8_000).numpy()
    np.testing.assert_array_equal(slow(embedding, 0).array, expected)


def test_all_else_is_that_of_the_generating_decoder(images):
    decoder, _ = images
    own = decoder.decoder
    assert decoder.captions is own.captions
    assert (decoder.embedding_shape, decoder.rate, decoder.negative_prompt) == (own.embedding_shape, own.rate, "")
    assert decoder.parameter_counts() == own.parameter_counts()
    assert set(RetrievalDecoder(own, "image", Path("none")).parameter_counts()) == {"text_encoder"}
    assert type(decoder.preparation()) is type(own.preparation())
    assert decoder.to("cpu") is decoder
    with pytest.raises(UserError, match="guidance_scal"):
        decoder.check_sampling({"guidance_scal": 2.0})
    steps = []
    far = decoder.embed_captions([pairs(split="heldout", count=1)[0].caption])
    decoder.generate(far, seed=0, on_step=lambda step: steps.append(step.number), **QUICK)
    assert steps == [1, 2]
    media = [item.media for item in pairs(count=1)]
    latents = decoder.latents(media)
    losses = [
        each.denoising_loss(far, latents, gamma=5.0, generator=torch.Generator().manual_seed(0))
        for each in (decoder, own)
    ]
    assert torch.equal(*losses)


def test_arguments_that_cannot_work_are_refused_before_anything_is_read():
    own = pocket_decoder(Modality.IMAGE)
    for arguments, message in (
        ({"modality": "smell"}, "modality='smell'"),
        ({"threshold": -1.0}, r"RetrievalDecoder\.threshold=-1\.0: at least 0"),
        ({"threshold": float("nan")}, r"RetrievalDecoder\.threshold=nan"),
        ({"candidates": 0}, r"RetrievalDecoder\.candidates=0: at least 1"),
        ({"probes": 0}, r"RetrievalDecoder\.probes=0: at least 1"),
        ({"decoder": PrecomputedEmbeddings([8])}, "PrecomputedEmbeddings has no text encoder"),
    ):
        with pytest.raises(UserError, match=message):
            RetrievalDecoder(**{"decoder": own, "modality": "image", "gallery": Path("none"), **arguments})
    absent = RetrievalDecoder(own, "image", Path("none"), 0.1)
    with pytest.raises(UserError, match=r"gallery none: no complete gallery .* data index-gallery -c FILE makes it"):
        absent.generate(torch.zeros(1, *own.embedding_shape), seed=0)


@pytest.mark.slow
def test_a_run_answers_from_the_gallery_and_generates_the_rest(tmp_path):
    """The decoder takes the place of another one in a copy of the run's configuration; its adapter fits."""
    held_out = pairs(split="heldout", count=2)
    pocket_gallery(tmp_path / "gallery", items=[*pairs(count=8), held_out[0]])
    run = tmp_path / "run"
    shutil.copytree(pocket_weights() / "chat", run)
    config = yaml.safe_load((run / "config.yaml").read_text())
    decoders = config["model"]["init_args"]["network"]["init_args"]["decoders"]
    arguments = {"modality": "image", "gallery": str(tmp_path / "gallery"), "threshold": 0.2}
    retrieving = "nextgpt_pl.decoders.retrieval.RetrievalDecoder"
    decoders["image"] = {"class_path": retrieving, "init_args": {**arguments, "decoder": decoders["image"]}}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    chat = AnyToAny.from_run(run)
    replies = [chat([{"role": "user", "content": item.instruction}], modalities=["image"]) for item in held_out]
    images = [next(part.array for part in reply if part.type == "image") for reply in replies]
    np.testing.assert_array_equal(images[0], held_out[0].media.source())
    assert chat.network.decoders[Modality.IMAGE].counts == {"retrieved": 1, "generated": 1, "unreadable": 0}
