"""Log-mel spectrograms as AudioLDM's autoencoder was trained on: 64 bins, 100 frames a second."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from transformers.audio_utils import mel_filter_bank

SAMPLE_RATE = 16_000
_FFT, _HOP, _BINS, _HIGHEST, _FLOOR = 1024, 160, 64, 8_000.0, 1e-5


@lru_cache
def _filters() -> Tensor:
    bank = mel_filter_bank(_FFT // 2 + 1, _BINS, 0.0, _HIGHEST, SAMPLE_RATE, norm="slaney", mel_scale="slaney")
    return torch.from_numpy(bank).float()


def log_mel(samples: Tensor) -> Tensor:
    """``(B, n)`` samples at 16 kHz to natural logarithms of mel magnitudes, ``(B, n / 160, 64)``."""
    padded = torch.nn.functional.pad(samples.unsqueeze(1), ((_FFT - _HOP) // 2,) * 2, mode="reflect").squeeze(1)
    window = torch.hann_window(_FFT, device=samples.device)
    spectrum = torch.stft(padded, _FFT, _HOP, window=window, center=False, return_complex=True)
    return (spectrum.abs().transpose(1, 2) @ _filters().to(samples.device)).clamp(min=_FLOOR).log()
