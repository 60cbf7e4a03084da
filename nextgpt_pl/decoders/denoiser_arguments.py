"""Arguments of the denoisers of diffusers' pipelines, as the pipelines pass them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nextgpt_pl.decoders import positions
from nextgpt_pl.utils.transfer import upload


@dataclass(frozen=True)
class Call:
    """One call of a denoiser.

    Attributes:
        noisy: noisy latents in the denoiser's arrangement and dtype.
        timesteps: ``(n,)``, as the scheduler has them.
        text: the text arguments of the pipeline's call: ``prompt_embeds``, and a mask or a pooled vector.
        shape: of the latents, ``(n, C, h, w)``, ``(n, C, T, h, w)`` or, of sounds, ``(n, C, samples)``.
        parts: all frozen networks, by name.
        network: the denoiser.
        options: sizes and arguments of the pipeline's call.

    """

    noisy: Tensor
    timesteps: Tensor
    text: Mapping[str, Tensor]
    shape: torch.Size
    parts: Any
    network: Any
    options: Mapping[str, Any]

    @property
    def states(self) -> Tensor:
        """``(n, L, D)``."""
        return self.text["prompt_embeds"]

    @property
    def pooled(self) -> Tensor:
        """``(n, P)``."""
        return self.text["pooled_prompt_embeds"]

    def common(self) -> dict[str, Any]:
        """What most transformers take."""
        return {"hidden_states": self.noisy, "timestep": self.timesteps, "encoder_hidden_states": self.states}

    def full(self, value: float, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """A constant on the device."""
        return torch.full(shape, value, dtype=dtype, device=self.noisy.device)


def unet(call: Call) -> dict[str, Any]:
    """Stable Diffusion and text-to-video."""
    return {"sample": call.noisy, "timestep": call.timesteps, "encoder_hidden_states": call.states}


def audioldm(call: Call) -> dict[str, Any]:
    """One normalised vector, as class labels."""
    vectors = F.normalize(call.states, dim=-1)
    return {**unet(call), "encoder_hidden_states": None, "class_labels": vectors}


def unet_xl(call: Call) -> dict[str, Any]:
    """Stable Diffusion XL: the size, and a crop at the upper left corner."""
    size = (call.options["height"], call.options["width"])
    names = ("original_size", "crops_coords_top_left", "target_size")
    sizes = [number for name in names for number in call.options.get(name) or size]
    ids = upload(torch.tensor([sizes], dtype=call.states.dtype), call.noisy.device).expand(len(call.noisy), -1)
    return {**unet(call), "added_cond_kwargs": {"text_embeds": call.pooled, "time_ids": ids}}


def pixart(call: Call) -> dict[str, Any]:
    """PixArt; models for 1024 pixels take the size and its ratio."""
    added: dict[str, Any] = {"resolution": None, "aspect_ratio": None}
    if call.network.use_additional_conditions:
        height, width = call.options["height"], call.options["width"]
        resolution = upload(torch.tensor([[height, width]], dtype=call.noisy.dtype), call.noisy.device)
        ratio = call.full(height / width, len(call.noisy), 1, dtype=call.noisy.dtype)
        added = {"resolution": resolution.expand(len(call.noisy), 2), "aspect_ratio": ratio}
    mask = call.text["prompt_attention_mask"]
    return {**call.common(), "encoder_attention_mask": mask, "added_cond_kwargs": added}


def stable_diffusion_3(call: Call) -> dict[str, Any]:
    """States and pooled vector."""
    return {**call.common(), "pooled_projections": call.pooled}


def flux(call: Call) -> dict[str, Any]:
    """Timesteps as shares, the guidance that the model was distilled with, and the position of each token."""
    distilled = call.network.config.guidance_embeds
    return {
        **_positioned(call),
        "guidance": call.full(call.options["guidance_scale"], len(call.noisy)) if distilled else None,
        "pooled_projections": call.pooled,
    }


def chroma(call: Call) -> dict[str, Any]:
    """As Flux, with a mask over text and image in place of guidance and pooled vector."""
    mask = call.text["prompt_attention_mask"].to(call.noisy.dtype)
    return {**_positioned(call), "attention_mask": F.pad(mask, (0, call.noisy.shape[1]), value=1.0)}


def _positioned(call: Call) -> dict[str, Any]:
    ids = positions.grid_ids(call.shape[-2] // 2, call.shape[-1] // 2, call.noisy)
    return {
        **call.common(),
        "timestep": call.timesteps.to(call.noisy.dtype) / 1000,
        "txt_ids": ids.new_zeros(call.states.shape[1], 3),
        "img_ids": ids,
    }


def aura_flow(call: Call) -> dict[str, Any]:
    """Timesteps as shares; the mask has no effect."""
    return {**call.common(), "timestep": (call.timesteps / 1000).to(call.noisy.dtype)}


def sana(call: Call) -> dict[str, Any]:
    """Scaled timesteps, and a mask."""
    return {
        **call.common(),
        "timestep": call.timesteps * call.network.config.timestep_scale,
        "encoder_attention_mask": call.text["prompt_attention_mask"],
    }


def ltx(call: Call) -> dict[str, Any]:
    """The number of latents and their distances in seconds and pixels."""
    frames, height, width = call.shape[-3:]
    across, seconds = call.options["pixels_per_latent"], call.options["frames_per_latent"] / call.options["frame_rate"]
    return {
        **call.common(),
        "encoder_attention_mask": call.text["prompt_attention_mask"],
        "num_frames": frames,
        "height": height,
        "width": width,
        "rope_interpolation_scale": (seconds, across, across),
    }


def wan(call: Call) -> dict[str, Any]:
    """States only; version 2.2's small model takes one timestep per token."""
    arguments = call.common()
    if call.options.get("expand_timesteps"):
        frames, height, width = call.shape[-3:]
        tokens = frames * (height // 2) * (width // 2)
        arguments["timestep"] = call.timesteps.unsqueeze(1).float().expand(-1, tokens)
    return arguments


def cogvideox(call: Call) -> dict[str, Any]:
    """States, and positions by rotation in the larger models."""
    config = call.network.config
    rotated = config.use_rotary_positional_embeddings
    rotary = positions.video_rotary(config, call.shape[-3:], call.noisy.device) if rotated else None
    return {**call.common(), "image_rotary_emb": rotary}


def stable_audio(call: Call) -> dict[str, Any]:
    """Projected states with start and end in seconds, which are the global condition too."""
    project, count = call.parts["projection_model"], len(call.noisy)
    states = project(text_hidden_states=call.states).text_hidden_states
    states = states * call.text["attention_mask"].unsqueeze(-1).to(states.dtype)
    start, end = (call.full(call.options[name], count) for name in ("audio_start_in_s", "audio_end_in_s"))
    times = project(start_seconds=start, end_seconds=end)
    bounds = [times.seconds_start_hidden_states, times.seconds_end_hidden_states]
    width = call.network.config.attention_head_dim // 2
    return {
        **call.common(),
        "encoder_hidden_states": torch.cat([states, *bounds], dim=1),
        "global_hidden_states": torch.cat(bounds, dim=2),
        "rotary_embedding": positions.line_rotary(width, call.shape[-1] + 1, call.noisy.device),
    }
