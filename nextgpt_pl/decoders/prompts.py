"""Decoders for pipelines that accept prompt embeddings: Stable Diffusion XL, PixArt, Flux, CogVideoX, LTX, Wan, ..."""

from __future__ import annotations

import inspect
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nextgpt_pl.decoders.arguments import Arguments
from nextgpt_pl.decoders.captions import CaptionEncoder
from nextgpt_pl.decoders.diffusion import DiffusionDecoder
from nextgpt_pl.decoders.files import PipelineFiles
from nextgpt_pl.decoders.layout import TextLayout, read_layout
from nextgpt_pl.decoders.waveforms import WaveformLatents
from nextgpt_pl.errors import UserError


class PromptCaptionEncoder(CaptionEncoder):
    """Embeds captions by the pipeline's ``encode_prompt``; loads its text parts only.

    Args:
        files, owner: see :class:`CaptionEncoder`.
        max_length: maximum number of tokens of a caption; ``None``: the pipeline's default.

    """

    parts = ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2", "text_encoder_3", "tokenizer_3")

    def __init__(self, files: PipelineFiles, owner: str, max_length: int | None) -> None:
        super().__init__(files, owner)
        self.max_length = max_length

    @cached_property
    def layout(self) -> TextLayout:
        """The layout of the embeddings; reads no weights."""
        encoders = {p: self.files.json("config.json", p) for p in self.files.index() if p.startswith("text_encoder")}
        tokenizer = self.files.json("tokenizer_config.json", "tokenizer")
        return read_layout(self.files.pipeline_class(), encoders, tokenizer, self.max_length)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the packed embedding."""
        return self.layout.shape

    def _read(self) -> tuple[Any, Any]:
        """The pipeline with its text parts only, and no tokenizer."""
        parts: dict[str, Any] = dict.fromkeys(self.files.index())
        for part in [p for p in parts if p in self.parts]:
            read = self._read_tokenizer if part.startswith("tokenizer") else self._read_encoder
            parts[part] = read(part)
        return self._text_only(parts), None

    def _text_only(self, parts: dict[str, Any]) -> Any:
        return self.files.pipeline_class()(**parts)

    def encode(self, captions: list[str]) -> Tensor:
        """See :meth:`CaptionEncoder.encode`."""
        pipeline, _ = self.load()
        options = {
            "prompt": captions,
            "device": self.device,
            "do_classifier_free_guidance": False,
            "max_sequence_length": self.layout.length,
        }
        known = inspect.signature(pipeline.encode_prompt).parameters
        outputs = pipeline.encode_prompt(**{name: value for name, value in options.items() if name in known})
        return self.layout.from_outputs(outputs, len(captions))


class PromptDecoder(DiffusionDecoder):
    """A decoder for any pipeline that accepts prompt embeddings; see :class:`~nextgpt_pl.decoders.layout.TextLayout`.

    Captions are embedded by the pipeline's ``encode_prompt``.

    Args:
        pipeline, path, sampling, dtype, negative_prompt, parts, fps: see :class:`DiffusionDecoder`.
        scheduler, scheduler_args, offload, compile, batch: see :class:`DiffusionDecoder`.
        max_length: maximum number of tokens of a caption; ``None``: the pipeline's default. Alignment learns short
            embeddings faster.

    """

    def __init__(
        self,
        pipeline: str,
        path: str,
        sampling: Arguments | None = None,
        *,
        max_length: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(pipeline, path, sampling, **kwargs)
        if max_length is not None and max_length < 1:
            raise UserError(f"decoder max_length={max_length}: at least 1")
        self.max_length = max_length

    @cached_property
    def captions(self) -> PromptCaptionEncoder:
        """The pipeline's ``encode_prompt``."""
        return PromptCaptionEncoder(self.files, type(self).__name__, self.max_length)

    @property
    def layout(self) -> TextLayout:
        """The layout of the embeddings; reads no weights."""
        return self.captions.layout

    def text_conditions(self, embeddings: Tensor) -> dict[str, Tensor]:
        """See :meth:`DenoisedDecoder.text_conditions`."""
        return self.layout.unpack(embeddings)

    def _conditions(self, embeddings: Tensor, negative: Tensor) -> dict[str, Any]:
        # some pipelines' negative prompt is "" by default, which excludes its embedding
        conditions: dict[str, Any] = {"negative_prompt": None}
        conditions |= {**self.layout.unpack(embeddings), **self.layout.unpack(negative, "negative_")}
        known = inspect.signature(self.files.pipeline_class().__call__).parameters
        return {name: value for name, value in conditions.items() if name in known}


class StableAudioCaptionEncoder(PromptCaptionEncoder):
    """T5 states with their mask."""

    def _text_only(self, parts: dict[str, Any]) -> Any:
        return _Texts(parts["text_encoder"], parts["tokenizer"])

    def encode(self, captions: list[str]) -> Tensor:
        """See :meth:`CaptionEncoder.encode`."""
        texts, _ = self.load()
        # encode_prompt returns projected states, which the pipeline would project a second time
        states, mask = texts.states(captions, self.layout.length, self.device)
        return self.layout.pack(states, mask)


class StableAudioDecoder(WaveformLatents, PromptDecoder):
    """Stable Audio: T5 states with their mask; the pipeline projects them and adds the duration."""

    @cached_property
    def captions(self) -> PromptCaptionEncoder:
        """T5."""
        return StableAudioCaptionEncoder(self.files, type(self).__name__, self.max_length)

    @property
    def rate(self) -> float:
        """The autoencoder's sample rate."""
        return float(self._config("vae")["sampling_rate"])

    def _arrays(self, output: Any) -> list[np.ndarray]:
        return [np.asarray(a, np.float32).mean(0) for a in output.audios]  # stereo to mono


class _Texts:
    """A text encoder and its tokenizer."""

    def __init__(self, encoder: Any, tokenizer: Any) -> None:
        self.encoder, self.tokenizer = encoder, tokenizer

    def to(self, device: torch.device) -> _Texts:
        self.encoder.to(device)
        return self

    def states(self, captions: list[str], length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """``(N, L, D)`` states and ``(N, L)`` mask."""
        tokens = self.tokenizer(
            captions, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        ).to(device)
        return self.encoder(tokens.input_ids, attention_mask=tokens.attention_mask)[0], tokens.attention_mask
