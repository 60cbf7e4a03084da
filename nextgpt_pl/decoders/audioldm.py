"""AudioLDM: its denoiser is conditioned on one vector instead of a sequence."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextgpt_pl.decoders import denoising
from nextgpt_pl.decoders.arguments import Arguments
from nextgpt_pl.decoders.captions import CaptionEncoder
from nextgpt_pl.decoders.diffusion import DiffusionDecoder
from nextgpt_pl.decoders.spectrogram import log_mel
from nextgpt_pl.features import Preparation
from nextgpt_pl.samples import Media
from nextgpt_pl.utils.transfer import upload

_PIXELS_PER_SECOND = 100 * 64  # of a spectrogram


class ClapCaptionEncoder(CaptionEncoder):
    """CLAP's pooled text embedding, L2-normalised."""

    @property
    def shape(self) -> tuple[int, ...]:
        """``(D,)``."""
        return (int(self.files.json("config.json", "text_encoder")["projection_dim"]),)

    def encode_tokens(self, encoder: Any, tokens: Any) -> Tensor:
        """See :meth:`CaptionEncoder.encode_tokens`; with the attention mask."""
        mask = upload(_attention_mask(tokens.attention_mask.bool(), encoder), self.device)
        embeddings = encoder(upload(tokens.input_ids, self.device), attention_mask=mask).text_embeds
        return F.normalize(embeddings, dim=-1)


class AudioLDMDecoder(DiffusionDecoder):
    """AudioLDM: conditioned on one pooled, L2-normalised CLAP text embedding ``(D,)``, fed as class labels.

    Args:
        pipeline, path, sampling, dtype, negative_prompt, parts: see :class:`DiffusionDecoder`.
        scheduler, scheduler_args, offload, compile: see :class:`DiffusionDecoder`.
        loss_size, gradient_checkpointing, batch, loss_batch: see :class:`DiffusionDecoder`.
        spectrogram: function of ``(B, n)`` samples at 16 kHz to ``(B, frames, bins)``, which the autoencoder encodes.

    """

    text_class = "ClapTextModelWithProjection"

    def __init__(
        self,
        pipeline: str,
        path: str,
        sampling: Arguments | None = None,
        *,
        spectrogram: Callable[[Tensor], Tensor] = log_mel,
        **kwargs: Any,
    ) -> None:
        super().__init__(pipeline, path, sampling, fps=None, **kwargs)
        self.spectrogram = spectrogram

    @cached_property
    def captions(self) -> CaptionEncoder:
        """CLAP."""
        return ClapCaptionEncoder(self.files, type(self).__name__)

    def seconds(self) -> float:
        """Duration of audio in the denoising loss, in seconds."""
        sizes: dict[str, Any] = {"audio_length_in_s": 5.0, **self.loss_sizes()}
        return float(sizes["audio_length_in_s"])

    def _pixels_per_medium(self, sampling: Mapping[str, Any]) -> int:
        return int((sampling.get("audio_length_in_s") or 5.0) * _PIXELS_PER_SECOND)

    def preparation(self) -> Preparation:
        """See :meth:`Decoder.preparation`; ``(1, 1, frames, bins)`` float32."""
        multiple = 2 ** (len(self._config("vae")["block_out_channels"]) - 1)
        prepare = partial(_picture, spectrogram=self.spectrogram, seconds=self.seconds(), multiple=multiple)
        return Preparation(prepare, self._latents)

    def latent_shape(self, frames: bool) -> tuple[int, ...]:
        """``(C, frames, bins)`` of a spectrogram at the vocoder's rate."""
        vocoder, vae = self._config("vocoder"), self._config("vae")
        factor = 2 ** (len(vae["block_out_channels"]) - 1)
        rows = self.seconds() * vocoder["sampling_rate"] / math.prod(vocoder["upsample_rates"])
        return int(self._config("unet")["in_channels"]), math.ceil(rows / factor), vocoder["model_in_dim"] // factor

    @property
    def rate(self) -> float:
        """The vocoder's sample rate."""
        return float(self._config("vocoder")["sampling_rate"])

    def _loaded(self) -> Any:
        pipeline = super()._loaded()
        # the pipeline's method needs the text encoder, which is not loaded, and does not normalise given embeddings
        pipeline._encode_prompt = self._encode_prompt
        pipeline.mel_spectrogram_to_waveform = partial(_waveforms, pipeline.vocoder)
        return pipeline

    def _encode_prompt(
        self,
        _prompt: Any,
        _device: Any,
        num_waveforms_per_prompt: int,
        do_classifier_free_guidance: bool,
        _negative_prompt: Any = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
    ) -> Tensor:
        assert prompt_embeds is not None
        assert negative_prompt_embeds is not None
        positive = F.normalize(prompt_embeds, dim=-1).repeat_interleave(num_waveforms_per_prompt, 0)
        if not do_classifier_free_guidance:
            return positive
        return torch.cat(
            [F.normalize(negative_prompt_embeds, dim=-1).repeat_interleave(num_waveforms_per_prompt, 0), positive]
        )

    def _arrays(self, output: Any) -> list[np.ndarray]:
        return [np.asarray(a, np.float32) for a in output.audios]


def _picture(media: Media, spectrogram: Callable[[Tensor], Tensor], seconds: float, multiple: int) -> Tensor:
    """The spectrogram of a sound as a picture ``(1, 1, frames, bins)``; ``frames`` is filled to a multiple."""
    mel = spectrogram(denoising.waveform(media, seconds).unsqueeze(0))
    return F.pad(mel, (0, 0, 0, -mel.shape[1] % multiple), value=float(mel.min())).unsqueeze(1)


def _waveforms(vocoder: nn.Module, spectrograms: Tensor) -> Tensor:
    """Samples ``(B, n)`` float32 on the CPU of spectrograms ``(B, 1, frames, bins)``.

    The CPU takes one at a time, whose activations fit into its cache.
    """
    size = 1 if spectrograms.device.type == "cpu" else len(spectrograms)
    return torch.cat([vocoder(few.squeeze(1)).cpu().float() for few in spectrograms.split(size)])


def _attention_mask(mask: Tensor, encoder: Any) -> Tensor:
    """Expand a padding mask ``(N, L)`` on the CPU to the attention mask ``(N, 1, L, L)`` of a text encoder.

    transformers would do this on the device, with a host synchronisation to find out whether the mask can be omitted.
    """
    allowed = mask[:, None, None, :].expand(-1, 1, mask.shape[1], -1)
    attention = encoder.config._attn_implementation
    if attention == "eager":
        return torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)
    return allowed if attention == "sdpa" and not mask.all() else mask
