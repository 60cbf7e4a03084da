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
from transformers import ClapTextConfig, ClapTextModelWithProjection, SpeechT5HifiGan, SpeechT5HifiGanConfig

from nextgpt_pl.modality import Modality
from nextgpt_pl.pocket.pretrain import quality
from nextgpt_pl.pocket.pretrain.diffusion import (
    LATENT_CHANNELS,
    Autoencoding,
    LatentDiffusion,
    build_scheduler,
    build_vae,
)
from nextgpt_pl.pocket.pretrain.loop import PretrainTask, save_half, train
from nextgpt_pl.pocket.pretrain.mel import HOP, MEL_BINS, log_mel
from nextgpt_pl.pocket.pretrain.text import caption_tokenizer, load_tokenizer
from nextgpt_pl.pocket.render import render
from nextgpt_pl.pocket.world import SAMPLE_RATE, draw_scene

TEXT_WIDTH = 128
ITEMS = 3_000
_CROP_FRAMES = 40  # half a second
_AUDIBLE = 0.05  # magnitudes below are silence, whose exact level teaches nothing


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
    """Two levels of 64 and 128 channels over 20x8 latents; the embedding comes in as class labels."""
    return UNet2DConditionModel(
        sample_size=20,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        block_out_channels=(64, 128),
        layers_per_block=1,
        cross_attention_dim=(64, 128),  # without text states, the second attention looks at the latents again
        attention_head_dim=4,
        norm_num_groups=32,
        class_embed_type="simple_projection",
        projection_class_embeddings_input_dim=TEXT_WIDTH,
        class_embeddings_concat=True,
    )


def build_vocoder() -> SpeechT5HifiGan:
    """A HiFi-GAN generator of 0.4M parameters that turns each frame into 200 samples."""
    vocoder = SpeechT5HifiGan(
        SpeechT5HifiGanConfig(
            model_in_dim=MEL_BINS,
            sampling_rate=SAMPLE_RATE,
            upsample_initial_channel=128,
            upsample_rates=[5, 5, 4, 2],
            upsample_kernel_sizes=[11, 11, 8, 4],
            resblock_kernel_sizes=[3, 7],
            resblock_dilation_sizes=[[1, 3], [1, 3]],
            normalize_before=False,
        )
    )
    for module in vocoder.modules():
        # the class's own initialisation begins so near to silence that nothing is learned without a discriminator
        if isinstance(module, (nn.Conv1d, nn.ConvTranspose1d)):
            module.reset_parameters()
    return vocoder


def sounds(rng: Random, count: int) -> Tensor:
    """Rendered training sounds ``(count, 32000)``."""
    return torch.from_numpy(np.stack([render(draw_scene(Modality.AUDIO, rng), rng) for _ in range(count)]))


def mel_batch(rng: Random) -> tuple[Tensor, Tensor]:
    """Log-mel spectrograms ``(N, 1, 160, 64)``; what sounds weighs more than silence."""
    x = log_mel(sounds(rng, 8)).unsqueeze(1)
    return x, 1 + 4 * (x > -0.5).float()


class Vocoding(PretrainTask):
    """Waveforms from log-mel spectrograms, by spectral distances at several resolutions (Yamamoto et al. 2020)."""

    resolutions = ((256, 64), (512, 128), (1024, 256), (2048, 512))

    def __init__(self, vocoder: SpeechT5HifiGan, *, steps: int, seed: int) -> None:
        super().__init__(steps=steps, lr=1e-3, seed=seed, weight_decay=0.0)
        self.vocoder = vocoder

    def loss(self, rng: Random, generator: torch.Generator) -> Tensor:
        """On half-second crops: spectral convergence and log magnitude at each resolution."""
        waves = sounds(rng, 8)
        mels = log_mel(waves)
        start = int(rng.random() * (mels.shape[1] - _CROP_FRAMES))
        real = waves[:, start * HOP : (start + _CROP_FRAMES) * HOP].to(self.device)
        made = self.vocoder(mels[:, start : start + _CROP_FRAMES].to(self.device))
        total = F.l1_loss(log_mel(made), log_mel(real))
        for size, hop in self.resolutions:
            a, b = (self._magnitude(x, size, hop) for x in (made, real))
            total = total + (a - b).norm() / (b.norm() + 1e-3) + F.l1_loss((a + _AUDIBLE).log(), (b + _AUDIBLE).log())
        return total

    @staticmethod
    def _magnitude(samples: Tensor, size: int, hop: int) -> Tensor:
        window = torch.hann_window(size, device=samples.device)
        spectrum = torch.stft(samples, size, hop, window=window, return_complex=True)
        # the gradient of a magnitude at zero is not a number
        return (spectrum.real.square() + spectrum.imag.square() + 1e-9).sqrt()


class AudioDiffusion(LatentDiffusion):
    """Text to audio; latents are ``(N, C, 20, 8)``, the condition is one vector."""

    modality = Modality.AUDIO
    batch_size = 16

    def condition(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The pooled text embedding, normalised as the pipeline does."""
        return F.normalize(self.text_encoder(input_ids=input_ids, attention_mask=attention_mask).text_embeds, dim=-1)

    def denoise(self, noisy: Tensor, timesteps: Tensor, condition: Tensor) -> Tensor:
        """One pass of the UNet."""
        return self.unet(noisy, timesteps, encoder_hidden_states=None, class_labels=condition).sample


def pretrain_audio(out: Path, work: Path, *, seed: int = 0, steps: int = 1_000) -> dict[str, float]:
    """Train autoencoder, vocoder, then text model and UNet together; saves the pipeline to ``out/audio``."""
    tokenizer = caption_tokenizer(load_tokenizer(out, seed))
    torch.manual_seed(seed)
    autoencoding = Autoencoding(build_vae(1), mel_batch, steps=500, seed=seed)
    train(autoencoding, work)
    vae = autoencoding.vae.eval().requires_grad_(False)
    vocoding = Vocoding(build_vocoder(), steps=1_200, seed=seed)
    train(vocoding, work)
    example = vae.encode(mel_batch(Random("scaling"))[0]).latent_dist.mean
    vae.register_to_config(scaling_factor=float(1 / example.std()))

    task = AudioDiffusion(build_unet(), build_text_encoder(tokenizer), tokenizer, steps=steps, lr=1e-3, seed=seed)

    def encode(waves: Sequence[np.ndarray]) -> Tensor:
        mels = log_mel(torch.from_numpy(np.stack(waves))).unsqueeze(1)
        return vae.encode(mels).latent_dist.mean * vae.config.scaling_factor

    task.fill_cache(encode, ITEMS, work / "latents.safetensors")
    train(task, work)
    pipeline = AudioLDMPipeline(
        vae=vae,
        text_encoder=task.text_encoder,
        tokenizer=tokenizer,
        unet=task.unet,
        scheduler=build_scheduler(),
        vocoder=vocoding.vocoder,
    )
    save_half(pipeline, out / "audio")
    return quality.measure(pipeline, Modality.AUDIO)
