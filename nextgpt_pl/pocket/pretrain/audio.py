"""The pocket audio decoder: a real ``AudioLDMPipeline`` with VAE, UNet, CLAP text model and HiFi-GAN vocoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AudioLDMPipeline, AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import ClapTextConfig, ClapTextModelWithProjection, SpeechT5HifiGan

from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.mel import compressed_mel
from nextgpt_pl.pocket.pretrain import quality
from nextgpt_pl.pocket.pretrain.autoencoder import LATENT_SIZE, Decoding, PatchBasis, build_vae
from nextgpt_pl.pocket.pretrain.captions import CaptionCoding, partly_stated, pooled_code, train_coding
from nextgpt_pl.pocket.pretrain.diffusion import CAPTION_DROPOUT, LatentDiffusion, build_scheduler
from nextgpt_pl.pocket.pretrain.loop import save_half, train
from nextgpt_pl.pocket.pretrain.sounds import draw_between, draw_near, is_wider, mixed_sounds, sounds
from nextgpt_pl.pocket.pretrain.vocoder import LevelReading, build_vocoder
from nextgpt_pl.pocket.world import grammar
from nextgpt_pl.pocket.world.scenes import Scene

TEXT_WIDTH = 128
LATENT_CHANNELS = 16
ITEMS = 20_000
WIDER_SHARE = 0.25  # share of items with attributes outside the world or interpolated ones
NEAR_SHARE = 0.5  # share of items with one interpolated attribute
PARTLY_STATED = 0.2  # share of the training conditions


def build_text_encoder(tokenizer: Any) -> ClapTextModelWithProjection:
    """Two layers of a CLAP text model; its pooled, projected output is the caption embedding, ``(B, 128)``."""
    return ClapTextModelWithProjection(
        ClapTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            # the pipeline pads the empty prompt to as many tokens as the embedding is wide; positions start behind pad
            max_position_embeddings=TEXT_WIDTH + 8,
            projection_dim=TEXT_WIDTH,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def build_unet() -> UNet2DConditionModel:
    """Two levels of 64 and 128 channels over 8x8 latents; conditioned on the embedding as class labels."""
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        block_out_channels=(64, 128),
        layers_per_block=1,
        cross_attention_dim=(64, 128),  # without text states, the second attention is self-attention
        attention_head_dim=4,
        norm_num_groups=32,
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


def spectrogram_basis() -> tuple[PatchBasis, Tensor]:
    """The basis of spectrograms, and the examples that it was computed from."""
    examples = spectrograms(sounds(Random("basis"), 512))
    return PatchBasis(examples, LATENT_CHANNELS), examples


def train_vae(work: Path, seed: int, steps: int | None = None) -> tuple[AutoencoderKL, PatchBasis]:
    """The autoencoder of spectrograms."""
    torch.manual_seed(seed)
    basis, examples = spectrogram_basis()
    task = Decoding(build_vae(basis, examples), basis, spectrogram_batch, steps=steps or 1_200, seed=seed)
    train(task, work)
    task.check_encoder(examples[:16])
    return task.vae.requires_grad_(False), basis


def train_vocoder(work: Path, vae: AutoencoderKL, seed: int, steps: int | None = None) -> SpeechT5HifiGan:
    """The vocoder's reading layers, for true spectrograms and for the autoencoder's."""
    torch.manual_seed(seed)
    task = LevelReading(build_vocoder(), vae, steps=steps or 8_000, seed=seed)
    train(task, work)
    return task.vocoder


def train_text_encoder(out: Path, work: Path, seed: int, steps: int | None = None) -> CaptionCoding:
    """The CLAP text encoder."""
    modalities = (Modality.AUDIO,)
    return train_coding(
        build_text_encoder, AudioDiffusion.condition, modalities, out, work, steps=steps or 1_500, seed=seed
    )


def train_diffusion(
    text: CaptionCoding, work: Path, basis: PatchBasis, scale: float, steps: int | None = None
) -> AudioDiffusion:
    """The UNet, on latents of the basis times ``scale``."""
    torch.manual_seed(text.seed)
    task = AudioDiffusion(
        build_unet(), text.text_encoder, text.tokenizer, steps=steps or 12_000, lr=1e-3, seed=text.seed
    )

    def encode(waves: Sequence[np.ndarray]) -> Tensor:
        return basis.analyse(spectrograms(torch.from_numpy(np.stack(waves)))) * scale

    task.fill_cache(encode, ITEMS, work / "latents.safetensors")
    train(task, work)
    return task


def pretrain_audio(out: Path, work: Path, *, seed: int = 0, steps: int | None = None) -> dict[str, float]:
    """Train the text encoder, the autoencoder's decoder, the vocoder and the UNet; saves to ``out/audio``."""
    text = train_text_encoder(out, work, seed, steps)
    vae, basis = train_vae(work, seed, steps)
    vocoder = train_vocoder(work, vae, seed, steps)
    task = train_diffusion(text, work, basis, vae.config.scaling_factor, steps)
    pipeline = AudioLDMPipeline(
        vae=vae,
        text_encoder=task.text_encoder,
        tokenizer=task.tokenizer,
        unet=task.unet,
        scheduler=build_scheduler(),
        vocoder=vocoder,
    )
    save_half(pipeline, out / "audio")
    return quality.measure(Modality.AUDIO, out)
