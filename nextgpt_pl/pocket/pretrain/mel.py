"""Log-mel spectrograms of the pocket audio decoder."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from transformers.audio_utils import mel_filter_bank

from nextgpt_pl.pocket.world import SAMPLE_RATE

MEL_BINS = 64
HOP = 200  # samples: 80 frames a second, 160 in two seconds
_FFT = 1024
_FLOOR = 1e-5
# log-mel values are shifted and scaled into about [-1, 1] before the autoencoder; the vocoder hears them so
_CENTER, _SPREAD = -5.0, 6.0


@lru_cache
def _filters() -> Tensor:
    filters = mel_filter_bank(
        _FFT // 2 + 1, MEL_BINS, 0.0, SAMPLE_RATE / 2, SAMPLE_RATE, norm="slaney", mel_scale="slaney"
    )
    return torch.from_numpy(filters).float()


def log_mel(samples: Tensor) -> Tensor:
    """``(B, n)`` samples to ``(B, n / HOP, MEL_BINS)``, scaled to about [-1, 1]."""
    spectrum = torch.stft(
        samples, _FFT, HOP, window=torch.hann_window(_FFT, device=samples.device), center=True, return_complex=True
    ).abs()
    mel = spectrum[..., : samples.shape[-1] // HOP].transpose(1, 2) @ _filters().to(samples.device)
    return (mel.clamp(min=_FLOOR).log() - _CENTER) / _SPREAD
