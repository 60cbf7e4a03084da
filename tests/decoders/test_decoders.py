from dataclasses import replace

import numpy as np
import pytest
import torch

from nextgpt_pl.decoders import AudioLDMDecoder, DiffusionDecoder, PrecomputedEmbeddings
from nextgpt_pl.decoders.base import constant
from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.parts import pocket_decoder

QUICK = {"num_inference_steps": 2, "guidance_scale": 2.0}


@pytest.fixture
def image():
    return DiffusionDecoder("StableDiffusionPipeline", "pocket:image", {**QUICK, "height": 64, "width": 64})


@pytest.fixture
def audio():
    return AudioLDMDecoder("AudioLDMPipeline", "pocket:audio", {**QUICK, "audio_length_in_s": 2.0})


def test_shapes_are_known_before_weights_are_read(image, audio):
    assert image.embedding_shape == (32, 128)
    assert image.projection_shape == (32, 128)
    assert audio.embedding_shape == (128,)
    assert audio.projection_shape == (1, 128)
    assert image._pipeline is None
    assert not image.captions.loaded


def test_embeddings_are_those_of_the_pipelines_own_text_encoder(image, audio):
    from diffusers import AudioLDMPipeline, StableDiffusionPipeline

    from nextgpt_pl.utils.paths import resolve

    theirs = StableDiffusionPipeline.from_pretrained(resolve("pocket:image"), dtype=torch.float32)
    expected, _ = theirs.encode_prompt("a red circle", "cpu", 1, False)
    torch.testing.assert_close(image.embed_captions(["a red circle"]), expected, atol=1e-5, rtol=1e-4)
    theirs = AudioLDMPipeline.from_pretrained(resolve("pocket:audio"), dtype=torch.float32)
    with torch.no_grad():
        expected = theirs._encode_prompt("a low bell", "cpu", 1, False)
    torch.testing.assert_close(audio.embed_captions(["a low bell"]), expected, atol=1e-5, rtol=1e-4)


def test_generating_from_embeddings_equals_generating_from_the_caption(image):
    from diffusers import StableDiffusionPipeline

    from nextgpt_pl.utils.paths import resolve

    pipeline = StableDiffusionPipeline.from_pretrained(resolve("pocket:image"), dtype=torch.float32)
    generator = torch.Generator().manual_seed(3)
    theirs = pipeline("a red circle", generator=generator, output_type="np", **image.sampling).images[0]
    (ours,) = image.generate(image.embed_captions(["a red circle"]), seed=3)
    assert np.abs(ours - theirs * 255).max() <= 1.5


def test_an_item_does_not_depend_on_its_batch(image):
    embeddings = image.embed_captions(["a red circle", "a blue star"])
    both = image.generate(embeddings, seed=0)
    alone = image.generate(embeddings[1:], seed=1)
    assert np.abs(both[1].astype(int) - alone[0]).max() <= 1


def test_few_are_drawn_at_a_time_where_asked_and_the_same(image):
    few = DiffusionDecoder("StableDiffusionPipeline", "pocket:image", image.sampling, batch=2)
    noisy, sliced = [], []
    few._loaded().unet.conv_in.register_forward_hook(lambda _m, args, _o: noisy.append(len(args[0])))
    few._loaded().vae.post_quant_conv.register_forward_hook(lambda _m, args, _o: sliced.append(len(args[0])))
    embeddings = image.embed_captions(["a red circle", "a blue star", "a green ring"])
    pairs = zip(image.generate(embeddings, seed=4), few.generate(embeddings, seed=4), strict=True)
    assert all(np.abs(a.astype(int) - b).max() <= 1 for a, b in pairs)
    assert noisy == [4, 4, 2, 2]  # both halves of guidance, two steps each
    assert sliced == [1, 1, 1]
    assert few.generate(embeddings[:0], seed=0) == []
    with pytest.raises(UserError, match="decoder batch=0: at least 1"):
        DiffusionDecoder("StableDiffusionPipeline", "pocket:image", batch=0)


@pytest.mark.parametrize(
    ("size", "at_once"),
    [
        ({"height": 64, "width": 64}, 32),
        ({"height": 512, "width": 512}, 16),
        ({}, 16),
        ({"height": 320, "width": 576, "num_frames": 24}, 1),
        ({"height": 2048, "width": 2048}, 1),
    ],
)
def test_drawing_is_bounded_by_default(size, at_once):
    name = "TextToVideoSDPipeline" if "num_frames" in size else "StableDiffusionPipeline"
    assert DiffusionDecoder(name, "nowhere")._batch_size(size) == at_once
    assert AudioLDMDecoder("AudioLDMPipeline", "nowhere")._batch_size({"audio_length_in_s": 3600.0}) == 1
    assert AudioLDMDecoder("AudioLDMPipeline", "nowhere")._batch_size({}) == 32


def test_audio_is_two_seconds_and_repeatable(audio):
    embedding = audio.embed_captions(["a low bell"])
    first, again = (audio.generate(embedding, seed=0)[0] for _ in range(2))
    assert first.shape == (32000,)
    assert np.array_equal(first, again)


def test_a_caption_is_embedded_once(image, monkeypatch):
    image.embed_captions(["a red circle"])
    monkeypatch.setattr(image.captions, "encode_tokens", lambda *_: pytest.fail("embedded again"))
    image.embed_captions(["a red circle", "a red circle"])


