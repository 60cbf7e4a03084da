"""Decoders that are pipelines of the diffusers library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nextgpt_pl.decoders import guidance
from nextgpt_pl.decoders.arguments import Arguments, Dtype, check, check_options, declared, sampling_types
from nextgpt_pl.decoders.base import OnStep, item_seeds
from nextgpt_pl.decoders.captions import CaptionEncoder
from nextgpt_pl.decoders.conditioning import check_one_encoder
from nextgpt_pl.decoders.denoised import DenoisedDecoder
from nextgpt_pl.decoders.drawing import default_batch_size, finite_medium, pixels_of
from nextgpt_pl.decoders.files import PipelineFiles
from nextgpt_pl.decoders.set_up import Offload, SetUp, denoiser_name
from nextgpt_pl.decoders.steps import callback_arguments
from nextgpt_pl.errors import UserError
from nextgpt_pl.utils.paths import resolve
from nextgpt_pl.utils.precision import own_precision
from nextgpt_pl.utils.quiet import quiet_loading

_SIZES = ("height", "width", "num_frames", "audio_length_in_s", "audio_end_in_s")


class DiffusionDecoder(DenoisedDecoder):
    """An image or video pipeline conditioned on ``(L, D)`` states of one CLIP (Stable Diffusion, Zeroscope).

    Pipelines with other text encoders, masks or pooled vectors need
    :class:`~nextgpt_pl.decoders.prompts.PromptDecoder`.

    The text encoder and the diffusion networks are loaded separately, on first use: training needs the text encoder
    only, a run with cached embeddings neither.

    Args:
        pipeline: class name in diffusers, such as ``StableDiffusionPipeline``; not inferred from the folder.
        path: hub id, folder, or ``pocket:image``, ``pocket:video``, ``pocket:audio``.
        sampling: arguments of the pipeline's call, and ``guidance_interval``: the two fractions of the steps between
            which guidance is applied (see :mod:`nextgpt_pl.decoders.guidance`).
        dtype: dtype of the weights; embeddings are always float32.
        negative_prompt: negative prompt of classifier-free guidance.
        parts: parts from another pipeline's folder, such as ``{vae: pocket:image}``.
        fps: frames per second of videos; ``None`` for images.
        scheduler: class name in diffusers of a scheduler that replaces the pipeline's.
        scheduler_args: changes to the scheduler's configuration.
        offload: keep the networks in CPU memory and move them to the GPU when they run: ``model`` moves one network at
            a time, ``sequential`` one layer at a time, which is slow and needs the least memory.
        compile: compile the denoiser (``torch.compile``).
        channels_last: keep the weights of the denoiser's 2D convolutions in channels-last order, which tensor cores
            read without conversion.
        loss_size: ``height``, ``width``, ``num_frames``, ``audio_length_in_s`` or ``audio_end_in_s`` of media in the
            denoising loss, if different from ``sampling``.
        gradient_checkpointing: recompute the denoiser's activations in the backward pass of the denoising loss.
        batch: number of media that are generated in one batch; by default 4 million pixels, at most 32 media.
        loss_batch: number of media per forward pass of the denoiser in the denoising loss; memory grows with it.

    """

    #: optional parts of the pipeline that are never needed
    unused_parts: tuple[str, ...] = ("safety_checker", "feature_extractor", "image_encoder")
    #: class name of the text encoder that pipelines of this decoder have
    text_class = "CLIPTextModel"

    def __init__(
        self,
        pipeline: str,
        path: str,
        sampling: Arguments | None = None,
        dtype: Dtype = "float32",
        negative_prompt: str = "",
        parts: dict[str, str] | None = None,
        fps: float | None = None,
        scheduler: str | None = None,
        scheduler_args: Arguments | None = None,
        offload: Offload = "none",
        compile: bool = False,
        channels_last: bool = False,
        loss_size: Arguments | None = None,
        gradient_checkpointing: bool = False,
        batch: int | None = None,
        loss_batch: int = 1,
    ) -> None:
        super().__init__()
        # arguments are checked before weights are read
        check_options(batch, loss_batch, dtype, fps)
        self.batch, self.loss_batch, self.fps = batch, loss_batch, fps
        self.gradient_checkpointing = gradient_checkpointing
        self.parts = dict(parts or {})
        self.pipeline_name, self.path, self.dtype_name = pipeline, path, dtype
        self.files = PipelineFiles(pipeline, path, self.parts)
        self.sampling, self.loss_size = dict(sampling or {}), dict(loss_size or {})
        self.negative_prompt = negative_prompt
        self.check_sampling(self.sampling)
        self._check_loss_size()
        self.set_up = SetUp(scheduler, dict(scheduler_args or {}), offload, compile, channels_last)
        self.device = torch.device("cpu")
        self._pipeline: Any = None

    @cached_property
    def captions(self) -> CaptionEncoder:
        """The pipeline's text encoder."""
        return CaptionEncoder(self.files, type(self).__name__)

    def check_sampling(self, sampling: Mapping[str, Any]) -> None:
        """See :meth:`Decoder.check_sampling`; against the signature of the pipeline's call."""
        pipeline_class = self.files.pipeline_class()
        self._check_embeddings(declared(pipeline_class.__call__))
        known = {**sampling_types(pipeline_class), guidance.KEY: list[float] | None}
        check(sampling, known, "decoder sampling", self.pipeline_name)
        guidance.pop_interval(dict(sampling))

    def _check_embeddings(self, call: Mapping[str, Any]) -> None:
        """Check that the pipeline takes this class's caption embeddings, by the arguments of its call."""
        check_one_encoder(self.files.pipeline_class(), call, type(self).__name__, self.text_class)

    def _check_loss_size(self) -> None:
        known = sampling_types(self.files.pipeline_class())
        sizes = {name: known[name] for name in _SIZES if name in known}
        check(self.loss_size, sizes, "decoder loss_size", f"the size of media of {self.pipeline_name}")

    def _config(self, part: str, file: str = "config.json") -> dict[str, Any]:
        return self.files.json(file, part)

    def parameter_counts(self) -> dict[str, int]:
        """Per part of the pipeline; reads no weights."""
        return self.files.parameter_counts()

    @property
    def rate(self) -> float | None:
        """The configured frames per second."""
        return self.fps

    @property
    def embedding_shape(self) -> tuple[int, ...]:
        """Embedding shape of the pipeline's text encoder; reads no weights."""
        return self.captions.shape

    def embed_captions(self, captions: Sequence[str]) -> Tensor:
        """``(N, *embedding_shape)`` float32, outside of autocast; embeddings are cached in memory."""
        return self.captions.embed(captions)

    def _loaded(self) -> Any:
        """The diffusion networks, without text encoder and tokenizer."""
        if self._pipeline is None:
            pipeline_class = self.files.pipeline_class()
            self.files.part_class("scheduler")  # diffusers imports what the folder names; packages may be missing
            dtype = getattr(torch, self.dtype_name)
            with quiet_loading():
                replaced = self._replaced_parts(dtype)
                pipeline = pipeline_class.from_pretrained(resolve(self.path), dtype=dtype, **replaced)
            pipeline.set_progress_bar_config(disable=True)
            self.set_up.apply(pipeline, self.device)
            self._pipeline = pipeline
        return self._pipeline

    def _replaced_parts(self, dtype: torch.dtype) -> dict[str, Any]:
        """Parts that the pipeline does not load from its own folder: ``None`` for unused parts, and shared parts."""
        entries = self.files.json("model_index.json")  # with parts that are absent: some must be named nevertheless
        replaced: dict[str, Any] = dict.fromkeys(p for p in (*self.captions.parts, *self.unused_parts) if p in entries)
        for part in self.parts.keys() - replaced.keys():
            part_class = self.files.part_class(part)
            replaced[part] = part_class.from_pretrained(self.files.folder(part), dtype=dtype)
        return replaced

    @torch.no_grad()
    @own_precision()
    def generate(
        self,
        embeddings: Tensor,
        *,
        seed: int | Sequence[int],
        negative: Tensor | None = None,
        on_step: OnStep | None = None,
        **sampling: Any,
    ) -> list[np.ndarray]:
        """See :meth:`Decoder.generate`.

        Raises:
            UserError: the embeddings have another shape, a sampling argument is invalid, or the pipeline's output is
                not finite.

        """
        self.check_sampling(sampling)
        sampling = {**self.sampling, **sampling}
        if tuple(embeddings.shape[1:]) != self.embedding_shape:
            raise UserError(f"embeddings {tuple(embeddings.shape[1:])}, the decoder wants {self.embedding_shape}")
        if negative is None:
            negative = self.captions.embed_negative(self.negative_prompt)
        seeds, batch = item_seeds(seed, len(embeddings)), self.batch or self._batch_size(sampling)
        batches = [slice(start, start + batch) for start in range(0, len(embeddings), batch)]
        return [
            array
            for indices in batches
            for array in self._generate(embeddings[indices], seeds[indices], negative, sampling, on_step)
        ]

    def _batch_size(self, sampling: Mapping[str, Any]) -> int:
        """Default number of media that are generated in one batch."""
        return default_batch_size(self._pixels_per_medium(sampling))

    def _pixels_per_medium(self, sampling: Mapping[str, Any]) -> int:
        return pixels_of(sampling, moving=self.fps is not None)

    def _generate(
        self, embeddings: Tensor, seeds: list[int], negative: Tensor, sampling: dict[str, Any], on_step: OnStep | None
    ) -> list[np.ndarray]:
        pipeline = self._loaded()
        negative = negative.expand(len(embeddings), *self.embedding_shape)
        dtype = getattr(torch, self.dtype_name)
        sampling = dict(sampling)
        interval = guidance.pop_interval(sampling)
        with guidance.limited(pipeline, getattr(pipeline, denoiser_name(pipeline)), len(embeddings), interval):
            output = pipeline(
                **self._conditions(embeddings.to(self.device, dtype), negative.to(self.device, dtype)),
                generator=[torch.Generator().manual_seed(s) for s in seeds],
                output_type="np",
                **callback_arguments(pipeline, on_step),
                **sampling,
            )
        return [finite_medium(array, self.path) for array in self._arrays(output)]

    def _conditions(self, embeddings: Tensor, negative: Tensor) -> dict[str, Any]:
        """Convert embeddings to arguments of the pipeline's call."""
        return {"prompt_embeds": embeddings, "negative_prompt_embeds": negative}

    def _arrays(self, output: Any) -> list[np.ndarray]:
        """Images ``(..., H, W, 3)`` in [0, 1] or audio ``(n,)`` in [-1, 1]."""
        return [np.asarray(p) for p in (output.images if hasattr(output, "images") else output.frames)]

    def to(self, device: torch.device | str) -> DiffusionDecoder:
        """Move networks to a device, now or when they are loaded."""
        moved = torch.device(device) != self.device
        self.device = torch.device(device)
        if self._pipeline is not None and moved:
            self._pipeline.remove_all_hooks()
            self.set_up.place(self._pipeline, self.device)
        self.captions.to(self.device)
        return self
