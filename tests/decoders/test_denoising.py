import numpy as np
import pytest
import torch
from PIL import Image

from nextgpt_pl.decoders import PrecomputedEmbeddings, denoising
from nextgpt_pl.decoders.spectrogram import log_mel
from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.pocket.items import captioned_pair
from nextgpt_pl.pocket.pretrain.quality import pocket_decoder
from nextgpt_pl.samples import Media


def _loss(decoder, embeddings, latents, seed=0):
    return decoder.denoising_loss(embeddings, latents, gamma=5.0, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("modality", list(GENERATED))
def test_the_true_caption_denoises_best_and_gradients_say_where_it_is(modality):
    """Real decoders: an item is denoised better given its own caption than another's, and the gradient leads there."""
    decoder = pocket_decoder(modality)
    pairs = [captioned_pair("train", modality, i) for i in range(6)]
    latents = decoder.latents([p.media for p in pairs])
    true = decoder.embed_captions([p.caption for p in pairs])
    others = true.roll(1, 0)
    with torch.no_grad():
        right, wrong = (sum(float(_loss(decoder, e, latents, s)) for s in range(3)) for e in (true, others))
    assert right < 0.9 * wrong
    between = (others + 0.5 * (true - others)).requires_grad_(True)
    _loss(decoder, between, latents).backward()
    assert ((between.grad * (others - true)).sum()) > 0
    assert all(p.grad is None for p in decoder._loaded().unet.parameters())


@pytest.mark.parametrize("modality", list(GENERATED))
def test_latents_are_what_the_pipelines_own_decoder_reads(modality):
    """Decoded again they give the medium back, so they have the right scale and layout."""
    decoder = pocket_decoder(modality)
    pair = captioned_pair("train", modality, 3)
    (latents,) = decoder.latents([pair.media])
    pipeline = decoder._loaded()
    frames = latents.transpose(0, 1) if modality is Modality.VIDEO else latents.unsqueeze(0)
    with torch.no_grad():
        decoded = pipeline.vae.decode(frames / pipeline.vae.config.scaling_factor).sample
    pixels = decoder._pixels(pair.media)
    assert decoded.shape == pixels.shape
    assert (decoded - pixels).abs().mean() < 0.1
    assert decoder.latents([pair.media])[0].equal(latents)


def test_the_noise_is_the_same_for_the_same_seed():
    decoder = pocket_decoder(Modality.IMAGE)
    pair = captioned_pair("train", Modality.IMAGE, 0)
    latents, embedding = decoder.latents([pair.media]), decoder.embed_captions([pair.caption])
    assert _loss(decoder, embedding, latents) == _loss(decoder, embedding, latents)
    assert _loss(decoder, embedding, latents) != _loss(decoder, embedding, latents, seed=1)


def test_targets_are_the_schedulers():
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler

    assert denoising.target_kind(DDIMScheduler()) == "epsilon"
    assert denoising.target_kind(DDIMScheduler(prediction_type="v_prediction")) == "v"
    assert denoising.target_kind(DDIMScheduler(prediction_type="sample")) == "sample"
    assert denoising.target_kind(FlowMatchEulerDiscreteScheduler()) == "flow"
    flow = DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    assert denoising.target_kind(flow) == "flow"


@pytest.mark.parametrize("name", ["epsilon", "v_prediction", "flow"])
def test_a_perfect_denoiser_has_no_error(name):
    """A network that knows the latents predicts the target exactly, from noisy latents and timestep alone."""
    from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler() if name == "flow" else DDIMScheduler(prediction_type=name)
    latents = torch.randn(4, 2, 3, 3)

    def perfect(noisy, timesteps):
        shape = (-1, 1, 1, 1)
        if name == "flow":
            sigma = (timesteps / 1000).view(shape)
            return (noisy - (1 - sigma) * latents) / sigma - latents
        kept = scheduler.alphas_cumprod[timesteps].view(shape)
        noise = (noisy - kept.sqrt() * latents) / (1 - kept).sqrt()
        return noise if name == "epsilon" else kept.sqrt() * noise - (1 - kept).sqrt() * latents

    found = denoising.loss(perfect, scheduler, latents, 5.0, torch.Generator().manual_seed(0))
    assert found < 1e-6
    assert denoising.loss(lambda x, _: 0 * x, scheduler, latents, 5.0, torch.Generator().manual_seed(0)) > 0.05


def test_media_are_fitted(tmp_path):
    picture = np.zeros((10, 40, 3), np.uint8)
    picture[:, 15:25] = 255  # the middle, which is kept
    Image.fromarray(picture).save(tmp_path / "a.png")
    pixels = denoising.pictures(Media(Modality.IMAGE, tmp_path / "a.png"), 8, 8, 1)
    assert pixels.shape == (1, 3, 8, 8)
    assert pixels.min() > 0.9
    frames = np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1) * np.ones((1, 8, 8, 3), np.uint8)
    video = denoising.pictures(Media(Modality.VIDEO, lambda: frames), 8, 8, 3)
    assert ((video[:, 0, 0, 0] + 1) * 127.5).round().tolist() == [0, 2, 4]
    sound = Media(Modality.AUDIO, lambda: np.ones(8000, np.float32), sample_rate=16000)
    assert denoising.waveform(sound, 1.0).sum() == 8000
    assert denoising.waveform(sound, 0.25).shape == (4000,)


def test_log_mel_rises_with_a_tones_pitch():
    time = torch.arange(16000) / 16000
    mel = log_mel(torch.stack([torch.sin(2 * torch.pi * f * time) for f in (220, 880, 3520)]))
    assert mel.shape == (3, 100, 64)
    peaks = mel.mean(1).argmax(-1).tolist()
    assert peaks == sorted(peaks)
    assert len(set(peaks)) == 3
    assert log_mel(torch.zeros(1, 16000)).unique().item() == pytest.approx(np.log(1e-5))


def test_decoders_without_a_network_say_so():
    with pytest.raises(UserError, match="PrecomputedEmbeddings has no network to be trained through"):
        PrecomputedEmbeddings([4]).latents([])
