"""Autoencoders and latent diffusion for the pocket decoders; image, video and audio differ in a few methods."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket import grammar
from nextgpt_pl.pocket.pretrain.loop import PretrainTask
from nextgpt_pl.pocket.world import Scene, item_rng, item_scene

CAPTION_DROPOUT = 0.1  # share of empty captions: what guidance needs
_KL_WEIGHT = 1e-6
LATENT_CHANNELS = 8


def build_vae(channels: int) -> AutoencoderKL:
    """An autoencoder that halves each side three times; ``channels`` is 3 for pixels, 1 for spectrograms.

    It starts as a chain of averages and copies: residual branches begin at zero, sampling layers pass their input on.
    From the usual random start the colours of small things are found ten times later.
    """
    vae = AutoencoderKL(
        in_channels=channels,
        out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 64),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        # more groups would take the colours' absolute values away from so few channels
        norm_num_groups=1,
        sample_size=64,
        mid_block_add_attention=False,
    )
    for name, module in vae.named_modules():
        if not isinstance(module, nn.Conv2d):
            continue
        if name.endswith("conv2"):
            nn.init.zeros_(module.weight)
        elif "upsamplers" in name:
            nn.init.dirac_(module.weight)
        elif "downsamplers" in name:
            nn.init.zeros_(module.weight)
            with torch.no_grad():
                for channel in range(len(module.weight)):
                    module.weight[channel, channel, :2, :2] = 0.25
    return vae


def build_scheduler() -> DPMSolverMultistepScheduler:
    """Cosine betas, v-prediction: a noise schedule for few-step sampling of small latents."""
    return DPMSolverMultistepScheduler(
        num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", steps_offset=1
    )


class Autoencoding(PretrainTask):
    """Reconstruction by mean absolute and squared error, and a slight pull of the latents to the normal.

    ``batches(rng)`` gives values ``(N, C, H, W)`` in about [-1, 1] and weights ``(N, 1, H, W)``: what matters covers
    little of the area.
    """

    def __init__(
        self, vae: AutoencoderKL, batches: Callable[[Random], tuple[Tensor, Tensor]], *, steps: int, seed: int
    ) -> None:
        super().__init__(steps=steps, lr=1e-3, seed=seed, warmup=30, weight_decay=0.0)
        self.vae, self.batches = vae, batches

    def loss(self, rng: Random, generator: torch.Generator) -> Tensor:
        """Weighted error of one batch."""
        x, weights = (t.to(self.device) for t in self.batches(rng))
        posterior = self.vae.encode(x).latent_dist
        z = posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=generator).to(x)
        difference = self.vae.decode(z).sample - x
        error = ((difference.abs() + difference.square()) * weights).mean() / weights.mean()
        return error + _KL_WEIGHT * posterior.kl().mean()


def pixels(arrays: Sequence[np.ndarray]) -> Tensor:
    """uint8 ``(H, W, 3)`` pictures as ``(N, 3, H, W)`` in [-1, 1]."""
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.no_grad()
def set_scaling_factor(vae: AutoencoderKL, x: Tensor) -> None:
    """Make the latents of ``x`` have unit variance after multiplication by the configured factor."""
    vae.register_to_config(scaling_factor=float(1 / vae.encode(x).latent_dist.mean.std()))


class LatentDiffusion(PretrainTask):
    """v-prediction on cached latents of ``items`` training scenes, each with a freshly worded caption every time."""

    modality: Modality
    batch_size = 64

    def __init__(
        self, unet: nn.Module, text_encoder: nn.Module, tokenizer: Any, *, steps: int, lr: float, seed: int
    ) -> None:
        super().__init__(steps=steps, lr=lr, seed=seed)
        self.unet, self.text_encoder, self.tokenizer = unet, text_encoder, tokenizer
        self.scenes: list[Scene] = []
        self.latents = torch.empty(0)
        self.alphas: Tensor
        self.register_buffer("alphas", build_scheduler().alphas_cumprod.clone(), persistent=False)

    @abstractmethod
    def condition(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The caption embedding, from token ids ``(B, L)``."""

    @abstractmethod
    def denoise(self, noisy: Tensor, timesteps: Tensor, condition: Tensor) -> Tensor:
        """The network's v-prediction, in the shape of ``noisy``."""

    def fill_cache(self, encode: Any, items: int, file: Path, chunk: int = 32) -> None:
        """Encode ``items`` training scenes once; ``encode`` turns a list of arrays into latents."""
        self.scenes = [item_scene("train", self.modality, i, self.seed) for i in range(items)]
        if file.is_file():
            self.latents = load_file(file)["latents"]
            if len(self.latents) == items:
                return
        from nextgpt_pl.pocket.render import Renderer

        parts = []
        for start in tqdm(range(0, items, chunk), desc=f"{self.modality} latents"):
            numbers = range(start, min(items, start + chunk))
            arrays = [Renderer(self.scenes[i], "train", self.modality, i, self.seed)() for i in numbers]
            with torch.no_grad():
                parts.append(encode(arrays).half())
        self.latents = torch.cat(parts).contiguous()
        save_file({"latents": self.latents}, file)

    def tokens(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        """Token ids and attention mask, padded as the pipeline will pad them."""
        encoded = self.tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt")
        return encoded.input_ids.to(self.device), encoded.attention_mask.to(self.device)

    def loss(self, rng: Random, generator: torch.Generator) -> Tensor:
        """Mean squared error of the v-prediction."""
        chosen = [int(rng.random() * len(self.scenes)) for _ in range(self.batch_size)]
        captions = ["" if rng.random() < CAPTION_DROPOUT else grammar.caption(self.scenes[i], rng) for i in chosen]
        clean = self.latents[chosen].float().to(self.device)
        noise = torch.randn(clean.shape, generator=generator).to(clean)
        # where things are is decided at high noise, and learned last: half of the steps go to the upper third
        u = torch.rand(len(chosen), generator=generator)
        high = torch.rand(len(chosen), generator=generator) < 0.5
        timesteps = (torch.where(high, 1 - u / 3, u) * 999).round().long().to(self.device)
        alpha = self.alphas[timesteps].view(-1, *[1] * (clean.ndim - 1))
        noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
        target = alpha.sqrt() * noise - (1 - alpha).sqrt() * clean
        return F.mse_loss(self.denoise(noisy, timesteps, self.condition(*self.tokens(captions))), target)


def heldout_captions(modality: Modality, count: int) -> tuple[list[Scene], list[str]]:
    """Held-out scenes and their captions, for measuring quality."""
    scenes = [item_scene("heldout", modality, i) for i in range(count)]
    return scenes, [grammar.caption(s, item_rng("heldout", modality, i, 0, "words")) for i, s in enumerate(scenes)]
