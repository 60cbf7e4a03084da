"""Latents of sounds whose autoencoder reads waveforms."""

from __future__ import annotations

import math
from functools import cached_property, partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from nextgpt_pl.decoders import denoising
from nextgpt_pl.decoders.autoencoders import Compression
from nextgpt_pl.decoders.denoised import DenoisedDecoder
from nextgpt_pl.errors import UserError
from nextgpt_pl.features import Preparation
from nextgpt_pl.samples import Media


class WaveformLatents(DenoisedDecoder):
    """Sounds in the denoising loss have the denoiser's full length, as in its training; silence follows them."""

    @cached_property
    def compression(self) -> Compression:
        """Samples per latent."""
        return Compression(math.prod(self.files.config("vae")["downsampling_ratios"]))

    def preparation(self) -> Preparation:
        """See :meth:`Decoder.preparation`; ``(1, channels, samples)`` float32."""
        vae, options = self.files.config("vae"), self.denoiser_options()
        prepare = partial(
            _filled,
            seconds=options["audio_end_in_s"] - options["audio_start_in_s"],
            rate=int(vae["sampling_rate"]),
            samples=self.latent_shape(frames=False)[-1] * self.compression.side,
            channels=int(vae["audio_channels"]),
        )
        return Preparation(prepare, self._latents)

    def denoiser_options(self) -> dict[str, Any]:
        """Start and end in seconds; by default the whole length.

        Raises:
            UserError: the end is not behind the start, or the sound is longer than the denoiser's input.

        """
        options, rate = self.call_options(), int(self.files.config("vae")["sampling_rate"])
        longest = self.latent_shape(frames=False)[-1] * self.compression.side / rate
        start, end = float(options["audio_start_in_s"]), float(options.get("audio_end_in_s", longest))
        if not 0 < end - start <= longest:
            raise UserError(
                f"decoder loss_size.audio_end_in_s={end}: from audio_start_in_s={start} it must be above 0 and at most "
                f"{longest} s"
            )
        return {"audio_start_in_s": start, "audio_end_in_s": end}

    def latent_shape(self, frames: bool) -> tuple[int, ...]:
        """``(C, samples)``; see :meth:`DenoisedDecoder.latent_shape`."""
        config = self.files.config(self.arrangement.part)
        return int(config["in_channels"]), int(config["sample_size"])


def _filled(media: Media, seconds: float, rate: int, samples: int, channels: int) -> Tensor:
    """A sound as ``(1, channels, samples)``: equal channels, followed by silence."""
    sound = denoising.waveform(media, seconds, rate)
    return F.pad(sound, (0, samples - len(sound))).expand(1, channels, -1).contiguous()
