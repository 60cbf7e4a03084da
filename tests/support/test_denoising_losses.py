"""The denoising loss of tiny pipelines: it calls the denoiser as sampling does, and its gradient is right."""

import pytest
import torch
from denoised_pipelines import (
    CASES,
    POCKET,
    assert_called_as_sampled,
    decoder_of,
    latents_of_decoding,
    levels_of_steps,
    media_of,
)
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nextgpt_pl.decoders.autoencoders import normalised
from nextgpt_pl.decoders.noise_levels import target_kind
from nextgpt_pl.losses import denoising_target
from nextgpt_pl.modality import Modality
from nextgpt_pl.sizing.costs import denoising_cost

# diffusers' UNet of videos does not support it, and its Chroma leaves out the mask
UNCHECKPOINTED = ("TextToVideoSDPipeline", "ChromaPipeline")
# the package's own pipelines are larger
every, every_checkpointed = (
    pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in POCKET)) for n in names])
    for names in (CASES, [name for name in CASES if name not in UNCHECKPOINTED])
)


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    return tmp_path_factory.mktemp("pipelines")


@pytest.fixture
def decoder(name, folders):
    return decoder_of(name, folders / name)


def _embeddings(decoder, count):
    return decoder.embed_captions(["a small red circle", "a blue star on the left", "a ring"][:count])


@every
@pytest.mark.support("losses", "inputs as in sampling")
def test_inputs_are_those_of_the_pipeline(name, decoder):
    """At the noise level of each step, the denoiser is called with the arguments that the pipeline passes."""
    assert_called_as_sampled(decoder, _embeddings(decoder, 2), CASES[name][0])


@every
@pytest.mark.support("losses", "target as in sampling")
def test_the_target_leads_the_sampler_to_the_latents(name, decoder, monkeypatch):
    """A denoiser that predicts the loss's target makes the pipeline's own sampler end at the clean latents."""
    embeddings, denoiser = _embeddings(decoder, 2), decoder.denoiser()
    pipeline, described = decoder._loaded(), denoiser.described
    clean = decoder.latents(media_of(name, 2)).clamp(-0.9, 0.9)
    step, decoded = 0, []

    def perfect(*positional, **named):
        nonlocal step
        noisy = positional[0] if positional else named.get("hidden_states", named.get("sample"))
        noisy = described.unpacked(noisy, clean.shape).float()
        levels = levels_of_steps(decoder, denoiser.tokens(clean.shape))
        alpha, sigma = (x[step] for x in levels[1:])
        noise, step = (noisy - alpha * clean) / sigma, step + 1
        target = denoising_target(target_kind(pipeline.scheduler), clean, noise, alpha, sigma)
        if name == "PixArtSigmaPipeline":  # it predicts a variance too
            target = torch.cat([target, target], dim=1)
        output = described.packed(target)
        return (output,) if named.get("return_dict") is False else UNet2DConditionOutput(output)

    def decode(latents, *arguments, **options):
        decoded.append(latents)
        return true_decode(latents, *arguments, **options)

    true_decode = pipeline.vae.decode
    monkeypatch.setattr(denoiser.network, "forward", perfect)
    monkeypatch.setattr(pipeline.vae, "decode", decode)
    decoder.generate(embeddings, seed=0)
    found = normalised(pipeline.vae, latents_of_decoding(decoder, torch.cat(decoded), 2))
    torch.testing.assert_close(found, clean, atol=2e-3, rtol=1e-3)


def _loss(decoder, latents, embeddings, seed=0):
    """The loss and its gradient."""
    leaf = embeddings.clone().requires_grad_(True)
    loss = decoder.denoising_loss(leaf, latents, gamma=5.0, generator=torch.Generator().manual_seed(seed))
    loss.backward()
    return loss.detach(), leaf.grad


