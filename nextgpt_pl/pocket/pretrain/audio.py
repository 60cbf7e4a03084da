"""The pocket audio decoder: a real ``AudioLDMPipeline`` with VAE, UNet, CLAP text model and HiFi-GAN vocoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AudioLDMPipeline, UNet2DConditionModel
from torch import Tensor, nn
from transformers import ClapTextConfig, ClapTextModelWithProjection

from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.mel import compressed_mel
from nextgpt_pl.pocket.pretrain.autoencoder import train_vae
from nextgpt_pl.pocket.pretrain.captions import TEXT_WIDTH, partly_stated, pooled_code, text_sizes, train_coding
from nextgpt_pl.pocket.pretrain.diffusion import CAPTION_DROPOUT, LatentDiffusion, build_scheduler, unet_sizes
from nextgpt_pl.pocket.pretrain.loop import save_half
from nextgpt_pl.pocket.pretrain.sounds import draw_between, draw_near, is_wider, mixed_sounds, sounds
from nextgpt_pl.pocket.pretrain.vocoder import train_vocoder
from nextgpt_pl.pocket.world import grammar
from nextgpt_pl.pocket.world.scenes import Scene

LATENT_CHANNELS = 16
WIDER_SHARE = 0.25  # share of items with attributes outside the world or interpolated ones
NEAR_SHARE = 0.5  # share of items with one interpolated attribute
PARTLY_STATED = 0.2  # share of the training conditions


def build_text_encoder(tokenizer: Any) -> ClapTextModelWithProjection:
    """Two layers of a CLAP text model; its pooled, projected output is the caption embedding, ``(B, 128)``."""
    return ClapTextModelWithProjection(
        ClapTextConfig(
            **text_sizes(tokenizer),
            # the pipeline pads the empty prompt to as many tokens as the embedding is wide; positions start behind pad
            max_position_embeddings=TEXT_WIDTH + 8,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    )


def build_unet() -> UNet2DConditionModel:
    """A UNet that is conditioned on the embedding as class labels."""
    sizes = unet_sizes(LATENT_CHANNELS, "2D")
    return UNet2DConditionModel(
        # without text states, the second attention is self-attention
        **{**sizes, "cross_attention_dim": sizes["block_out_channels"]},
        attention_head_dim=4,
        class_embed_type="simple_projection",
        projection_class_embeddings_input_dim=TEXT_WIDTH,
        class_embeddings_concat=True,
        resnet_time_scale_shift="scale_shift",  # attributes multiply: a spectrum by an envelope
    )


def spectrograms(waves: Tensor) -> Tensor:
    """``(N, 32000)`` samples to the autoencoder's input, ``(N, 1, 64, 64)``."""
    return compressed_mel(waves).unsqueeze(1)


def spectrogram_batch(rng: Random) -> tuple[Tensor, Tensor]:
    """Spectrograms and weights; silence has a lower weight."""
    x = spectrograms(mixed_sounds(rng, 8))
    return x, 1 + 4 * (x > -0.8).float()


class AudioDiffusion(LatentDiffusion):
    """Text to audio; the condition is one vector."""

    modality = Modality.AUDIO
    items = 20_000
    batch_size = 32

    @staticmethod
    def condition(text_encoder: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The pooled text embedding, normalised as the pipeline does."""
        return F.normalize(text_encoder(input_ids=input_ids, attention_mask=attention_mask).text_embeds, dim=-1)

    def training_scene(self, index: int) -> Scene:
        """An audio scene of the training split, one with an interpolated attribute, or one outside the world."""
        rng = Random(f"{self.seed}/sound/{index}")
        kind = rng.random()
        if kind < NEAR_SHARE:
            return draw_near(rng)
        return draw_between(rng) if kind < NEAR_SHARE + WIDER_SHARE else super().training_scene(index)

    def conditions(self, scenes: Sequence[Scene], rng: Random) -> Tensor:
        """Embeddings of newly worded captions; scenes outside the world have no caption, so their codes are summed."""
        empty = [rng.random() < CAPTION_DROPOUT for _ in scenes]
        has_caption = [not (e or is_wider(s)) for s, e in zip(scenes, empty, strict=True)]
        embeddings = self.embed(
            [grammar.caption(s, rng) if w else "" for s, w in zip(scenes, has_caption, strict=True)]
        )
        for index, scene in enumerate(scenes):
            if empty[index]:
                continue
            if rng.random() < PARTLY_STATED:
                embeddings[index] = partly_stated(scene, embeddings.shape[1], rng)
            elif not has_caption[index]:
                embeddings[index] = pooled_code(scene, embeddings.shape[1])
        return embeddings

    def denoise(self, noisy: Tensor, timesteps: Tensor, condition: Tensor) -> Tensor:
        """One pass of the UNet."""
        return self.unet(noisy, timesteps, encoder_hidden_states=None, class_labels=condition).sample


def pretrain_audio(out: Path, work: Path, *, seed: int, steps: int | None) -> None:
    """Train the text encoder, the autoencoder's decoder, the vocoder and the UNet; saves to ``out/audio``."""
    text = train_coding(
        build_text_encoder, AudioDiffusion.condition, (Modality.AUDIO,), out, work, steps=steps or 1_500, seed=seed
    )
    examples = spectrograms(sounds(Random("basis"), 512))
    vae, basis = train_vae(examples, LATENT_CHANNELS, spectrogram_batch, work, steps=steps or 1_200, seed=seed)
    vocoder = train_vocoder(vae, work, steps=steps or 8_000, seed=seed)

    def encode(waves: Sequence[np.ndarray]) -> Tensor:
        return basis.analyse(spectrograms(torch.from_numpy(np.stack(waves)))) * vae.config.scaling_factor

    task = AudioDiffusion.trained(build_unet, text, encode, work, steps=steps or 12_000, seed=seed)
    pipeline = AudioLDMPipeline(
        vae=vae,
        text_encoder=task.text_encoder,
        tokenizer=task.tokenizer,
        unet=task.unet,
        scheduler=build_scheduler(),
        vocoder=vocoder,
    )
    save_half(pipeline, out / "audio")
