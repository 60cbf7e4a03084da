"""The pocket video decoder: a real ``TextToVideoSDPipeline`` that starts from the image decoder's weights."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import torch
from diffusers import StableDiffusionPipeline, TextToVideoSDPipeline, UNet2DConditionModel, UNet3DConditionModel
from torch import Tensor

from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.parts import SHARED_PARTS
from nextgpt_pl.pocket.pretrain.autoencoder import PatchBasis, pixels
from nextgpt_pl.pocket.pretrain.diffusion import LatentDiffusion, build_scheduler, unet_sizes
from nextgpt_pl.pocket.pretrain.image import LATENT_CHANNELS, picture_examples
from nextgpt_pl.pocket.pretrain.loop import save_half
from nextgpt_pl.pocket.world.scenes import Scene, VideoScene

SMALLER_SHARE = 0.5  # share of items with a large object that are replaced by items with a small one


def build_unet(image_unet: UNet2DConditionModel) -> UNet3DConditionModel:
    """The image UNet with temporal layers: common weights are copied, new layers are initialised as the identity."""
    unet = UNet3DConditionModel(**unet_sizes(LATENT_CHANNELS, "3D"), attention_head_dim=16)
    ours, theirs = unet.state_dict(), image_unet.state_dict()
    for name, value in theirs.items():
        # one has 1x1 convolutions where the other has linear layers
        if name in ours and value.numel() == ours[name].numel():
            ours[name] = value.reshape(ours[name].shape)
    unet.load_state_dict(ours)
    for name, parameter in unet.named_parameters():
        if ("temp_attentions" in name or "transformer_in" in name) and "proj_out" in name:
            torch.nn.init.zeros_(parameter)
    for module in unet.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # no overfitting: each video is used a few times only
    return unet


class VideoDiffusion(LatentDiffusion):
    """Text to video; latents are ``(N, C, T, 8, 8)``."""

    modality = Modality.VIDEO
    items = 6_000
    batch_size = 8

    def training_scene(self, index: int) -> Scene:
        """A scene of the training split, with more small objects than in the world, since they are learned last."""
        redrawn = Random(f"{self.seed}/smaller/{index}").random() < SMALLER_SHARE
        scene = super().training_scene(index)
        while redrawn and isinstance(scene, VideoScene) and scene.size == "large":
            index += self.items
            scene = super().training_scene(index)
        return scene


def pretrain_video(out: Path, work: Path, *, seed: int, steps: int | None) -> None:
    """Train the UNet from the image decoder's, whose other parts are shared; saves the pipeline to ``out/video``."""
    if not (out / "image" / "model_index.json").is_file():
        raise UserError(
            f"the video decoder starts from the image decoder, which is not in {out / 'image'}: train it first"
        )
    image = StableDiffusionPipeline.from_pretrained(out / "image", dtype=torch.float32, safety_checker=None)
    basis = PatchBasis(picture_examples(), LATENT_CHANNELS)

    def encode(videos: Sequence[np.ndarray]) -> Tensor:
        frames = pixels([frame for video in videos for frame in video])
        latents = basis.analyse(frames) * image.vae.config.scaling_factor
        return latents.unflatten(0, (len(videos), -1)).transpose(1, 2)

    task = VideoDiffusion.trained(lambda: build_unet(image.unet), image, encode, work, steps=steps or 3_200, seed=seed)
    pipeline = TextToVideoSDPipeline(
        vae=image.vae,
        text_encoder=task.text_encoder,
        tokenizer=image.tokenizer,
        unet=task.unet,
        scheduler=build_scheduler(),
    )
    save_half(pipeline, out / "video")
    for part in SHARED_PARTS:  # stored once, with the image decoder
        shutil.rmtree(out / "video" / part)
