"""Latent diffusion of the pocket decoders under a frozen text encoder."""

from __future__ import annotations

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
from nextgpt_pl.pocket.pretrain.autoencoder import LATENT_SIZE
from nextgpt_pl.pocket.pretrain.captions import TEXT_WIDTH, embed_captions
from nextgpt_pl.pocket.pretrain.loop import PretrainTask, train
from nextgpt_pl.pocket.world import grammar
from nextgpt_pl.pocket.world.render import Renderer
from nextgpt_pl.pocket.world.scenes import Scene, item_scene

_BATCH = 64  # items per encoded batch
CAPTION_DROPOUT = 0.1  # share of empty captions, for classifier-free guidance


def build_scheduler() -> DPMSolverMultistepScheduler:
    """Cosine betas, v-prediction: a noise schedule for few-step sampling of small latents."""
    return DPMSolverMultistepScheduler(
        num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", steps_offset=1
    )


def unet_sizes(channels: int, blocks: str) -> dict[str, Any]:
    """Arguments of all UNets: two levels of 64 and 128 channels over 8x8 latents, with ``2D`` or ``3D`` blocks."""
    return {
        "sample_size": LATENT_SIZE,
        "in_channels": channels,
        "out_channels": channels,
        "down_block_types": (f"CrossAttnDownBlock{blocks}",) * 2,
        "up_block_types": (f"CrossAttnUpBlock{blocks}",) * 2,
        "block_out_channels": (64, 128),
        "layers_per_block": 1,
        "cross_attention_dim": TEXT_WIDTH,
        "norm_num_groups": 32,
    }


class LatentDiffusion(PretrainTask):
    """v-prediction on cached latents of training scenes, with a newly worded caption in each step.

    Attributes:
        modality: modality of the scenes.
        items: maximum number of cached scenes.
        batch_size: scenes per step.

    """

    modality: Modality
    items: int
    batch_size: int

    def __init__(self, unet: nn.Module, text_encoder: nn.Module, tokenizer: Any, *, steps: int, seed: int) -> None:
        super().__init__(steps=steps, lr=1e-3, seed=seed)
        self.unet, self.tokenizer = unet, tokenizer
        self.text_encoder = text_encoder.eval().requires_grad_(False)
        self.scenes: list[Scene] = []
        self.latents = torch.empty(0)
        self.alphas: Tensor
        self.register_buffer("alphas", build_scheduler().alphas_cumprod.clone(), persistent=False)

    @classmethod
    def trained(
        cls,
        build_unet: Callable[[], nn.Module],
        text: Any,
        encode: Callable[[Sequence[np.ndarray]], Tensor],
        work: Path,
        *,
        steps: int,
        seed: int,
    ) -> LatentDiffusion:
        """Build and train the UNet.

        Args:
            build_unet: returns the network with its initial weights.
            text: object with a ``text_encoder`` and its ``tokenizer``.
            encode: function of arrays that returns the UNet's latents.
            work: folder of the checkpoint and of the cached latents.
            steps: number of training steps.
            seed: seed of initialisation, data and noise.

        """
        torch.manual_seed(seed)
        task = cls(build_unet(), text.text_encoder, text.tokenizer, steps=steps, seed=seed)
        task._fill_cache(encode, work / "latents.safetensors")
        train(task, work)
        return task

    @staticmethod
    def condition(text_encoder: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The pipeline's caption embedding of token ids ``(B, L)``; as in Stable Diffusion, which passes no mask."""
        return text_encoder(input_ids).last_hidden_state

    def denoise(self, noisy: Tensor, timesteps: Tensor, condition: Tensor) -> Tensor:
        """The network's v-prediction, in the shape of ``noisy``."""
        return self.unet(noisy, timesteps, condition).sample

    def _fill_cache(self, encode: Callable[[Sequence[np.ndarray]], Tensor], file: Path) -> None:
        """Encode training scenes once, or read the latents of an interrupted training from ``file``.

        If the training is too short to use all ``items`` scenes, fewer are encoded.
        """
        items = min(self.items, self.steps * self.batch_size)
        self.scenes = [self.training_scene(i) for i in range(items)]
        if file.is_file():
            self.latents = load_file(file)["latents"]
            if len(self.latents) == items:
                return
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
