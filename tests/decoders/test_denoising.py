import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nextgpt_pl.decoders import PrecomputedEmbeddings, denoising
from nextgpt_pl.decoders.spectrogram import log_mel
from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.pocket.parts import pocket_decoder
from nextgpt_pl.pocket.world.items import captioned_pair
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
    pixels = denoising.scaled(decoder.preparation().prepare(pair.media))
    assert decoded.shape == pixels.shape
    assert (decoded - pixels).abs().mean() < 0.1
    assert decoder.latents([pair.media])[0].equal(latents)


def test_the_noise_is_the_same_for_the_same_seed():
    decoder = pocket_decoder(Modality.IMAGE)
    pair = captioned_pair("train", Modality.IMAGE, 0)
    latents, embedding = decoder.latents([pair.media]), decoder.embed_captions([pair.caption])
    assert _loss(decoder, embedding, latents) == _loss(decoder, embedding, latents)
    assert _loss(decoder, embedding, latents) != _loss(decoder, embedding, latents, seed=1)


@pytest.mark.parametrize("name", ["epsilon", "v_prediction", "flow"])
def test_a_perfect_denoiser_has_no_error(name):
    """A network that knows the latents predicts the target exactly, from noisy latents and timestep alone."""
    from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler() if name == "flow" else DDIMScheduler(prediction_type=name)
    latents, embeddings = torch.randn(4, 2, 3, 3), torch.zeros(4, 1)

    def perfect(noisy, timesteps, _embedding):
        shape = (-1, 1, 1, 1)
        if name == "flow":
            sigma = (timesteps / 1000).view(shape)
            return (noisy - (1 - sigma) * latents) / sigma - latents
        kept = scheduler.alphas_cumprod[timesteps].view(shape)
        noise = (noisy - kept.sqrt() * latents) / (1 - kept).sqrt()
        return noise if name == "epsilon" else kept.sqrt() * noise - (1 - kept).sqrt() * latents

    def loss(denoise):
        generator = torch.Generator().manual_seed(0)
        return denoising.loss(denoise, scheduler, embeddings, latents, 5.0, generator, chunk_size=4)

    assert loss(perfect) < 1e-6
    assert loss(lambda x, *_: 0 * x) > 0.05


class _Net(torch.nn.Module):
    """Predicts noise from noisy latents ``(n, 2, 3)``, timesteps and embeddings ``(n, 5)``; counts its inputs."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.seen = torch.nn.Linear(11 + 1, 6).requires_grad_(False), []

    def forward(self, noisy, timesteps, embeddings):
        self.seen.append(len(noisy))
        inputs = torch.cat([noisy.flatten(1), timesteps[:, None] / 1000, embeddings.square()], dim=1)
        return self.layer(inputs).tanh().view_as(noisy)


def _all_at_once(net, scheduler, embeddings, latents, generator):
    """The loss written plainly, through one graph."""
    timesteps = torch.randint(0, 1000, (len(latents),), generator=generator)
    noise = torch.randn(latents.shape, generator=generator)
    kept = scheduler.alphas_cumprod[timesteps]
    noisy = kept.sqrt()[:, None, None] * latents + (1 - kept).sqrt()[:, None, None] * noise
    errors = (net(noisy, timesteps, embeddings) - noise).square().flatten(1).mean(1)
    return (errors * (5.0 * (1 - kept) / kept).clamp(max=1.0)).mean()


@pytest.mark.parametrize(("at_once", "parts"), [(1, [1] * 5), (2, [2, 2, 1]), (9, [5])])
def test_in_parts_loss_and_gradients_are_those_of_all_at_once(at_once, parts):
    from diffusers import DDIMScheduler

    net, scheduler = _Net(), DDIMScheduler()
    leaf, latents = torch.randn(5, 5, requires_grad=True), torch.randn(5, 2, 3)
    found = denoising.loss(net, scheduler, 2 * leaf, latents, 5.0, torch.Generator().manual_seed(3), at_once)
    assert net.seen == parts
    (gradient,) = torch.autograd.grad(7.0 * found, leaf)
    wanted = _all_at_once(net, scheduler, 2 * leaf, latents, torch.Generator().manual_seed(3))
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(gradient, *torch.autograd.grad(7.0 * wanted, leaf))


def test_a_part_keeps_nothing_for_the_backward_pass():
    """What is saved for the backward pass is the embeddings' gradient alone, and without gradients nothing."""
    from diffusers import DDIMScheduler

    net, embeddings, latents = _Net(), torch.randn(4, 5, requires_grad=True), torch.randn(4, 2, 3)
    found = denoising.loss(net, DDIMScheduler(), embeddings, latents, 5.0, torch.Generator().manual_seed(0))
    assert [t.shape for t in found.grad_fn.saved_tensors] == [embeddings.shape]
    with torch.no_grad():
        alone = denoising.loss(net, DDIMScheduler(), embeddings, latents, 5.0, torch.Generator().manual_seed(0))
    assert alone.grad_fn is None
    assert alone == found


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_network_runs_in_its_own_dtype_under_autocast(checkpointing):
    decoder = pocket_decoder(Modality.IMAGE)
    decoder.gradient_checkpointing = checkpointing
    pair = captioned_pair("train", Modality.IMAGE, 0)
    latents, embedding = decoder.latents([pair.media] * 2), decoder.embed_captions([pair.caption] * 2)
    found = []
    for autocast in (False, True):
        leaf = embedding.clone().requires_grad_(True)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = _loss(decoder, leaf, latents)
        loss.backward()
        found.append((loss.detach(), leaf.grad))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


