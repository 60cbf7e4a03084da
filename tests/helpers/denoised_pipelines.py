"""Decoders with a denoising loss, on tiny random pipelines, and what their pipelines pass to the denoiser."""

import inspect
from contextlib import contextmanager

import diffusers
import numpy as np
import torch
from tiny_pipelines import PIPELINES

from nextgpt_pl import decoders
from nextgpt_pl.decoders.noise_levels import angular_levels, discrete_levels, flow_levels, target_kind
from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.parts import pocket_decoder
from nextgpt_pl.samples import Media

STEPS = 4
_ONE = {"num_inference_steps": STEPS, "guidance_scale": 1.0}
_PICTURE = {"height": 16, "width": 32}
_VIDEO = {"height": 32, "width": 64, "num_frames": 9}
# modality and size of media
CASES = {
    "StableDiffusionPipeline": (Modality.IMAGE, {}),
    "TextToVideoSDPipeline": (Modality.VIDEO, {}),
    "AudioLDMPipeline": (Modality.AUDIO, {}),
    "StableDiffusionXLPipeline": (Modality.IMAGE, _PICTURE),
    "PixArtSigmaPipeline": (Modality.IMAGE, _PICTURE),
    "StableDiffusion3Pipeline": (Modality.IMAGE, _PICTURE),
    "FluxPipeline": (Modality.IMAGE, {**_PICTURE, "guidance_scale": 2.5, "true_cfg_scale": 1.0}),
    "ChromaPipeline": (Modality.IMAGE, _PICTURE),
    "AuraFlowPipeline": (Modality.IMAGE, _PICTURE),
    "SanaPipeline": (Modality.IMAGE, {"height": 32, "width": 32}),
    "CogVideoXPipeline": (Modality.VIDEO, {**_PICTURE, "num_frames": 9}),
    "LTXPipeline": (Modality.VIDEO, {**_VIDEO, "frame_rate": 8}),
    "WanPipeline": (Modality.VIDEO, _VIDEO),
    "StableAudioPipeline": (Modality.AUDIO, {}),
}
POCKET = list(CASES)[:3]


def built(name):
    """The tiny pipeline, changed where its published model differs: statistics of latents, shifts, guidance."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipeline = PIPELINES[name].build()
        dynamic = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05)
        if name == "LTXPipeline":
            pipeline.vae.latents_mean += 0.3
            pipeline.vae.latents_std *= 1.7
            pipeline.scheduler = dynamic
        if name == "WanPipeline":
            pipeline.vae.register_to_config(latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[0.5, 1.5, 2.0, 1.0])
        if name == "StableDiffusion3Pipeline":
            pipeline.scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
            patched = type(pipeline.transformer).from_config(pipeline.transformer.config, patch_size=2)
            pipeline.register_modules(transformer=patched)
        if name == "AuraFlowPipeline":
            # the text has little effect at the weights' initial size
            for weight in pipeline.transformer.parameters():
                weight.data.mul_(2)
        if name == "FluxPipeline":
            pipeline.scheduler = dynamic
            guided = type(pipeline.transformer).from_config(pipeline.transformer.config, guidance_embeds=True)
            pipeline.register_modules(transformer=guided)
    return pipeline


def decoder_of(name, folder, **options):
    """The decoder of a case; a tiny pipeline is saved to ``folder``, unless it is there."""
    modality, size = CASES[name]
    if name in POCKET:
        decoder = pocket_decoder(modality)
        decoder.sampling |= {**_ONE, "guidance_interval": None}
        return decoder
    case = PIPELINES[name]
    if not folder.exists():
        built(name).save_pretrained(folder)
    sampling = {**case.sampling, **_ONE, **size}
    decoder_class = getattr(decoders, case.decoder)
    return decoder_class(name, str(folder), sampling, max_length=case.length, **options)


def media_of(name, count):
    """Random media of a case's modality."""
    modality, random = CASES[name][0], np.random.default_rng(0)
    shape = {Modality.IMAGE: (40, 40, 3), Modality.VIDEO: (9, 40, 40, 3), Modality.AUDIO: (32000,)}[modality]
    arrays = [random.integers(0, 255, shape, dtype=np.uint8) for _ in range(count)]
    if modality is Modality.AUDIO:
        return [Media(modality, lambda a=a: a.astype(np.float32) / 255 - 0.5, sample_rate=16000) for a in arrays]
    return [Media(modality, lambda a=a: a) for a in arrays]


