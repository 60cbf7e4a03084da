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
_PHASES = 256  # whose weights are computed at once


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
    """``(n,)`` samples at ``rate`` hertz to ``target``, by a Hann-windowed sinc of six zero crossings.

    Memory is a few times that of the samples, also for rates without a common divisor.
    """
    if rate == target:
        return samples
    common = math.gcd(rate, target)
    old, new = rate // common, target // common
    cutoff = min(old, new) * _ROLLOFF
    width = math.ceil(_SINC_ZEROS * old / cutoff)
    length = math.ceil(new * len(samples) / old)
    out = samples.new_empty(math.ceil(length / new), new)
    padded = F.pad(samples, (width, width + 2 + old))
    # output samples of one phase have the same weights, and their inputs are ``old`` samples apart
    for start in range(0, min(new, length), _PHASES):
        phases = torch.arange(start, min(start + _PHASES, new, length))
        centres = phases * old // new
        taps = centres.unsqueeze(1) + torch.arange(-width, width + 2)
        t = (taps.double() / old - phases.double().unsqueeze(1) / new) * cutoff
        t = t.clamp(-_SINC_ZEROS, _SINC_ZEROS)
        weights = torch.special.sinc(t) * torch.cos(t * math.pi / _SINC_ZEROS / 2).square() * cutoff / old
        for phase, centre, weight in zip(phases.tolist(), centres.tolist(), weights.to(samples.dtype), strict=True):
            windows = padded[centre:].unfold(0, 2 * width + 2, old)[: len(out)]
            torch.mv(windows, weight, out=out[: len(windows), phase])
    return out.flatten()[:length]
