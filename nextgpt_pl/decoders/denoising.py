"""Denoising loss of a medium under a frozen diffusion network that is conditioned on a caption embedding.

Gradients flow through the frozen denoiser into the embedding. Shapes: N media, C latent channels, L x D embedding.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from nextgpt_pl.decoders.noise_levels import noise_levels, target_kind
from nextgpt_pl.decoders.spectrogram import SAMPLE_RATE
from nextgpt_pl.errors import UserError
from nextgpt_pl.losses import denoising_loss, denoising_target, min_snr_weights
from nextgpt_pl.media.audio import resample
from nextgpt_pl.media.reading import array_of, frames_of
from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import Media
from nextgpt_pl.utils.precision import own_precision
from nextgpt_pl.utils.transfer import upload

Denoise = Callable[[Tensor, Tensor, Tensor], Tensor]

# with checkpointing, diffusers leaves the mask out of some of the blocks
_WRONG_CHECKPOINTING = ("ChromaTransformer2DModel",)
_SCALED_ELEMENTS = 16  # the loss is scaled as if it were a mean over this many elements


def checkpoint_blocks(network: Any) -> None:
    """Recompute the blocks of a denoiser in the backward pass.

    Raises:
        UserError: the class does not support it.

    """
    name = type(network).__name__
    if not network._supports_gradient_checkpointing or name in _WRONG_CHECKPOINTING:
        raise UserError(f"decoder gradient_checkpointing: diffusers' {name} does not support it")
    network.enable_gradient_checkpointing()


def loss(
    denoise: Denoise,
    scheduler: Any,
    embeddings: Tensor,
    latents: Tensor,
    gamma: float,
    generator: torch.Generator,
    chunk_size: int = 1,
    tokens: int = 0,
) -> Tensor:
    """Mean over media of the min-SNR-weighted denoising error.

    The network is frozen; only the gradient of the embeddings is needed. It is computed chunk by chunk together with
    the loss, so the activations of one chunk are freed before the next and memory does not grow with N.

    Args:
        denoise: maps noisy latents ``(n, C, ...)``, timesteps ``(n,)`` and embeddings ``(n, *embedding_shape)`` of a
            chunk to the prediction, all on the latents' device.
        scheduler: scheduler of the pipeline; defines prediction type and noise levels.
        embeddings: ``(N, *embedding_shape)``; gradients flow into them.
        latents: ``(N, C, ...)`` float32.
        gamma: upper bound of the min-SNR weights.
        generator: CPU generator of timesteps and noise.
        chunk_size: media per chunk.
        tokens: number of tokens of one medium, see :func:`~nextgpt_pl.decoders.noise_levels.noise_levels`.

    """
    timesteps, alpha, sigma = noise_levels(scheduler, len(latents), generator, tokens)
    noise = upload(torch.randn(latents.shape, generator=generator), latents.device)
    kind = target_kind(scheduler)
    weights = upload(min_snr_weights(alpha, sigma, kind, gamma), latents.device)
    shape = (-1, *[1] * (latents.ndim - 1))
    alpha, sigma = (upload(x, latents.device).view(shape) for x in (alpha, sigma))
    timesteps = upload(timesteps, latents.device)

    def error(part: slice, embedding: Tensor) -> Tensor:
        clean, eps, a, s = latents[part], noise[part], alpha[part], sigma[part]
        predicted = denoise(a * clean + s * eps, timesteps[part], embedding).float()
        # some networks also predict a variance in additional channels
        predicted = predicted[:, : clean.shape[1]]
        share = len(clean) / len(latents)
        return share * denoising_loss(predicted, denoising_target(kind, clean, eps, a, s), weights[part])

    needs_gradient = torch.is_grad_enabled() and embeddings.requires_grad
    # under autocast the embeddings may be float16: the gradient is stored and weighted in float32. The gradient of a
    # mean over a large medium underflows in float16, so the loss is scaled; a power of two causes no rounding.
    scale = 2.0 ** max(0, (latents.numel() // _SCALED_ELEMENTS).bit_length() - 1)
    return cast(Tensor, _ChunkedLoss.apply(error, chunk_size, needs_gradient, scale, embeddings.float()))


class _ChunkedLoss(torch.autograd.Function):
    """Sum of the chunks' losses; the gradient of a chunk is computed before the next chunk runs."""

    @staticmethod
    def forward(
        ctx: Any,
        error: Callable[[slice, Tensor], Tensor],
        chunk_size: int,
        needs_gradient: bool,
        scale: float,
        embeddings: Tensor,
    ) -> Tensor:
        """``error`` computes a chunk's loss from its slice and embeddings; ``scale`` is applied during its backward."""
        total = torch.zeros((), device=embeddings.device)
        gradient = torch.zeros_like(embeddings) if needs_gradient else None
        # no autocast in forward and backward: frozen networks compute in their own dtype
        with own_precision(), torch.set_grad_enabled(needs_gradient):
            for start in range(0, len(embeddings), chunk_size):
                chunk = slice(start, start + chunk_size)
                chunk_embeddings = embeddings[chunk].detach().requires_grad_(needs_gradient)
                loss = error(chunk, chunk_embeddings)
                total += loss.detach()
                if gradient is not None:
                    gradient[chunk] = torch.autograd.grad(loss * scale, chunk_embeddings)[0] / scale
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, weight: Tensor) -> Any:
        """Scale the stored gradients by the gradient of the loss."""
        (gradient,) = ctx.saved_tensors
        return None, None, None, None, weight.to(gradient.dtype) * gradient


def pictures(media: Media, height: int, width: int, frames: int) -> Tensor:
    """An image or evenly spread frames of a video, ``(frames, 3, height, width)`` uint8; the middle is cut out."""
    cut = partial(_covering, height=height, width=width)
    array = frames_of(media, frames, cut) if media.modality is Modality.VIDEO else cut(array_of(media)[0])[None]
    return torch.from_numpy(array).permute(0, 3, 1, 2).contiguous()


def scaled(pixels: Tensor) -> Tensor:
    """Pixels of 8 bits as float32 in [-1, 1]; those of spectrograms are unchanged."""
    return pixels.float() / 127.5 - 1 if pixels.dtype == torch.uint8 else pixels


def _covering(array: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize ``(H, W, 3)`` uint8 until it covers the size, and cut out the middle."""
    picture = Image.fromarray(array)
    scale = max(height / picture.height, width / picture.width)
    sides = (max(width, round(picture.width * scale)), max(height, round(picture.height * scale)))
    if sides != picture.size:
        picture = picture.resize(sides, Image.Resampling.BICUBIC)
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return np.array(picture.crop((left, top, left + width, top + height)))


def waveform(media: Media, seconds: float, rate: int = SAMPLE_RATE) -> Tensor:
    """``(n,)`` samples at ``rate``, cut or padded with silence to ``seconds``."""
    array, own_rate = array_of(media)
    samples = resample(torch.from_numpy(np.ascontiguousarray(array)).float(), int(own_rate or SAMPLE_RATE), rate)
    length = int(seconds * rate)
    return F.pad(samples[:length], (0, max(0, length - len(samples))))
