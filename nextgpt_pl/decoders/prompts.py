"""Decoders for pipelines that accept prompt embeddings: Stable Diffusion 3, Flux, Qwen-Image, Wan, AudioLDM 2, ..."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nextgpt_pl.decoders import guidance
from nextgpt_pl.decoders.arguments import Arguments, declared
from nextgpt_pl.decoders.base import OnStep
from nextgpt_pl.decoders.conditioning import check_takes_embeddings
from nextgpt_pl.decoders.diffusion import DiffusionDecoder
from nextgpt_pl.decoders.families import family_of
from nextgpt_pl.decoders.layout import TextLayout
from nextgpt_pl.decoders.prompt_captions import PromptCaptionEncoder
from nextgpt_pl.decoders.waveforms import WaveformLatents
from nextgpt_pl.errors import UserError, at_least


class PromptDecoder(DiffusionDecoder):
    """A decoder for any pipeline that accepts prompt embeddings.

    Captions are embedded by the pipeline's ``encode_prompt``. The embedding has a row per token; see
    :class:`~nextgpt_pl.decoders.layout.TextLayout` for pooled vectors and masks, and
    :mod:`~nextgpt_pl.decoders.families` for pipelines with particular arguments.

    Args:
        pipeline, path, sampling, dtype, negative_prompt, parts, fps: see :class:`DiffusionDecoder`. Arguments in
            ``sampling`` that the pipeline passes to ``encode_prompt``, such as ``clip_skip`` or ``system_prompt``, take
            effect there. An empty negative prompt is what the pipeline uses if it is given none.
        scheduler, scheduler_args, offload, compile, batch: see :class:`DiffusionDecoder`.
        loss_size, gradient_checkpointing, loss_batch: see :class:`DiffusionDecoder`; only pipelines in
            :mod:`~nextgpt_pl.decoders.denoisers` have a denoising loss.
        max_length: maximum number of tokens of a caption; ``None``: the pipeline's default. Alignment learns short
            embeddings faster.
        text_batch: captions per pass of the text encoders. With 1, embeddings are those of ``pipeline(prompt)`` to the
            last bit; more fill a cache faster, and embeddings differ by rounding. Refused for pipelines whose
            embeddings depend on the other captions of a batch.

    """

    def __init__(
        self,
        pipeline: str,
        path: str,
        sampling: Arguments | None = None,
        *,
        max_length: int | None = None,
        text_batch: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(pipeline, path, sampling, **kwargs)
        at_least(1, decoder__text_batch=text_batch)
        if text_batch > 1 and not family_of(pipeline).batched:
            raise UserError(
                f"decoder text_batch={text_batch}: embeddings of {pipeline} depend on the other captions of a batch; "
                "set 1"
            )
        self.text_batch = text_batch
        if max_length is not None and max_length < 1:
            raise UserError(f"decoder max_length={max_length}: at least 1")
        self.max_length = max_length

    @cached_property
    def captions(self) -> PromptCaptionEncoder:
        """The pipeline's ``encode_prompt``."""
        name = type(self).__name__
        return PromptCaptionEncoder(self.files, name, self.max_length, self.sampling, self.text_batch)

    @property
    def layout(self) -> TextLayout:
        """The layout of the embeddings; reads no weights."""
        return self.captions.layout

    def text_conditions(self, embeddings: Tensor) -> dict[str, Tensor]:
        """See :meth:`DenoisedDecoder.text_conditions`."""
        return self.layout.unpack(embeddings)

    @property
    def rate(self) -> float | None:
        """The configured frames per second, or the sample rate of the vocoder or autoencoder of sounds."""
        index = self.files.index() if self.fps is None else {}
        for part in ("vocoder", "vae"):
            if part in index and "sampling_rate" in self._config(part):
                return float(self._config(part)["sampling_rate"])
        return self.fps

    def check_sampling(self, sampling: Mapping[str, Any]) -> None:
        """See :meth:`Decoder.check_sampling`; against the signature of the pipeline's call."""
        super().check_sampling(sampling)
        if sampling.get(guidance.KEY) is not None and not family_of(self.pipeline_name).interval:
            raise UserError(
                f"decoder sampling.{guidance.KEY}: {self.pipeline_name} does not give its denoiser one doubled batch "
                "for guidance; remove the key"
            )

    def _check_embeddings(self, call: Mapping[str, Any]) -> None:
        if self.pipeline_name == "StableAudioPipeline" and not isinstance(self, StableAudioDecoder):
            raise UserError(
                "decoder pipeline='StableAudioPipeline': its class is nextgpt_pl.decoders.StableAudioDecoder"
            )
        check_takes_embeddings(self.pipeline_name, call)

    def _generate(
        self, embeddings: Tensor, seeds: list[int], negative: Tensor, sampling: dict[str, Any], on_step: OnStep | None
    ) -> list[np.ndarray]:
        arrays: dict[int, np.ndarray] = {}
        for group in self.layout.groups(embeddings):
            drawn = super()._generate(embeddings[group], [seeds[i] for i in group], negative, sampling, on_step)
            arrays |= dict(zip(group, drawn, strict=True))
        return [arrays[index] for index in range(len(embeddings))]

    def _loaded(self) -> Any:
        pipeline = super()._loaded()
        for part, make in family_of(self.pipeline_name).given.items():
            if getattr(pipeline, part) is None:
                setattr(pipeline, part, make(self.captions.sizes))
        return pipeline

    def _conditions(self, embeddings: Tensor, negative: Tensor) -> dict[str, Any]:
        conditions = {**self.layout.unpack(embeddings), **self.layout.unpack(negative, "negative_")}
        family = family_of(self.pipeline_name)
        if family.feed is not None:
            self._loaded().encode_prompt = partial(family.feed, conditions)
            return {"prompt": [""] * len(embeddings), **(family.fed or {})}
        # some pipelines' negative prompt is "" by default, which excludes its embedding
        conditions["negative_prompt"] = None
        known = declared(self.files.pipeline_class().__call__)
        return {name: value for name, value in conditions.items() if name in known}

    def _arrays(self, output: Any) -> list[np.ndarray]:
        if not hasattr(output, "audios"):
            return super()._arrays(output)
        sounds = [np.asarray(sound, np.float32) for sound in output.audios]
        return [sound.mean(0) if sound.ndim > 1 else sound for sound in sounds]  # stereo to mono


class StableAudioCaptionEncoder(PromptCaptionEncoder):
    """T5 states with their mask."""

    def _text_only(self, parts: dict[str, Any]) -> Any:
        return _Texts(parts["text_encoder"], parts["tokenizer"])

    def _values(self, captions: list[str], negative: bool) -> dict[str, Any]:
        texts, _ = self.load()
        # encode_prompt returns projected states, which the pipeline would project a second time
        states, mask = texts.states(captions, self.layout.blocks[0].length, self.device)
        return {"prompt_embeds": states, "attention_mask": mask}


class StableAudioDecoder(WaveformLatents, PromptDecoder):
    """Stable Audio: T5 states with their mask; the pipeline projects them and adds the duration."""

    @cached_property
    def captions(self) -> PromptCaptionEncoder:
        """T5."""
        name = type(self).__name__
        return StableAudioCaptionEncoder(self.files, name, self.max_length, batch_size=self.text_batch)


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