def test_wrong_shapes_and_numbers_that_are_not_finite_are_errors(image, monkeypatch):
    with pytest.raises(UserError, match=r"\(77, 768\), the decoder wants \(32, 128\)"):
        image.generate(torch.zeros(1, 77, 768), seed=0)
    embedding = image.embed_captions(["a red circle"])
    for value in (np.nan, np.inf):
        monkeypatch.setattr(image, "_arrays", lambda _, v=value: [np.full((4, 4, 3), v)])
        with pytest.raises(UserError, match="decoder 'pocket:image' gave numbers that are not finite"):
            image.generate(embedding, seed=0)


def test_a_black_picture_and_silence_are_media(image, audio, monkeypatch):
    """Drawn by the pipelines themselves, from an autoencoder and a vocoder that give nothing but zeros."""
    pipeline = image._loaded()
    monkeypatch.setattr(pipeline.vae.decoder, "forward", lambda z, *_: -torch.ones(len(z), 3, 64, 64))
    (black,) = image.generate(image.embed_captions(["a red circle"]), seed=0)
    assert black.shape == (64, 64, 3)
    assert black.dtype == np.uint8
    assert not black.any()
    assert constant(black)
    monkeypatch.setattr(audio._loaded().vocoder, "forward", lambda mel: torch.zeros(len(mel), 32000))
    (silence,) = audio.generate(audio.embed_captions(["a low bell"]), seed=0)
    assert constant(silence)
    assert not constant(np.arange(4))


@pytest.mark.filterwarnings("error::FutureWarning")
def test_parts_may_lie_in_another_folder(image):
    """The video decoder's autoencoder and text encoder are stored once, with the image decoder."""
    shared = dict.fromkeys(("vae", "text_encoder", "tokenizer"), "pocket:image")
    sampling = {**QUICK, "height": 64, "width": 64, "num_frames": 2}
    video = DiffusionDecoder("TextToVideoSDPipeline", "pocket:video", sampling, parts=shared)
    embedding = video.embed_captions(["a red circle moving left"])
    assert torch.equal(embedding, image.embed_captions(["a red circle moving left"]))
    (frames,) = video.generate(embedding, seed=0)
    assert frames.shape == (2, 64, 64, 3)
    ours, theirs = video._loaded().vae.state_dict(), image._loaded().vae.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_user_mistakes_are_named():
    with pytest.raises(UserError, match=r"pocket:video' has no tokenizer/tokenizer_config\.json"):
        _ = DiffusionDecoder("TextToVideoSDPipeline", "pocket:video").embedding_shape
    with pytest.raises(UserError, match=r"shape=\[0\]"):
        PrecomputedEmbeddings([0])
    with pytest.raises(UserError, match="the caption 'x' has no embedding file"):
        PrecomputedEmbeddings([512]).embed_captions(["x"])


def test_scheduler_and_compilation_are_the_yamls(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda module: compiled.append(module) or module)
    sampling = {**QUICK, "height": 64, "width": 64}
    options = {"scheduler": "EulerDiscreteScheduler", "scheduler_args": {"timestep_spacing": "trailing"}}
    decoder = DiffusionDecoder("StableDiffusionPipeline", "pocket:image", sampling, compile=True, **options)
    pipeline = decoder._loaded()
    assert type(pipeline.scheduler).__name__ == "EulerDiscreteScheduler"
    assert pipeline.scheduler.config.timestep_spacing == "trailing"
    assert pipeline.vae.decoder.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    # the noise schedule stays the model's own
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    assert compiled == [pipeline.unet]
    assert decoder.generate(decoder.embed_captions(["a red circle"]), seed=0)[0].shape == (64, 64, 3)


@pytest.mark.parametrize("modality", ["image", "video"])
def test_convolutions_in_channels_last_order_draw_the_same(modality):
    plain, ordered = pocket_decoder(Modality(modality)), pocket_decoder(Modality(modality))
    ordered.set_up = replace(ordered.set_up, channels_last=True)
    embeddings = plain.embed_captions(["a small red circle on the left on white"])
    drawn = [d.generate(embeddings, seed=0, num_inference_steps=2)[0].astype(int) for d in (plain, ordered)]
    assert abs(drawn[0] - drawn[1]).max() <= 1
    weights = [m.weight for m in ordered._loaded().unet.modules() if isinstance(m, torch.nn.Conv2d)]
    assert weights
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)


@pytest.mark.parametrize("offload", ["model", "sequential"])
def test_offloading_moves_networks_when_they_run(offload, monkeypatch):
    decoder = DiffusionDecoder("StableDiffusionPipeline", "pocket:image", offload=offload)
    pipeline = decoder._loaded()  # on the CPU there is nowhere to move from
    asked = []

    def ask(device):
        asked.append(device)

    monkeypatch.setattr(pipeline, f"enable_{offload}_cpu_offload", ask)
    monkeypatch.setattr(pipeline, "to", lambda _: pytest.fail("moved whole"))
    decoder.to("cuda")
    decoder.to("cuda")
    assert asked == [torch.device("cuda")]


def test_options_that_do_not_fit_are_named():
    with pytest.raises(UserError, match="scheduler_args are given, but no scheduler"):
        DiffusionDecoder("StableDiffusionPipeline", "pocket:image", scheduler_args={"x": 1})