@contextmanager
def captured(network):
    """A list of the denoiser's arguments, by name, one entry per call."""
    calls, signature = [], inspect.signature(type(network).forward)

    def hook(module, positional, named):
        arguments = signature.bind(module, *positional, **named).arguments
        given = {k: v for k, v in arguments.items() if isinstance(v, torch.Tensor) or v not in (None, {})}
        calls.append({k: v for k, v in given.items() if k not in ("self", "return_dict")})

    handle = network.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield calls
    finally:
        handle.remove()


def levels_of_steps(decoder, tokens):
    """The loss's timesteps, alpha and sigma at the noise levels of the sampler's steps ``(STEPS,)``."""
    scheduler = decoder._loaded().scheduler
    sigmas = scheduler.sigmas[:STEPS] if hasattr(scheduler, "sigmas") else None
    if target_kind(scheduler) == "flow":
        # the shares before the shift, spaced as each pipeline spaces them
        if decoder.files.pipeline == "WanPipeline":
            uniform = torch.linspace(1, 1e-3, STEPS + 1)[:-1]
        elif decoder.files.pipeline in ("FluxPipeline", "ChromaPipeline", "LTXPipeline"):
            uniform = torch.linspace(1, 1 / STEPS, STEPS)
        else:
            uniform = torch.linspace(1, scheduler.sigma_min, STEPS)
        found = flow_levels(scheduler, uniform, tokens)
        torch.testing.assert_close(found[2], sigmas, atol=2e-6, rtol=1e-6)
        return found
    if hasattr(scheduler, "precondition_noise"):
        return angular_levels(scheduler, sigmas.atan() / (torch.pi / 2))
    return discrete_levels(scheduler, scheduler.timesteps.long())


def assert_called_as_sampled(decoder, embeddings, modality):
    """At the noise levels of two steps, the denoiser's arguments in the loss are those that the pipeline passes."""
    denoiser, count = decoder.denoiser(), len(embeddings)
    with captured(denoiser.network) as theirs:
        decoder.generate(embeddings, seed=0)
    shape = torch.Size((count, *decoder.latent_shape(modality is Modality.VIDEO)))
    timesteps, _, _ = levels_of_steps(decoder, denoiser.tokens(shape))
    first = next(iter({"sample", "hidden_states"} & theirs[0].keys()))
    for step in (1, 2):
        noisy = denoiser.described.unpacked(theirs[step][first], shape)
        assert noisy.shape == shape
        with captured(denoiser.network) as ours, torch.no_grad():
            predicted = denoiser(noisy, timesteps[step].expand(count), embeddings)
        _assert_same(ours[0], theirs[step], decoder.files.pipeline)
        assert predicted.shape[2:] == shape[2:]


def _assert_same(ours, theirs, where):
    """Equal names, dtypes, shapes and values of nested arguments; a timestep may stand for all media."""
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys(), where
        for key in theirs:
            _assert_same(ours[key], theirs[key], f"{where}.{key}")
    elif isinstance(theirs, (tuple, list)):
        assert len(ours) == len(theirs), where
        for i, pair in enumerate(zip(ours, theirs, strict=True)):
            _assert_same(*pair, f"{where}[{i}]")
    elif isinstance(theirs, torch.Tensor):
        if where.endswith("timestep"):
            theirs = theirs.expand(ours.shape)
            ours = ours.to(theirs.dtype) if theirs.dtype != ours.dtype and (ours == theirs).all() else ours
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6, msg=lambda text: f"{where}: {text}")
    else:
        assert ours == theirs, where


def latents_of_decoding(decoder, decoded, count):
    """Latents ``(N, C, ...)`` from what the pipeline passes to ``vae.decode``."""
    if decoder.files.pipeline == "TextToVideoSDPipeline":
        return decoded.unflatten(0, (count, -1)).transpose(1, 2)
    return decoded
