"""Decoders with a denoising loss, on tiny random pipelines, and what their pipelines pass to the denoiser."""

import inspect
from contextlib import contextmanager

import numpy as np
import torch

from nextgpt_pl.decoders import PromptDecoder, StableAudioDecoder
from nextgpt_pl.decoders.noise_levels import angular_levels, discrete_levels, flow_levels, target_kind
from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.parts import pocket_decoder
from nextgpt_pl.samples import Media
from tests.decoders import test_prompts
from tests.helpers import tiny_transformers

STEPS = 4
_ONE = {"num_inference_steps": STEPS, "guidance_scale": 1.0}
_PICTURE = {**_ONE, "height": 16, "width": 32}
_VIDEO = {**_ONE, "height": 32, "width": 64, "num_frames": 9}
# modality, builder, decoder and sampling
CASES = {
    "StableDiffusionPipeline": (Modality.IMAGE, None, None, None),
    "TextToVideoSDPipeline": (Modality.VIDEO, None, None, None),
    "AudioLDMPipeline": (Modality.AUDIO, None, None, None),
    "StableDiffusionXLPipeline": (Modality.IMAGE, test_prompts._xl, PromptDecoder, _PICTURE),
    "PixArtSigmaPipeline": (
        Modality.IMAGE,
        test_prompts._pixart,
        PromptDecoder,
        {**_PICTURE, "use_resolution_binning": False},
    ),
    "CogVideoXPipeline": (
        Modality.VIDEO,
        test_prompts._cogvideox,
        PromptDecoder,
        {**_PICTURE, "num_frames": 9},
    ),
    "LTXPipeline": (Modality.VIDEO, tiny_transformers.ltx, PromptDecoder, {**_VIDEO, "frame_rate": 8}),
    "WanPipeline": (Modality.VIDEO, tiny_transformers.wan, PromptDecoder, _VIDEO),
    "StableAudioPipeline": (
        Modality.AUDIO,
        test_prompts._stable_audio,
        StableAudioDecoder,
        {**_ONE, "audio_end_in_s": 1.5},
    ),
}


def decoder_of(name, folder, **options):
    """The decoder of a case; a tiny pipeline is saved to ``folder``, unless it is there."""
    modality, make, decoder_class, sampling = CASES[name]
    if make is None:
        decoder = pocket_decoder(modality)
        decoder.sampling |= {**_ONE, "guidance_interval": None}
        return decoder
    if not folder.exists():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            make().save_pretrained(folder)
    return decoder_class(name, str(folder), sampling, max_length=test_prompts.LENGTH, **options)


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
        calls.append({k: v for k, v in arguments.items() if k not in ("self", "return_dict") and v is not None})

    handle = network.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield calls
    finally:
        handle.remove()


def levels_of_steps(scheduler, tokens):
    """The loss's timesteps, alpha and sigma at the noise levels of the sampler's steps ``(STEPS,)``."""
    sigmas, timesteps = scheduler.sigmas[:STEPS] if hasattr(scheduler, "sigmas") else None, scheduler.timesteps
    if target_kind(scheduler) == "flow":
        # the share before the shift, spaced as each sampler spaces it
        last = scheduler.config.get("shift", 0) and 1 / STEPS
        uniform = torch.linspace(1, 1 / STEPS, STEPS) if last else torch.linspace(1, 1e-3, STEPS + 1)[:-1]
        found = flow_levels(scheduler, uniform, tokens)
        torch.testing.assert_close(found[2], sigmas, atol=2e-6, rtol=1e-6)
        return found
    if hasattr(scheduler, "precondition_noise"):
        return angular_levels(scheduler, sigmas.atan() / (torch.pi / 2))
    return discrete_levels(scheduler, timesteps.long())


def latents_of_decoding(decoder, decoded, count):
    """Latents ``(N, C, ...)`` from what the pipeline passes to ``vae.decode``."""
    if decoder.files.pipeline == "TextToVideoSDPipeline":
        return decoded.unflatten(0, (count, -1)).transpose(1, 2)
    return decoded
