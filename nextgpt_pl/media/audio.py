"""Audio: resampling and filter bank energies."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

SAMPLE_RATE = 16_000
_FRAME, _SHIFT, _FFT = 400, 160, 512  # 25 ms windows every 10 ms
_PREEMPHASIS, _LOWEST = 0.97, 20.0
_SINC_ZEROS, _ROLLOFF = 6, 0.99


@lru_cache
def _mel_filters(bins: int) -> Tensor:
    """Triangles on the mel scale, ``(FFT / 2 + 1, bins)``, over the powers of a spectrum."""

    def mel(frequency: Tensor) -> Tensor:
        return 1127.0 * torch.log1p(frequency / 700.0)

    low, high = (mel(torch.tensor(f, dtype=torch.float64)) for f in (_LOWEST, SAMPLE_RATE / 2))
    edges = torch.linspace(float(low), float(high), bins + 2, dtype=torch.float64)
    points = mel(torch.arange(_FFT // 2 + 1, dtype=torch.float64) * SAMPLE_RATE / _FFT).unsqueeze(1)
    rising = (points - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - points) / (edges[2:] - edges[1:-1])
    return torch.minimum(rising, falling).clamp(min=0).float()


def fbank(samples: Tensor, bins: int = 128) -> Tensor:
    """Log-mel filter bank energies ``(frames, bins)`` of ``(n,)`` samples at 16 kHz.

    Kaldi's definition with ImageBind's settings: Hann window, no dither, no energy, complete frames only.
    """
    frames = samples.unfold(0, _FRAME, _SHIFT)
    frames = frames - frames.mean(dim=1, keepdim=True)
    previous = torch.cat([frames[:, :1], frames[:, :-1]], dim=1)
    window = torch.hann_window(_FRAME, periodic=False)
    power = torch.fft.rfft((frames - _PREEMPHASIS * previous) * window, n=_FFT).abs().square()
    return (power @ _mel_filters(bins)).clamp(min=torch.finfo(torch.float32).eps).log()


def resample(samples: Tensor, rate: int, target: int = SAMPLE_RATE) -> Tensor:
    """``(n,)`` samples at ``rate`` hertz to ``target``, by a Hann-windowed sinc of six zero crossings."""
    if rate == target:
        return samples
    common = math.gcd(rate, target)
    old, new = rate // common, target // common
    cutoff = min(old, new) * _ROLLOFF
    width = math.ceil(_SINC_ZEROS * old / cutoff)
    offsets = torch.arange(-width, width + old, dtype=torch.float64) / old
    t = (offsets - torch.arange(new, dtype=torch.float64).unsqueeze(1) / new) * cutoff
    t = t.clamp(-_SINC_ZEROS, _SINC_ZEROS)
    kernels = torch.special.sinc(t) * torch.cos(t * math.pi / _SINC_ZEROS / 2).square() * cutoff / old
    padded = F.pad(samples, (width, width + old))
    out = F.conv1d(padded[None, None], kernels.to(samples.dtype).unsqueeze(1), stride=old)
    return out[0].T.flatten()[: math.ceil(new * len(samples) / old)]
