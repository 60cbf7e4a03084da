"""The pocket image decoder: a real ``StableDiffusionPipeline`` with a small VAE, UNet and CLIP text model."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.pretrain import quality
from nextgpt_pl.pocket.pretrain.autoencoder import (
    LATENT_SIZE,
    Decoding,
    PatchBasis,
    build_vae,
    pixels,
)
from nextgpt_pl.pocket.pretrain.captions import CaptionCoding, train_coding
from nextgpt_pl.pocket.pretrain.diffusion import LatentDiffusion, build_scheduler
from nextgpt_pl.pocket.pretrain.loop import save_half, train
from nextgpt_pl.pocket.pretrain.pictures import draw_picture
from nextgpt_pl.pocket.pretrain.text import CONTEXT
from nextgpt_pl.pocket.world.render import render
from nextgpt_pl.pocket.world.scenes import ImageScene, Scene, draw_scene

TEXT_WIDTH = 128
LATENT_CHANNELS = 12
ITEMS = 24_000
SMALL_SHARE = 0.5  # share of the VAE decoder's images that must contain a small object


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
        sample_size=LATENT_SIZE,
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
    batch_size = 48

    @staticmethod
    def condition(text_encoder: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The text model's last hidden state; Stable Diffusion passes no mask either."""
        return text_encoder(input_ids).last_hidden_state

    def training_scene(self, index: int) -> Scene:
        """A scene of the training split, with two objects more often than in the world."""
        return draw_picture(Random(f"{self.seed}/objects/{index}"))

    def denoise(self, noisy: Tensor, timesteps: Tensor, condition: Tensor) -> Tensor:
        """One pass of the UNet."""
        return self.unet(noisy, timesteps, condition).sample


def _pictures(rng: Random, size: int, small: float = 0.0) -> Tensor:
    """Half images, half video frames, ``(size, 3, 64, 64)``: the video decoder uses the same autoencoder.

    ``small`` is the share of scenes that must contain a small object.
    """
    pictures = [render(_scene(Modality.IMAGE, rng, small), rng) for _ in range(size // 2)]
    while len(pictures) < size:
        frames = render(_scene(Modality.VIDEO, rng, small), rng)
        pictures += list(frames[int(rng.random() * 4) :: 4])
    return pixels(pictures[:size])


def _scene(modality: Modality, rng: Random, small: float) -> Scene:
    needs_small = small > 0 and rng.random() < small
    while True:
        scene = draw_scene(modality, rng)
        things = scene.things if isinstance(scene, ImageScene) else (scene,)
        if not needs_small or any(getattr(thing, "size", None) == "small" for thing in things):
            return scene


def picture_batch(rng: Random) -> tuple[Tensor, Tensor]:
    """Full images and weights; crops would change the statistics of the normalisation layers."""
    x = _pictures(rng, 8, small=SMALL_SHARE)
    return x, 1 + 6 * ((x - x[:, :, :1, :1]).abs().amax(1, keepdim=True) > 0.05).float()


def picture_basis() -> tuple[PatchBasis, Tensor]:
    """The basis that images and video frames share, and the images that it was computed from."""
    examples = _pictures(Random("basis"), 1024)
    return PatchBasis(examples, LATENT_CHANNELS), examples


def train_vae(work: Path, seed: int, steps: int | None = None) -> tuple[AutoencoderKL, PatchBasis]:
    """The autoencoder that image and video share."""
    torch.manual_seed(seed)
    basis, examples = picture_basis()
    task = Decoding(build_vae(basis, examples), basis, picture_batch, steps=steps or 6_000, seed=seed)
    train(task, work)
    task.check_encoder(examples[:16])
    return task.vae.requires_grad_(False), basis


def train_text_encoder(out: Path, work: Path, seed: int, steps: int | None = None) -> CaptionCoding:
    """The text encoder that image and video share."""
    modalities = (Modality.IMAGE, Modality.VIDEO)
    return train_coding(
        build_text_encoder, ImageDiffusion.condition, modalities, out, work, steps=steps or 3_000, seed=seed
    )


def train_diffusion(
    text: CaptionCoding, work: Path, basis: PatchBasis, scale: float, steps: int | None = None
) -> ImageDiffusion:
    """The UNet, on latents of the basis times ``scale``."""
    torch.manual_seed(text.seed)
    task = ImageDiffusion(
        build_unet(), text.text_encoder, text.tokenizer, steps=steps or 6_500, lr=1e-3, seed=text.seed
    )
    task.fill_cache(lambda arrays: basis.analyse(pixels(arrays)) * scale, ITEMS, work / "latents.safetensors")
    train(task, work)
    return task


def pretrain_image(out: Path, work: Path, *, seed: int = 0, steps: int | None = None) -> dict[str, float]:
    """Train the text encoder, the autoencoder's decoder and the UNet; saves the pipeline to ``out/image``."""
    text = train_text_encoder(out, work, seed, steps)
    vae, basis = train_vae(work, seed, steps)
    task = train_diffusion(text, work, basis, vae.config.scaling_factor, steps)
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=task.text_encoder,
        tokenizer=task.tokenizer,
        unet=task.unet,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    save_half(pipeline, out / "image")
    return quality.measure(Modality.IMAGE, out)
