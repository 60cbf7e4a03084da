"""The pocket vocoder: a HiFi-GAN generator whose weights, except in its first layers, form an additive synthesiser.

For constant frames, a generator without recurrence repeats its output every hop, so its steady tones are multiples of
the frame rate, here 32 Hz. Each multiple has a channel at the frame rate. The first layers predict its level from the
spectrogram, and the transposed convolutions convert levels to waves, band by band. Only the first layers are trained;
training all layers from random weights without a discriminator takes far longer.
"""

from __future__ import annotations

import math
from pathlib import Path
from random import Random

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn
from tqdm import tqdm
from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

from nextgpt_pl.pocket.mel import HOP, MEL_BINS, compressed_mel
from nextgpt_pl.pocket.pretrain.loop import PretrainTask, train
from nextgpt_pl.pocket.pretrain.sounds import any_sounds, bells, mixed_sounds
from nextgpt_pl.pocket.world.scenes import SAMPLE_RATE

_CHANNELS = 256  # at the frame rate: one per multiple of it below 8 kHz, and a few unused ones
# first: levels; then 32 Hz -> 640 Hz -> 3.2 kHz -> 16 kHz
_UPSAMPLING, _KERNELS = (1, 20, 5, 5), (3, 40, 25, 25)
_BANDS = (320.0, 1600.0)  # hertz: widths of the bands after the first and the second step
_SLOPE, _LAST_SLOPE = 0.1, 0.01  # slopes of the generator's leaky ReLUs
_FRAME_RATE = SAMPLE_RATE / HOP
_UNIT = 0.03  # amplitude of an oscillator of level 1, so that levels have a size that trains well
_FAINT = 1e-2  # levels below count as silence
# kinds of training sounds, in turn. A bell's partials are not harmonic and the hardest to predict: with few bells in
# training, they have two thirds of their amplitude, in glides less than half
_SOURCES = (bells, mixed_sounds, bells, any_sounds, bells, any_sounds, bells, mixed_sounds)
_LATENT_NOISE = 0.4  # maximum, relative to the latents' standard deviation
READING = ("conv_pre", "upsampler.0", "resblocks.0")  # the layers that are trained


def build_vocoder() -> SpeechT5HifiGan:
    """A generator of 2.8M parameters from frames to 500 samples each; its first layers must be trained."""
    vocoder = SpeechT5HifiGan(
        SpeechT5HifiGanConfig(
            model_in_dim=MEL_BINS,
            sampling_rate=SAMPLE_RATE,
            upsample_initial_channel=2 * _CHANNELS,
            upsample_rates=list(_UPSAMPLING),
            upsample_kernel_sizes=list(_KERNELS),
            resblock_kernel_sizes=[3],
            resblock_dilation_sizes=[[1]],
            leaky_relu_slope=_SLOPE,
            normalize_before=False,
        )
    )
    with torch.no_grad():
        for name, parameter in vocoder.named_parameters():
            if not name.startswith(READING):
                parameter.zero_()  # residual blocks are the identity
        _set_oscillators(vocoder.upsampler[1])
        _set_bands(vocoder.upsampler[2], SAMPLE_RATE / _UPSAMPLING[3], complex_output=True)
        _set_bands(vocoder.upsampler[3], SAMPLE_RATE, complex_output=False)
        vocoder.conv_post.weight[0, :2, 3] = torch.tensor([1.0, -1.0]) / (1 + _LAST_SLOPE)
    for module in (vocoder.conv_pre, vocoder.upsampler[0], *vocoder.resblocks[0].convs1):
        # the class's default initialisation is too close to zero to train
        module.reset_parameters()
    return vocoder


def frequencies() -> Tensor:
    """The frequencies of the generator's oscillators in hertz, ``(249,)``."""
    return torch.arange(1, int(SAMPLE_RATE / 2 / _FRAME_RATE)) * _FRAME_RATE


def _write(weight: Tensor, source: int, target: int, wave: Tensor, incoming_pair: bool) -> None:
    """Connect two signals, each of which is carried by a pair of channels of opposite sign.

    Pairs pass the leaky rectifiers undistorted: the difference of the two is linear.
    """
    for sign_out, out in ((1.0, target), (-1.0, target + 1)):
        if incoming_pair:
            weight[source, out] += sign_out * wave / (1 + _SLOPE)
            weight[source + 1, out] -= sign_out * wave / (1 + _SLOPE)
        else:
            weight[source, out] += sign_out * wave


