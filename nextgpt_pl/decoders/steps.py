"""Watch the denoising steps of a pipeline of diffusers: progress, previews, and an end before the last step."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nextgpt_pl.decoders.base import DrawingStep, OnStep

_SIDE = 24  # maximum height and width of the latents of a preview
_FRAMES = 4  # maximum number of frames of a preview
# autoencoders that decode latents (N, C, H, W) of any size
_AUTOENCODERS = ("AutoencoderKL", "AutoencoderTiny", "ConsistencyDecoderVAE")


def callback_arguments(pipeline: Any, on_step: OnStep | None) -> dict[str, Any]:
    """Arguments of a pipeline's call that report each denoising step; none if the pipeline cannot report.

    Args:
        pipeline: a loaded pipeline.
        on_step: called after each step; an exception that it raises ends the call.

    """
    if on_step is None:
        return {}

    def report(number: int, latents: Tensor) -> None:
        on_step(DrawingStep(number + 1, len(pipeline.scheduler.timesteps), lambda: preview(pipeline, latents)))

    def at_end(_pipeline: Any, number: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        report(number, tensors["latents"])
        return {}

    known = inspect.signature(pipeline.__call__).parameters
    if "callback_on_step_end" in known:
        return {"callback_on_step_end": at_end}
    if "callback" in known:  # of older pipelines
        return {"callback": lambda number, _timestep, latents: report(number, latents), "callback_steps": 1}
    return {}


@torch.no_grad()
def preview(pipeline: Any, latents: Tensor) -> list[np.ndarray]:
    """Small images ``(h, w, 3)`` or videos ``(t, h, w, 3)`` uint8 of noisy latents; none if these are no pictures.

    Latents are reduced to 24 x 24 before they are decoded, and videos to four frames: a small part of the work of the
    full decoding.

    Args:
        pipeline: a loaded pipeline.
        latents: ``(N, C, H, W)`` of images, or ``(N, C, T, H, W)`` of videos.

    """
    vae: Any = getattr(pipeline, "vae", None)
    if type(vae).__name__ not in _AUTOENCODERS or latents.ndim not in (4, 5):
        return []
    if latents.shape[1] != vae.config.latent_channels or vae.config.get("out_channels", 3) != 3:
        return []
    moving = latents.ndim == 5
    if moving:
        chosen = torch.linspace(0, latents.shape[2] - 1, min(_FRAMES, latents.shape[2])).round().long()
        latents = latents[:, :, chosen.to(latents.device)].transpose(1, 2)
    count, (height, width) = len(latents), latents.shape[-2:]
    flat = latents.flatten(0, 1) if moving else latents
    scale = min(1.0, _SIDE / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    flat = F.interpolate(flat.float(), size, mode="area") / vae.config.scaling_factor
    flat = flat + (vae.config.get("shift_factor") or 0.0)
    pictures = vae.decode(flat.to(vae.dtype), return_dict=False)[0].float()
    if not pictures.isfinite().all():
        return []
    arrays = ((pictures / 2 + 0.5).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return list(arrays.reshape(count, -1, *arrays.shape[1:]) if moving else arrays)
