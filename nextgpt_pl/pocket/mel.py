"""Mel spectrograms of the pocket audio decoder: 64 frames of 64 bins for two seconds."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from transformers.audio_utils import mel_filter_bank

from nextgpt_pl.pocket.world.scenes import SAMPLE_RATE

MEL_BINS = 64
HOP = 500  # samples: 32 frames a second
_FFT = 1024
# root-compressed magnitudes of the world's audio reach about 10; they are scaled to [-1, 1], with silence at -1
_SPREAD = 5.0


@lru_cache
def _filters() -> Tensor:
    # not normalised by width, which would attenuate partials in the wide filters of high frequencies
    filters = mel_filter_bank(_FFT // 2 + 1, MEL_BINS, 0.0, SAMPLE_RATE / 2, SAMPLE_RATE, norm=None, mel_scale="slaney")
    return torch.from_numpy(filters).float()


def compressed_mel(samples: Tensor) -> Tensor:
    """``(B, n)`` samples to ``(B, n / HOP, MEL_BINS)``, root-compressed, about [-1, 1].

    A root compresses less than a logarithm, so weak partials remain visible and the noise floor has little weight.
    """
    spectrum = torch.stft(
        samples, _FFT, HOP, window=torch.hann_window(_FFT, device=samples.device), center=True, return_complex=True
    )
    magnitudes = (spectrum.real.square() + spectrum.imag.square() + 1e-9).sqrt()
    mel = magnitudes[..., : samples.shape[-1] // HOP].transpose(1, 2) @ _filters().to(samples.device)
    return mel.clamp(min=1e-6).sqrt() / _SPREAD - 1
