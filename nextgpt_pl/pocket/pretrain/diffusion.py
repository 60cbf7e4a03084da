"""Latent diffusion of the pocket decoders under a frozen text encoder; image, video and audio differ in two methods."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DPMSolverMultistepScheduler
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.pretrain.captions import embed_captions
from nextgpt_pl.pocket.pretrain.loop import PretrainTask
from nextgpt_pl.pocket.world import grammar
from nextgpt_pl.pocket.world.scenes import Scene, item_scene

_BATCH = 64  # items per encoded batch
CAPTION_DROPOUT = 0.1  # share of empty captions, for classifier-free guidance


def build_scheduler() -> DPMSolverMultistepScheduler:
    """Cosine betas, v-prediction: a noise schedule for few-step sampling of small latents."""
    return DPMSolverMultistepScheduler(
        num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", steps_offset=1
    )


class LatentDiffusion(PretrainTask):
    """v-prediction on cached latents of ``items`` training scenes, with a newly worded caption in each step."""

    modality: Modality
    batch_size = 64

    def __init__(
        self, unet: nn.Module, text_encoder: nn.Module, tokenizer: Any, *, steps: int, lr: float, seed: int
    ) -> None:
        super().__init__(steps=steps, lr=lr, seed=seed)
        self.unet, self.tokenizer = unet, tokenizer
        self.text_encoder = text_encoder.eval().requires_grad_(False)
        self.scenes: list[Scene] = []
        self.latents = torch.empty(0)
        self.alphas: Tensor
        self.register_buffer("alphas", build_scheduler().alphas_cumprod.clone(), persistent=False)

    @staticmethod
    @abstractmethod
    def condition(text_encoder: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The pipeline's caption embedding of token ids ``(B, L)``."""

    @abstractmethod
    def denoise(self, noisy: Tensor, timesteps: Tensor, condition: Tensor) -> Tensor:
        """The network's v-prediction, in the shape of ``noisy``."""

    def fill_cache(self, encode: Callable[[Sequence[np.ndarray]], Tensor], items: int, file: Path) -> None:
        """Encode ``items`` training scenes once, fewer if the training is too short to use them all.

        Args:
            encode: function of arrays that returns the UNet's latents.
            items: maximum number of items.
            file: file of the latents, for a resumed training.

        """
        items = min(items, self.steps * self.batch_size)
        self.scenes = [self.training_scene(i) for i in range(items)]
        if file.is_file():
            self.latents = load_file(file)["latents"]
            if len(self.latents) == items:
                return
        from nextgpt_pl.pocket.world.render import Renderer

        parts = []
        for start in tqdm(range(0, items, _BATCH), desc=f"{self.modality} latents"):
            numbers = range(start, min(items, start + _BATCH))
            arrays = [Renderer(self.scenes[i], "train", self.modality, i, self.seed)() for i in numbers]
            parts.append(encode(arrays).half())
        self.latents = torch.cat(parts).contiguous()
        save_file({"latents": self.latents}, file)

    def training_scene(self, index: int) -> Scene:
        """The scene of item ``index`` of the cache, of the training split."""
        return item_scene("train", self.modality, index, self.seed)

    @torch.no_grad()
    def embed(self, captions: list[str]) -> Tensor:
        """Caption embeddings, padded as in the pipeline."""
        return embed_captions(self.condition, self.text_encoder, self.tokenizer, captions)

    def conditions(self, scenes: Sequence[Scene], rng: Random) -> Tensor:
        """Training conditions: embeddings of newly worded captions, some of them empty."""
        return self.embed(["" if rng.random() < CAPTION_DROPOUT else grammar.caption(s, rng) for s in scenes])

    def loss(self, rng: Random, generator: torch.Generator) -> Tensor:
        """Mean squared error of the v-prediction."""
        chosen = [int(rng.random() * len(self.scenes)) for _ in range(self.batch_size)]
        conditions = self.conditions([self.scenes[i] for i in chosen], rng)
        clean = self.latents[chosen].float().to(self.device)
        noise = torch.randn(clean.shape, generator=generator).to(clean)
        timesteps = draw_timesteps(len(chosen), self.trainer.global_step / self.steps, generator).to(self.device)
        alpha = self.alphas[timesteps].view(-1, *[1] * (clean.ndim - 1))
        noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
        target = alpha.sqrt() * noise - (1 - alpha).sqrt() * clean
        return F.mse_loss(self.denoise(noisy, timesteps, conditions), target)


def draw_timesteps(count: int, progress: float, generator: torch.Generator) -> Tensor:
    """Timesteps ``(count,)`` in [0, 999] at ``progress`` in [0, 1] of the training.

    What is where, and which object is which, is decided at the highest noise, where all that can be predicted comes
    from the caption. So most of the first half of the training goes there; edges and even colours are learned at
    low noise, in the rest.
    """
    u = torch.rand(count, generator=generator)
    high = torch.rand(count, generator=generator) < (0.85 if progress < 0.55 else 0.25)
    return (torch.where(high, 1 - u.square() / 5, u) * 999).round().long()
