"""The pocket image decoder: a real ``StableDiffusionPipeline`` with a small VAE, UNet and CLIP text model."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.pretrain import quality
from nextgpt_pl.pocket.pretrain.diffusion import (
    LATENT_CHANNELS,
    Autoencoding,
    LatentDiffusion,
    build_scheduler,
    build_vae,
    pixels,
    set_scaling_factor,
)
from nextgpt_pl.pocket.pretrain.loop import save_half, train
from nextgpt_pl.pocket.pretrain.text import CONTEXT, caption_tokenizer, load_tokenizer
from nextgpt_pl.pocket.render import render
from nextgpt_pl.pocket.world import draw_scene

TEXT_WIDTH = 128
ITEMS = 24_000


def build_text_encoder(tokenizer: Any) -> CLIPTextModel:
    """Two layers of a CLIP text model; its last hidden state is the caption embedding, ``(B, 32, 128)``."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=CONTEXT,
            projection_dim=TEXT_WIDTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def build_unet() -> UNet2DConditionModel:
    """Two levels of 64 and 128 channels over 8x8 latents, cross-attention at both."""
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(64, 128),
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,  # diffusers reads this as the number of heads
        norm_num_groups=32,
    )


class ImageDiffusion(LatentDiffusion):
    """Text to image."""

    modality = Modality.IMAGE

    def condition(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The text model's last hidden state; Stable Diffusion passes no mask either."""
        return self.text_encoder(input_ids).last_hidden_state

    def denoise(self, noisy: Tensor, timesteps: Tensor, condition: Tensor) -> Tensor:
        """One pass of the UNet."""
        return self.unet(noisy, timesteps, condition).sample


def _pictures(rng: Random, size: int) -> Tensor:
    """Half images, half video frames, ``(size, 3, 64, 64)``: the video decoder uses the same autoencoder."""
    pictures = [render(draw_scene(Modality.IMAGE, rng), rng) for _ in range(size // 2)]
    while len(pictures) < size:
        pictures += list(render(draw_scene(Modality.VIDEO, rng), rng))
    return pixels(pictures[:size])


def picture_batch(rng: Random) -> tuple[Tensor, Tensor]:
    """Whole pictures and weights; crops would be cheaper, but change what the normalisation layers see."""
    x = _pictures(rng, 16)
    return x, 1 + 6 * ((x - x[:, :, :1, :1]).abs().amax(1, keepdim=True) > 0.05).float()


def train_vae(work: Path, seed: int, steps: int = 3_000) -> AutoencoderKL:
    """The autoencoder that image and video share."""
    task = Autoencoding(build_vae(3), picture_batch, steps=steps, seed=seed)
    train(task, work)
    set_scaling_factor(task.vae, _pictures(Random("scaling"), 256))
    return task.vae


def pretrain_image(out: Path, work: Path, *, seed: int = 0, steps: int = 3_000) -> dict[str, float]:
    """Train autoencoder, then text model and UNet together; saves the pipeline to ``out/image``."""
    tokenizer = caption_tokenizer(load_tokenizer(out, seed))
    torch.manual_seed(seed)
    vae = train_vae(work, seed).eval().requires_grad_(False)
    task = ImageDiffusion(build_unet(), build_text_encoder(tokenizer), tokenizer, steps=steps, lr=1e-3, seed=seed)
    scale = vae.config.scaling_factor
    task.fill_cache(lambda a: vae.encode(pixels(a)).latent_dist.mean * scale, ITEMS, work / "latents.safetensors")
    train(task, work)
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=task.text_encoder,
        tokenizer=tokenizer,
        unet=task.unet,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    save_half(pipeline, out / "image")
    return quality.measure(pipeline, Modality.IMAGE)
