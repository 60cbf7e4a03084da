"""Tiny random instances of diffusers' text-to-image, text-to-video and text-to-audio pipelines.

``PIPELINES`` has a case per class name. ``saved(name, folder)`` builds the pipeline and saves it.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tiny_pipelines import images, llm_images, sounds, videos
from tiny_pipelines.parts import LENGTH

_PICTURE = {"num_inference_steps": 2, "guidance_scale": 2.0, "height": 16, "width": 16}
_TRUE_GUIDANCE = {**_PICTURE, "true_cfg_scale": 2.0}
# without a negative prompt, these pipelines are not guided, or by zeros
_EMPTY = {"negative_prompt": [""]}
_LARGER = {"height": 32, "width": 32}
_UNBINNED = {**_PICTURE, "use_resolution_binning": False}


@dataclass(frozen=True)
class Case:
    """A pipeline and how it is asked.

    Attributes:
        build: makes the pipeline.
        shape: of a packed embedding.
        sampling: arguments of its call.
        length: the decoder's ``max_length``.
        decoder: class of the decoder.
        rate: frames per second of a video, sample rate of a sound.
        asked: arguments of the call with prompts, besides ``sampling``; those in lists are given for each prompt.
        negatives: the decoder's negative prompt, and another one.

    """

    build: Callable[[], Any]
    shape: tuple[int, int]
    sampling: dict[str, Any] = field(default_factory=lambda: dict(_PICTURE))
    length: int | None = LENGTH
    decoder: str = "PromptDecoder"
    rate: float | None = None
    asked: dict[str, Any] = field(default_factory=dict)
    negatives: tuple[str, str] = ("", "a blue star on the left")

    @property
    def takes_negative(self) -> bool:
        """Whether the pipeline has a negative prompt."""
        return self.build not in (images.flux_2, images.flux_2_klein, sounds.ace_step)

    def arguments(self, pipeline: Any, count: int) -> dict[str, Any]:
        """Arguments of a call with ``count`` prompts that ask for what the decoder makes of them."""
        known = inspect.signature(pipeline.__call__).parameters
        length = {"max_sequence_length": self.length} if "max_sequence_length" in known and self.length else {}
        asked = {name: value * count if isinstance(value, list) else value for name, value in self.asked.items()}
        return {**self.sampling, **length, **asked}


def _video(build: Callable[[], Any], shape: tuple[int, int], frames: int = 9, **sampling: Any):
    return Case(build, shape, {**_PICTURE, "num_frames": frames, **sampling}, rate=8.0)


PIPELINES: dict[str, Case] = {
    "PixArtAlphaPipeline": Case(images.pixart_alpha, (LENGTH, 33), _UNBINNED),
    "PixArtSigmaPipeline": Case(images.pixart_sigma, (LENGTH, 33), _UNBINNED),
    "StableDiffusionXLPipeline": Case(images.stable_diffusion_xl, (LENGTH + 1, 48)),
    "StableDiffusion3Pipeline": Case(images.stable_diffusion_3, (77 + LENGTH + 1, 32)),
    "FluxPipeline": Case(images.flux, (LENGTH + 1, 32), _TRUE_GUIDANCE, asked=_EMPTY),
    "Flux2Pipeline": Case(images.flux_2, (64, 48), length=64),
    "Flux2KleinPipeline": Case(images.flux_2_klein, (64, 48), length=64),
    "AuraFlowPipeline": Case(images.aura_flow, (LENGTH, 33)),
    "ChromaPipeline": Case(images.chroma, (LENGTH, 33)),
    "HunyuanDiTPipeline": Case(images.hunyuan_dit, (77 + 256, 33), _UNBINNED, length=None),
    "SanaPipeline": Case(llm_images.sana, (LENGTH, 17), {**_UNBINNED, **_LARGER}),
    "QwenImagePipeline": Case(
        llm_images.qwen_image,
        (128, 17),
        {"num_inference_steps": 2, "true_cfg_scale": 2.0, "height": 16, "width": 16},
        length=128,
        asked=_EMPTY,
    ),
    "CogView4Pipeline": Case(llm_images.cogview_4, (48, 17), length=48),
    "Lumina2Pipeline": Case(llm_images.lumina_2, (128, 17), {**_PICTURE, **_LARGER}, length=128),
    "HiDreamImagePipeline": Case(llm_images.hidream_image, (3 * LENGTH + 1, 32)),
    "ZImagePipeline": Case(llm_images.z_image, (32, 17), length=32),
    "CogVideoXPipeline": _video(videos.cogvideox, (LENGTH, 32)),
    "LTXPipeline": _video(videos.ltx, (LENGTH, 33), **_LARGER),
    "LTX2Pipeline": _video(
        videos.ltx_2,
        (LENGTH, 33),
        **_LARGER,
        **{f"{kind}{name}": 0.0 for kind in ("", "audio_") for name in ("stg_scale", "guidance_rescale")},
        modality_scale=1.0,
        audio_modality_scale=1.0,
        audio_guidance_scale=2.0,
    ),
    "WanPipeline": _video(videos.wan, (LENGTH, 32)),
    "HunyuanVideoPipeline": Case(
        videos.hunyuan_video,
        (128 + 1, 17),
        {**_TRUE_GUIDANCE, "num_frames": 9},
        length=128,
        rate=8.0,
        asked=_EMPTY,
    ),
    "MochiPipeline": _video(videos.mochi, (LENGTH, 33), frames=7),
    "StableAudioPipeline": Case(
        sounds.stable_audio,
        (LENGTH, 33),
        {"num_inference_steps": 2, "guidance_scale": 2.0, "audio_end_in_s": 1.5},
        decoder="StableAudioDecoder",
        rate=4.0,
        asked=_EMPTY,
    ),
    "AudioLDM2Pipeline": Case(
        sounds.audioldm_2,
        (LENGTH + 8, 33),
        {"num_inference_steps": 2, "guidance_scale": 2.0, "audio_length_in_s": 0.01},
        rate=16000.0,
        # the pipeline fills the negative prompt to the length of the prompt, which changes what is generated from it
        asked={"negative_prompt": ["the loud low bell"]},
        negatives=("the loud low bell", "a blue star left"),
    ),
    "AceStepPipeline": Case(
        sounds.ace_step,
        (96 + 64, 17),
        {"num_inference_steps": 2, "guidance_scale": 2.0, "audio_duration": 1.0, "max_lyric_length": 64},
        length=96,
        rate=50.0,
        asked={"max_text_length": 96, "lyrics": [""]},
    ),
}


def saved(name: str, folder: Path) -> Any:
    """Build a pipeline, always with the same weights, save it to a folder, and return it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipeline = PIPELINES[name].build()
    pipeline.save_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
