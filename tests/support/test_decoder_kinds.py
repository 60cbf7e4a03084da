"""Each kind of decoder in the model: it trains stage 2, replies in a dialogue, and says where its media come from."""

from functools import partial

import pytest
import tiny
import torch
from galleries import pairs, pocket_gallery
from speech_parts import save_vits
from tiny_pipelines import PIPELINES, saved

from nextgpt_pl import decoders
from nextgpt_pl.datamodules import CaptionedPairs, PocketWorld
from nextgpt_pl.decoders.gallery import GalleryDecoder
from nextgpt_pl.decoders.retrieval import RetrievalDecoder
from nextgpt_pl.llm import CausalLM
from nextgpt_pl.modality import Modality
from nextgpt_pl.model import NextGPT
from nextgpt_pl.pipeline import AnyToAny
from nextgpt_pl.projections import MLPOutputProjection
from nextgpt_pl.stages import DecoderAlignment

# other default tests have them too
_SLOW = ("DiffusionDecoder", "AudioLDMDecoder", "PromptDecoder", "StableAudioDecoder")
_GALLERIES = ("GalleryDecoder", "RetrievalDecoder", "RetrievalDecoder, threshold")


def _prompted(name, folder):
    saved(name, folder)
    case = PIPELINES[name]
    return getattr(decoders, case.decoder)(name, str(folder), case.sampling, max_length=case.length, fps=None)


def _retrieving(folder, threshold):
    pytest.importorskip("faiss")
    pocket_gallery(folder, items=pairs(count=4))
    return RetrievalDecoder(tiny.quick_decoder(Modality.IMAGE), "image", folder, threshold)


KINDS = {
    "DiffusionDecoder": ("image", lambda folder: tiny.quick_decoder(Modality.IMAGE)),
    "AudioLDMDecoder": ("audio", lambda folder: tiny.quick_decoder(Modality.AUDIO)),
    "PromptDecoder": ("image", partial(_prompted, "PixArtSigmaPipeline")),
    "StableAudioDecoder": ("audio", partial(_prompted, "StableAudioPipeline")),
    "GalleryDecoder": (
        "image",
        lambda folder: GalleryDecoder(tiny.quick_decoder(Modality.IMAGE), "image", PocketWorld(train_size=4)),
    ),
    "RetrievalDecoder": ("image", partial(_retrieving, threshold=None)),
    # no medium of the gallery is near
    "RetrievalDecoder, threshold": ("image", partial(_retrieving, threshold=0.0)),
    "VitsDecoder": ("speech", lambda folder: decoders.VitsDecoder(str(save_vits(folder)))),
}


def support(column, names=tuple(KINDS)):
    """A cell of each kind of decoder."""
    marked = [pytest.param(name, marks=[pytest.mark.slow] * (name in _SLOW)) for name in names]
    return lambda test: pytest.mark.support("kinds", column)(pytest.mark.parametrize("name", marked)(test))


def _network(name, folder):
    modality, make = KINDS[name]
    torch.manual_seed(0)
    return NextGPT(CausalLM("pocket:llm"), {modality: make(folder)}, partial(MLPOutputProjection, width=8))


def _medium(name, folder):
    network = _network(name, folder)
    network.load()
    modality = KINDS[name][0]
    reply = AnyToAny(network)([{"role": "user", "content": "Go on."}], modalities=[modality], seed=2)
    (part,) = [part for part in reply if part.type == modality]
    return part, network.decoders[Modality(modality)]


@support("stage 2", [name for name, (modality, _) in KINDS.items() if modality != "speech"])
def test_it_trains_the_projection(name, tmp_path):
    network = _network(name, tmp_path / "decoder")
    modality = KINDS[name][0]
    stage = DecoderAlignment(network, samples=0, lr=1e-2, warmup_ratio=0.0, text_weight=0.0)
    stage.configure_model()
    projection = network.output_projections[modality]
    before = [p.detach().clone() for p in projection.parameters()]
    data = CaptionedPairs([PocketWorld(train_size=2, val_size=2, modalities=[modality])], batch_size=2)
    tiny.quiet_trainer(tmp_path, max_steps=1, limit_val_batches=0).fit(stage, datamodule=data)
    assert any(not torch.equal(p, old) for p, old in zip(projection.parameters(), before, strict=True))


@support("replies in a dialogue")
def test_it_replies(name, tmp_path):
    part, decoder = _medium(name, tmp_path / "decoder")
    assert part.array.size
    assert part.rate == decoder.rate
    assert (part.origin is not None) == (name in _GALLERIES)


@support("origin of its media", _GALLERIES)
def test_its_media_say_where_they_come_from(name, tmp_path):
    part, _ = _medium(name, tmp_path / "decoder")
    assert part.origin.kind == ("generated" if "threshold" in name else "retrieved")
    assert part.origin.distance > 0
    assert (part.origin.item is None) == ("threshold" in name)
