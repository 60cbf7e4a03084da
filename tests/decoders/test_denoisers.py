"""How the denoising loss calls denoisers: variants of pipelines, packing, and what is refused."""

import denoised_pipelines
import diffusers
import pytest
import torch
from tiny_pipelines import PIPELINES

from nextgpt_pl.decoders import DiffusionDecoder, PromptDecoder, StableAudioDecoder
from nextgpt_pl.decoders.denoisers import ARRANGEMENTS
from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import Modality


def _changed(pipeline, **config):
    """The pipeline with a denoiser of another configuration."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        changed = type(pipeline.transformer).from_config(pipeline.transformer.config, **config)
    pipeline.register_modules(transformer=changed)
    return pipeline


def _tokenwise_wan(pipeline):
    pipeline.register_to_config(expand_timesteps=True)
    return pipeline


def _cosine_audio(pipeline):
    pytest.importorskip("torchsde")
    pipeline.scheduler = diffusers.CosineDPMSolverMultistepScheduler()
    return pipeline


def _sized_pixart(pipeline):
    """PixArt alpha for 1024 pixels, which takes the size."""
    # the size's embedding has a third of the width
    width = {"num_attention_heads": 3, "cross_attention_dim": 24}
    sized = _changed(pipeline, use_additional_conditions=True, sample_size=128, **width)
    return diffusers.PixArtAlphaPipeline(**sized.components)


VARIANTS = {
    "Wan 2.2, a timestep per token": ("WanPipeline", _tokenwise_wan),
    "CogVideoX 5B": ("CogVideoXPipeline", lambda p: _changed(p, use_rotary_positional_embeddings=True)),
    "CogVideoX 1.5": (
        "CogVideoXPipeline",
        lambda p: _changed(
            p, use_rotary_positional_embeddings=True, patch_size_t=2, patch_bias=False, sample_height=8, sample_width=32
        ),
    ),
    "Flux without guidance": ("FluxPipeline", lambda p: _changed(p, guidance_embeds=False)),
    "Stable Audio Open": ("StableAudioPipeline", _cosine_audio),
    "PixArt alpha": ("PixArtSigmaPipeline", _sized_pixart),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_are_called_as_in_sampling(variant, tmp_path):
    name, change = VARIANTS[variant]
    pipeline = change(denoised_pipelines.built(name))
    pipeline.save_pretrained(tmp_path)
    decoder = denoised_pipelines.decoder_of(name, tmp_path)
    if type(pipeline).__name__ != name:
        decoder = type(decoder)(type(pipeline).__name__, str(tmp_path), decoder.sampling, max_length=decoder.max_length)
    embeddings = decoder.embed_captions(["a small red circle", "a blue star"])
    denoised_pipelines.assert_called_as_sampled(decoder, embeddings, denoised_pipelines.CASES[name][0])


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in denoised_pipelines.CASES if n not in denoised_pipelines.POCKET])
def test_half_precision(name, tmp_path):
    """Inputs have the dtypes of sampling, and the gradient is that of float32."""
    whole = denoised_pipelines.decoder_of(name, tmp_path / name)
    half = denoised_pipelines.decoder_of(name, tmp_path / name, dtype="bfloat16")
    embeddings, media = (
        whole.embed_captions(["a small red circle", "a blue star"]),
        denoised_pipelines.media_of(name, 2),
    )
    denoised_pipelines.assert_called_as_sampled(half, embeddings, denoised_pipelines.CASES[name][0])
    # states of padding are zero, where normalisation layers amplify rounding
    embeddings += 0.3 * (2 * torch.rand(embeddings.shape, generator=torch.Generator().manual_seed(1)) - 1)
    gradients = []
    for decoder in (whole, half):
        leaf = embeddings.clone().requires_grad_(True)
        generator = torch.Generator().manual_seed(0)
        decoder.denoising_loss(leaf, whole.latents(media), gamma=5.0, generator=generator).backward()
        gradients.append(leaf.grad)
    assert torch.cosine_similarity(*(gradient.flatten() for gradient in gradients), dim=0) > 0.8


def test_packing_is_that_of_the_pipelines():
    images, videos = torch.randn(2, 3, 4, 6), torch.randn(2, 3, 5, 4, 6)
    flux, ltx = ARRANGEMENTS["FluxPipeline"], ARRANGEMENTS["LTXPipeline"]
    assert flux.packed(images).equal(diffusers.FluxPipeline._pack_latents(images, 2, 3, 4, 6))
    assert ltx.packed(videos).equal(diffusers.LTXPipeline._pack_latents(videos))
    for arranged, latents in ((flux, images), (ltx, videos), (ARRANGEMENTS["CogVideoXPipeline"], videos)):
        assert arranged.unpacked(arranged.packed(latents), latents.shape).equal(latents)


def test_pipelines_and_sizes_that_do_not_work_are_named(tmp_path):
    denoised_pipelines.built("WanPipeline").save_pretrained(tmp_path / "wan")
    wan = str(tmp_path / "wan")
    sampling = {"height": 32, "width": 40, "num_frames": 9}
    with pytest.raises(UserError, match=r"loss_size.width=40: WanPipeline needs a multiple of 16 pixels"):
        PromptDecoder("WanPipeline", wan, sampling).preparation()
    # frames that fill no latent frame are left out, as the pipeline does it
    decoder = PromptDecoder("WanPipeline", wan, {**sampling, "width": 32}, loss_size={"num_frames": 8})
    assert decoder.picture_size() == (32, 32, 5)
    assert decoder.latent_shape(frames=True) == (4, 2, 4, 4)
    PIPELINES["StableAudioPipeline"].build().save_pretrained(tmp_path / "audio")
    sound = StableAudioDecoder("StableAudioPipeline", str(tmp_path / "audio"), loss_size={"audio_end_in_s": 9.0})
    with pytest.raises(UserError, match=r"audio_end_in_s=9.0: .* at most 2.0 s"):
        sound.preparation()
    pocket = denoised_pipelines.decoder_of("StableDiffusionPipeline", None)
    other = DiffusionDecoder("StableDiffusionImg2ImgPipeline", pocket.path)
    with pytest.raises(
        UserError, match="StableDiffusionImg2ImgPipeline is not supported; pipelines that are: AudioLDM"
    ):
        other.preparation()


def test_a_pipeline_with_two_denoisers_is_refused(tmp_path):
    pipeline = denoised_pipelines.built("WanPipeline")
    pipeline.register_modules(transformer_2=pipeline.transformer)
    pipeline.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="two denoisers"):
        PromptDecoder("WanPipeline", str(tmp_path)).preparation()


def test_wrong_checkpointing_is_refused(tmp_path):
    """diffusers leaves the mask out of some of Chroma's blocks; a version without that error needs no exception."""
    decoder = denoised_pipelines.decoder_of("ChromaPipeline", tmp_path / "chroma", gradient_checkpointing=True)
    latents, embeddings = torch.randn(1, *decoder.latent_shape(frames=False)), torch.randn(1, *decoder.embedding_shape)
    with pytest.raises(UserError, match="gradient_checkpointing: diffusers' ChromaTransformer2DModel does not"):
        decoder.denoising_loss(embeddings, latents, gamma=5.0, generator=torch.Generator())


@pytest.mark.parametrize("name", ["WanPipeline", "StableAudioPipeline"])
def test_workers_read_media_without_the_decoder(name, tmp_path):
    decoder, (medium,) = denoised_pipelines.decoder_of(name, tmp_path / name), denoised_pipelines.media_of(name, 1)
    inputs = decoder.preparation()(medium)
    assert decoder._pipeline is None
    assert inputs.shape == {"WanPipeline": (9, 3, 32, 64), "StableAudioPipeline": (1, 2, 8)}[name]
    assert decoder.latents([medium], [inputs]).equal(decoder.latents([medium]))
    assert CASES_LATENTS[name] == decoder.latent_shape(denoised_pipelines.CASES[name][0] is Modality.VIDEO)


CASES_LATENTS = {"WanPipeline": (4, 3, 4, 8), "StableAudioPipeline": (3, 4)}