def _set_oscillators(layer: nn.ConvTranspose1d) -> None:
    """Level k becomes a wave of its frequency, two frames long, in its band's real and imaginary signals.

    The frequency is a multiple of the frame rate, so the wave is continuous over frames.
    """
    rate = _FRAME_RATE * _UPSAMPLING[1]
    time = (torch.arange(_KERNELS[1]) - _KERNELS[1] / 2) / rate
    window = _UNIT * torch.hann_window(_KERNELS[1])
    phases = torch.rand(len(frequencies()), generator=torch.Generator().manual_seed(0)) * 2 * math.pi
    for channel, (frequency, phase) in enumerate(zip(frequencies().tolist(), phases, strict=True)):
        first = 4 * int(frequency / _BANDS[0])
        angle = 2 * math.pi * frequency * time + phase
        _write(layer.weight, channel, first, window * angle.cos(), incoming_pair=False)
        _write(layer.weight, channel, first + 2, window * angle.sin(), incoming_pair=False)


def _set_bands(layer: nn.ConvTranspose1d, rate: float, *, complex_output: bool) -> None:
    """Interpolate each band to ``rate`` with a low-pass filter that is shifted to the band's frequencies."""
    width = _BANDS[0] if complex_output else _BANDS[1]
    step, length = layer.stride[0], layer.kernel_size[0]
    time = (torch.arange(length) - (length - 1) / 2) / rate
    lowpass = torch.sinc(2 * width * time) * torch.hann_window(length + 2)[1:-1]
    lowpass = lowpass * (step / lowpass.sum())
    for band in range(int(SAMPLE_RATE / 2 / width)):
        centre = (band + 0.5) * width
        real, imaginary = lowpass * (2 * math.pi * centre * time).cos(), lowpass * (2 * math.pi * centre * time).sin()
        target = 4 * int(centre / _BANDS[1]) if complex_output else 0
        _write(layer.weight, 4 * band, target, real, incoming_pair=True)
        _write(layer.weight, 4 * band + 2, target, -imaginary, incoming_pair=True)
        if complex_output:
            _write(layer.weight, 4 * band, target + 2, imaginary, incoming_pair=True)
            _write(layer.weight, 4 * band + 2, target + 2, real, incoming_pair=True)


