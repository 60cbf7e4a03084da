"""The pocket image decoder: a real ``StableDiffusionPipeline`` with a small VAE, UNet and CLIP text model."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.pretrain.autoencoder import pixels, train_vae
from nextgpt_pl.pocket.pretrain.captions import text_sizes, train_coding
from nextgpt_pl.pocket.pretrain.diffusion import LatentDiffusion, build_scheduler, unet_sizes
from nextgpt_pl.pocket.pretrain.loop import save_half
from nextgpt_pl.pocket.pretrain.pictures import draw_picture
from nextgpt_pl.pocket.pretrain.text import CONTEXT
from nextgpt_pl.pocket.world.render import render
from nextgpt_pl.pocket.world.scenes import ImageScene, Scene, draw_scene

LATENT_CHANNELS = 12
SMALL_SHARE = 0.5  # share of the VAE decoder's images that must contain a small object


def build_text_encoder(tokenizer: Any) -> CLIPTextModel:
    """Two layers of a CLIP text model; its last hidden state is the caption embedding, ``(B, 32, 128)``."""
    return CLIPTextModel(CLIPTextConfig(**text_sizes(tokenizer), max_position_embeddings=CONTEXT))


def build_unet() -> UNet2DConditionModel:
    """A UNet with cross-attention at both levels."""
    # diffusers reads attention_head_dim as the number of heads
    return UNet2DConditionModel(**unet_sizes(LATENT_CHANNELS, "2D"), attention_head_dim=4)


class ImageDiffusion(LatentDiffusion):
    """Text to image."""

    modality = Modality.IMAGE
    items = 24_000
    batch_size = 48

    def training_scene(self, index: int) -> Scene:
        """A scene of the training split, with two objects more often than in the world."""
        return draw_picture(Random(f"{self.seed}/objects/{index}"))


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


def picture_examples() -> Tensor:
    """The images from which the latents' basis of images and video frames is computed, ``(1024, 3, 64, 64)``."""
    return _pictures(Random("basis"), 1024)


def pretrain_image(out: Path, work: Path, *, seed: int, steps: int | None) -> None:
    """Train the text encoder, the autoencoder's decoder and the UNet; saves the pipeline to ``out/image``.

    The video decoder shares the text encoder and the autoencoder.
    """
    captioned = (Modality.IMAGE, Modality.VIDEO)
    text = train_coding(
        build_text_encoder, ImageDiffusion.condition, captioned, out, work, steps=steps or 3_000, seed=seed
    )
    vae, basis = train_vae(picture_examples(), LATENT_CHANNELS, picture_batch, work, steps=steps or 6_000, seed=seed)
    scale = vae.config.scaling_factor
    task = ImageDiffusion.trained(
        build_unet, text, lambda arrays: basis.analyse(pixels(arrays)) * scale, work, steps=steps or 6_500, seed=seed
    )
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
