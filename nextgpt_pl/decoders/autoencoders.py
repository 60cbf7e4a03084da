"""Sizes and normalisation of the latents of diffusers' autoencoders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Compression:
    """How an autoencoder reduces media.

    Attributes:
        side: pixels per latent, along height and width.
        frames: frames per latent frame; the first frame has a latent frame of its own.
        moving: whether it encodes videos ``(N, C, T, H, W)``; otherwise each frame is an image.

    """

    side: int
    frames: int = 1
    moving: bool = False

    def latent_frames(self, frames: int) -> int:
        """Number of latent frames of ``frames`` frames."""
        return (frames - 1) // self.frames + 1

    def whole(self, frames: int, multiple: int = 1) -> int:
        """Number of frames that fills the latent frames of ``frames`` frames, or a multiple of latent frames."""
        latent_frames = -(-self.latent_frames(frames) // multiple) * multiple
        return (latent_frames - 1) * self.frames + 1


def compression(config: Mapping[str, Any]) -> Compression:
    """The compression of an autoencoder of pictures, from its configuration."""
    if "scale_factor_spatial" in config:  # Wan
        return Compression(int(config["scale_factor_spatial"]), int(config["scale_factor_temporal"]), moving=True)
    if "spatio_temporal_scaling" in config:  # LTX
        halvings = 2 ** sum(config["spatio_temporal_scaling"])
        side = config.get("spatial_compression_ratio") or config["patch_size"] * halvings
        return Compression(
            int(side), int(config.get("temporal_compression_ratio") or config["patch_size_t"] * halvings), moving=True
        )
    blocks = config.get("block_out_channels") or config["encoder_block_out_channels"]  # the latter of Sana
    side = 2 ** (len(blocks) - 1)
    frames = config.get("temporal_compression_ratio")  # CogVideoX
    return Compression(side, int(frames or 1), moving=frames is not None)


def encoded(vae: Any, pixels: Tensor) -> Tensor:
    """Latents of pixels as the denoiser sees them, float32; of a distribution its mode."""
    output = vae.encode(pixels)
    return normalised(vae, output.latent if hasattr(output, "latent") else output.latent_dist.mode())


def normalised(vae: Any, latents: Tensor) -> Tensor:
    """Latents ``(N, C, ...)`` of ``vae.encode`` as the denoiser sees them, float32.

    They are shifted and scaled per channel, if the autoencoder has statistics of its channels, or by constants.
    """
    latents, config = latents.float(), vae.config
    # values of the configuration, or buffers
    names = ("latents_mean", "latents_std")
    mean, std = (config[name] if name in config else getattr(vae, name, None) for name in names)
    if mean is not None and std is not None:
        shape = (1, -1, *[1] * (latents.ndim - 2))
        mean, std = (torch.as_tensor(x, dtype=torch.float32).to(latents.device).view(shape) for x in (mean, std))
        latents = (latents - mean) / std
    elif config.get("shift_factor") is not None:
        latents = latents - config["shift_factor"]
    return latents * config.get("scaling_factor", 1.0)