def test_media_are_fitted(tmp_path):
    picture = np.zeros((10, 40, 3), np.uint8)
    picture[:, 15:25] = 255  # the middle, which is kept
    Image.fromarray(picture).save(tmp_path / "a.png")
    pixels = denoising.pictures(Media(Modality.IMAGE, tmp_path / "a.png"), 8, 8, 1)
    assert pixels.shape == (1, 3, 8, 8)
    assert denoising.scaled(pixels).min() > 0.9
    frames = np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1) * np.ones((1, 8, 8, 3), np.uint8)
    video = denoising.pictures(Media(Modality.VIDEO, lambda: frames), 8, 8, 3)
    assert video[:, 0, 0, 0].tolist() == [0, 2, 4]
    assert denoising.scaled(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1, 1]
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
    with pytest.raises(UserError, match="PrecomputedEmbeddings has no network to be trained through"):
        PrecomputedEmbeddings([4]).preparation()


@pytest.mark.parametrize("modality", list(GENERATED))
def test_media_that_a_worker_has_read_are_not_read_again(modality):
    decoder, pair = pocket_decoder(modality), captioned_pair("train", modality, 3)
    preparation = pickle.loads(pickle.dumps(decoder.preparation()))  # as in a spawned worker
    inputs = preparation(pair.media)
    assert inputs.dtype == (torch.float32 if modality is Modality.AUDIO else torch.uint8)
    missing = Media(modality, Path("missing"))
    (latents,) = decoder.latents([missing], [inputs])
    assert latents.equal(decoder.latents([pair.media])[0])
    assert decoder.preparation()(missing) is None  # its latents are in memory


@pytest.mark.parametrize("embedded", [torch.float32, torch.float16])
def test_gradients_through_a_network_in_half_precision_do_not_vanish(embedded):
    """Of a mean over a large medium, each element's share of the gradient is below what float16 can tell from zero."""
    from diffusers import DDIMScheduler

    latents = torch.randn(2, 4, 128, 128, generator=torch.Generator().manual_seed(0))
    start = torch.tensor([[0.5, -0.5], [1.0, 0.25]])

    def gradient(dtype, embedded=torch.float32):
        def denoise(noisy, _timesteps, embedding):
            own = embedding.to(dtype).sum(1).view(-1, 1, 1, 1).expand(noisy.shape)
            return noisy.to(dtype) * 0.5 + own * 1e-3

        embeddings = start.to(embedded).clone().requires_grad_(True)
        generator = torch.Generator().manual_seed(0)
        # as a gradient scaler does it
        denoising.loss(denoise, DDIMScheduler(), embeddings, latents, 5.0, generator).mul(2.0**16).backward()
        return embeddings.grad.float() / 2.0**16

    torch.testing.assert_close(gradient(torch.float16, embedded), gradient(torch.float32), rtol=0.05, atol=0)