def levels(waves: Tensor) -> Tensor:
    """Amplitudes of the frequencies in each frame, in units of 0.03: ``(B, n)`` samples to ``(B, n / HOP, 249)``.

    Each frame is moved a little in pitch, so that its strongest peak, the fundamental, is a multiple of the frame rate
    and its harmonics are too. Each peak counts for one frequency alone: neighbours that sound together would beat.
    """
    size = 4096
    window = torch.hann_window(2 * HOP)
    # frame m sounds from the middle of mel frame m to that of m + 2
    frames = F.pad(waves, (HOP // 2, 2 * HOP)).unfold(1, 2 * HOP, HOP)[:, : waves.shape[1] // HOP]
    spectrum = torch.fft.rfft(frames * window, n=size).abs() * (2 / window.sum() / _UNIT)
    middle = spectrum[..., 1:-1]
    peaks = F.pad(torch.where((middle >= spectrum[..., :-2]) & (middle > spectrum[..., 2:]), middle, 0.0), (1, 1))
    grid = torch.arange(peaks.shape[-1]) * (SAMPLE_RATE / size / _FRAME_RATE)
    fundamental = grid[peaks.argmax(-1, keepdim=True)].clamp(min=0.5)
    bins = (grid * (fundamental.round().clamp(min=1) / fundamental)).round().long()
    count = len(frequencies())
    amplitudes = torch.zeros(*peaks.shape[:-1], 2 * int(grid[-1]) + 2)
    return amplitudes.scatter_reduce(-1, bins, peaks, reduce="amax")[..., 1 : 1 + count]


class LevelReading(PretrainTask):
    """Trains the generator's first layers to predict the levels from the spectrogram.

    Half of the pool is reconstructed by the autoencoder, with noise on its latents, so that the vocoder is robust to
    blurred partials and to errors of the diffusion network.
    """

    items = 16
    pool = 6_000  # number of sounds; they are rendered and analysed once, which takes longer than a step

    def __init__(self, vocoder: SpeechT5HifiGan, vae: AutoencoderKL, *, steps: int, seed: int) -> None:
        super().__init__(steps=steps, lr=1e-3, seed=seed, weight_decay=0.0)
        for name, parameter in vocoder.named_parameters():
            parameter.requires_grad_(name.startswith(READING))
        self.vocoder = vocoder
        self._vae = [vae]  # in a list, so that it is not a submodule and not in checkpoints
        self.mels, self.levels = torch.empty(0), torch.empty(0)

    def _fill_pool(self) -> None:
        """Render and analyse the pool."""
        rng = Random(f"{self.seed}/levels")
        batches = min(self.pool // self.items, 3 * self.steps)
        waves = [_SOURCES[i % len(_SOURCES)](rng, self.items) for i in tqdm(range(batches), desc="levels")]
        mels = [compressed_mel(w) for w in waves]
        # each half contains all kinds of sounds
        generator = torch.Generator().manual_seed(self.seed)
        self.mels = torch.cat([self._blurred(m, generator) if i % 4 >= 2 else m for i, m in enumerate(mels)])
        self.levels = torch.cat([levels(w) for w in waves])

    @torch.no_grad()
    def _blurred(self, mels: Tensor, generator: torch.Generator) -> Tensor:
        """Reconstruct spectrograms ``(B, T, MEL_BINS)`` by the autoencoder, with noise on the latents."""
        (vae,) = self._vae
        latents = vae.encode(mels.unsqueeze(1).to(vae.device)).latent_dist.mean.cpu()
        share = _LATENT_NOISE * torch.rand(len(latents), 1, 1, 1, generator=generator)
        noise = torch.randn(latents.shape, generator=generator)
        return vae.decode((latents + share * latents.std() * noise).to(vae.device)).sample[:, 0].cpu()

    def loss(self, rng: Random, generator: torch.Generator) -> Tensor:
        """Squared and absolute error of the levels, relative to their power and sum, that of their roots, of regions.

        The squared error fits loud partials, the absolute error suppresses noise between them, and the error of roots
        fits weak partials, which determine the timbre. The last two terms compare regions of seven levels, by power and
        by root: they keep a partial's power if the spectrogram does not determine which of two neighbours sounds.
        """
        if not len(self.mels):
            self._fill_pool()
        indices = [int(rng.random() * len(self.mels)) for _ in range(self.items)]
        target = self.levels[indices].to(self.device)
        read = read_levels(self.vocoder, self.mels[indices].to(self.device))[..., : target.shape[-1]]
        difference = read - target
        loud = difference.square().sum() / target.square().sum()
        clear = difference.abs().sum() / target.sum()
        faint = ((read.clamp(min=0) + _FAINT).sqrt() - (target + _FAINT).sqrt()).square().sum() / target.sum()
        level_regions, target_regions = _loudness(read), _loudness(target)
        regions = (level_regions - target_regions).square().sum() / target.square().sum()
        faint_regions = (level_regions.sqrt() - target_regions.sqrt()).square().sum() / target.sum()
        return loud + 0.3 * clear + faint + regions + faint_regions


def _loudness(levels: Tensor) -> Tensor:
    """Root of the power of each level and its three neighbours to each side, ``(B, T, n)``."""
    return (F.avg_pool1d(levels.square(), 7, 1, 3) * 7 + _FAINT**2).sqrt()


def read_levels(vocoder: SpeechT5HifiGan, mels: Tensor) -> Tensor:
    """Levels of the oscillators, ``(B, T, MEL_BINS)`` to ``(B, T, 256)``."""
    hidden = F.leaky_relu(vocoder.conv_pre(mels.transpose(1, 2)), _SLOPE)
    return F.leaky_relu(vocoder.resblocks[0](vocoder.upsampler[0](hidden)), _SLOPE).transpose(1, 2)


def train_vocoder(vae: AutoencoderKL, work: Path, *, steps: int, seed: int) -> SpeechT5HifiGan:
    """Train the vocoder's reading layers, on true spectrograms and on the autoencoder's."""
    torch.manual_seed(seed)
    task = LevelReading(build_vocoder(), vae, steps=steps, seed=seed)
    train(task, work)
    return task.vocoder
