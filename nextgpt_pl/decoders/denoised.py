"""Decoders that a denoising loss can be computed through: autoencoder and UNet of a pipeline."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from nextgpt_pl.decoders import denoising
from nextgpt_pl.decoders.base import Decoder
from nextgpt_pl.decoders.captions import MEMORY_BYTES
from nextgpt_pl.errors import UserError
from nextgpt_pl.features import Memory, Preparation
from nextgpt_pl.features.keys import media_name
from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import Media
from nextgpt_pl.utils.precision import own_precision
from nextgpt_pl.utils.transfer import upload


class DenoisedDecoder(Decoder):
    """Denoising loss of a pipeline; see :class:`~nextgpt_pl.decoders.diffusion.DiffusionDecoder` for the attributes."""

    pipeline_name: str
    sampling: dict[str, Any]
    loss_size: dict[str, Any]
    gradient_checkpointing: bool
    loss_batch: int
    device: torch.device

    def __init__(self) -> None:
        self._latents = Memory(MEMORY_BYTES)

    @abstractmethod
    def _loaded(self) -> Any:
        """The diffusion networks, without text encoder and tokenizer."""

    @abstractmethod
    def _config(self, part: str, file: str = "config.json") -> dict[str, Any]:
        """The configuration of a part; reads no weights."""

    @torch.no_grad()
    @own_precision()
    def latents(self, media: Sequence[Media], inputs: Sequence[Tensor | None] = ()) -> Tensor:
        """``(N, C, h, w)`` of images, ``(N, C, T, h, w)`` of videos; latents are cached in memory."""
        prepare, inputs = self.preparation().prepare, inputs or [None] * len(media)

        def compute(missing: list[int]) -> Tensor:
            pixels = ((media[i], inputs[i]) for i in missing)
            return torch.stack([self._latent(m, prepare(m) if read is None else read) for m, read in pixels])

        return upload(torch.stack(self._latents.fetch([media_name(m) for m in media], compute)), self.device)

    def _latent(self, medium: Media, pixels: Tensor) -> Tensor:
        vae = self._loaded().vae
        pixels = denoising.scaled(upload(pixels, self.device)).to(next(vae.parameters()).dtype)
        latent = vae.encode(pixels).latent_dist.mode().float() * vae.config.scaling_factor
        return latent[0] if medium.modality is not Modality.VIDEO else latent.transpose(0, 1)

    def preparation(self) -> Preparation:
        """See :meth:`Decoder.preparation`; ``(frames, channels, height, width)``, of pictures uint8."""
        height, width, frames = self.picture_size()
        return Preparation(partial(denoising.pictures, height=height, width=width, frames=frames), self._latents)

    def loss_sizes(self) -> dict[str, Any]:
        """Arguments of ``loss_size``, with ``sampling`` as default; null values are dropped."""
        entries = [(name, value) for options in (self.sampling, self.loss_size) for name, value in options.items()]
        return {name: value for name, value in entries if value is not None}

    def picture_size(self) -> tuple[int, int, int]:
        """Height, width and frames of media in the denoising loss."""
        factor = 2 ** (len(self._config("vae")["block_out_channels"]) - 1)
        side = self._config("unet").get("sample_size", 64) * factor
        size: dict[str, Any] = {"height": side, "width": side, "num_frames": 16, **self.loss_sizes()}
        return int(size["height"]), int(size["width"]), int(size["num_frames"])

    def denoising_loss(
        self, embeddings: Tensor, latents: Tensor, *, gamma: float, generator: torch.Generator
    ) -> Tensor:
        """See :meth:`Decoder.denoising_loss`.

        Raises:
            UserError: the pipeline's denoiser is not a UNet.

        """
        pipeline = self._loaded()
        if "unet" not in pipeline.components:
            raise UserError(f"model.denoising_weights: {self.pipeline_name} has no UNet to be trained through")
        return self.loss_through(pipeline.unet, pipeline.scheduler, embeddings, latents, gamma, generator)

    def loss_through(
        self, unet: Any, scheduler: Any, embeddings: Tensor, latents: Tensor, gamma: float, generator: torch.Generator
    ) -> Tensor:
        """The denoising loss through a frozen UNet of this decoder's class, which may be on the meta device."""
        unet.requires_grad_(False)
        if self.gradient_checkpointing and not unet.is_gradient_checkpointing:
            denoising.checkpoint_blocks(unet)
        dtype = next(unet.parameters()).dtype

        def denoise(noisy: Tensor, timesteps: Tensor, embedding: Tensor) -> Tensor:
            return unet(noisy.to(dtype), timesteps, **self.unet_conditions(embedding.to(dtype))).sample

        return denoising.loss(denoise, scheduler, embeddings, latents, gamma, generator, chunk_size=self.loss_batch)

    def unet_conditions(self, embeddings: Tensor) -> dict[str, Any]:
        """Convert embeddings to arguments of the UNet."""
        return {"encoder_hidden_states": embeddings}

    def latent_shape(self, frames: bool) -> tuple[int, ...]:
        """Shape of the latents of one medium in the denoising loss; ``frames``: of a video. Reads no weights."""
        height, width, count = self.picture_size()
        factor = 2 ** (len(self._config("vae")["block_out_channels"]) - 1)
        channels = int(self._config("unet")["in_channels"])
        return (channels, *((count,) if frames else ()), height // factor, width // factor)