@every
@pytest.mark.support("losses", "finite gradient")
def test_gradients_are_finite_and_of_the_embeddings_alone(name, decoder):
    latents, embeddings = decoder.latents(media_of(name, 2)), _embeddings(decoder, 2)
    assert latents.shape == (2, *decoder.latent_shape(frames=latents.ndim == 5))
    assert latents.dtype == torch.float32
    loss, gradient = _loss(decoder, latents, embeddings)
    assert loss.isfinite()
    assert gradient.isfinite().all()
    assert (gradient.flatten(1).norm(dim=1) > 0).all()
    assert all(p.grad is None for p in decoder.denoiser().parameters())
    with torch.autocast("cpu", torch.bfloat16):
        assert _loss(decoder, latents, embeddings)[1].equal(gradient)


@every
@pytest.mark.support("losses", "one or many at a time")
def test_one_medium_at_a_time_is_as_many(name, decoder):
    latents, embeddings = decoder.latents(media_of(name, 3)), _embeddings(decoder, 3)
    one, gradient = _loss(decoder, latents, embeddings)
    decoder.loss_batch = 2
    many, together = _loss(decoder, latents, embeddings)
    torch.testing.assert_close(many, one, rtol=1e-4, atol=0)
    torch.testing.assert_close(together, gradient, rtol=1e-3, atol=1e-4 * float(gradient.abs().max()))


@every_checkpointed
@pytest.mark.support("losses", "gradient checkpointing")
def test_checkpointing_changes_no_gradient(name, folders):
    decoder = decoder_of(name, folders / name)
    latents, embeddings = decoder.latents(media_of(name, 1)), _embeddings(decoder, 1)
    _, gradient = _loss(decoder, latents, embeddings)
    decoder.gradient_checkpointing = True
    assert not decoder.denoiser().network.is_gradient_checkpointing
    _, again = _loss(decoder, latents, embeddings)
    assert decoder.denoiser().network.is_gradient_checkpointing
    torch.testing.assert_close(again, gradient, rtol=1e-4, atol=1e-6 * float(gradient.abs().max()))


@every
@pytest.mark.support("losses", "finite differences")
def test_the_gradient_is_the_slope(name, decoder):
    """The loss's change along its gradient, and along a random direction, in float64."""
    latents, generator = decoder.latents(media_of(name, 2)), torch.Generator().manual_seed(1)
    # states of padding are zero, where normalisation layers are steep; masks have no effect up to 0.5
    embeddings = _embeddings(decoder, 2)
    embeddings += 0.3 * (2 * torch.rand(embeddings.shape, generator=generator) - 1)
    decoder.denoiser().double()
    _, gradient = _loss(decoder, latents, embeddings)
    random = torch.randn(gradient.shape, generator=generator) * (gradient != 0)
    for direction in (gradient, gradient + gradient.norm() * random / random.norm()):
        offset = 0.003 * embeddings.norm() * direction / direction.norm()
        with torch.no_grad():
            high, low = (
                decoder.denoising_loss(
                    embeddings + sign * offset, latents, gamma=5.0, generator=torch.Generator().manual_seed(0)
                )
                for sign in (1, -1)
            )
        slope = float((gradient * offset).sum())
        assert float(high - low) / 2 == pytest.approx(slope, rel=0.02, abs=1e-7 * float(high))


@every
@pytest.mark.support("losses", "operations counted")
def test_operations_are_counted_without_weights(name, folders):
    """On the meta device as many as of the real denoiser, whose fused attention torch does not count."""
    decoder, modality = decoder_of(name, folders / name), CASES[name][0]
    cost = denoising_cost(decoder, modality)
    assert decoder._pipeline is None
    latents, embeddings = torch.randn(1, *decoder.latent_shape(modality is Modality.VIDEO)), _embeddings(decoder, 1)
    denoiser = decoder.denoiser()
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        denoiser(latents, torch.tensor([500]), embeddings)
    assert cost.forward == counter.get_total_flops() > 0
    assert 0.1 * cost.forward < cost.backward < 2 * cost.forward
