"""Decoders that are pipelines of the diffusers library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nextgpt_pl.decoders import denoising, guidance
from nextgpt_pl.decoders.arguments import Arguments, Dtype, check, check_options, declared, sampling_types
from nextgpt_pl.decoders.base import Decoder, item_seeds
from nextgpt_pl.decoders.captions import MEMORY_BYTES, CaptionEncoder
from nextgpt_pl.decoders.drawing import at_once, finite_medium, pixels_of
from nextgpt_pl.decoders.files import PipelineFiles
from nextgpt_pl.decoders.set_up import Offload, SetUp, denoiser_name
from nextgpt_pl.errors import UserError
from nextgpt_pl.features import Memory
from nextgpt_pl.features.keys import media_name
from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import Media
from nextgpt_pl.utils.paths import resolve
from nextgpt_pl.utils.precision import own_precision
from nextgpt_pl.utils.quiet import quiet_loading
from nextgpt_pl.utils.transfer import upload

_SIZES = ("height", "width", "num_frames", "audio_length_in_s")


class DiffusionDecoder(Decoder):
    """An image or video pipeline conditioned on ``(L, D)`` text states (Stable Diffusion, Zeroscope).

    The text encoder and the diffusion networks are read separately and late: training needs only the first, a cached
    run neither.

    Args:
        pipeline: class name in diffusers, such as ``StableDiffusionPipeline``; named, never guessed.
        path: hub id, folder, or ``pocket:image``, ``pocket:video``, ``pocket:audio``.
        sampling: arguments of the pipeline's call, and ``guidance_interval``: two shares of the steps, between which it
            is guided (see :mod:`nextgpt_pl.decoders.guidance`).
        dtype: of the weights; embeddings are float32 whatever this says.
        negative_prompt: what guidance steers away from.
        parts: parts that lie in another pipeline's folder, as ``{vae: pocket:image}``; what is shared is stored once.
        fps: frames per second at which its videos are to be shown; images have none.
        scheduler: class name in diffusers of another scheduler than the pipeline's own.
        scheduler_args: what its configuration changes.
        offload: keep the networks in the computer's memory and move them to the GPU when they run: ``model`` moves
            them whole, ``sequential`` layer by layer, which is slow and takes least.
        compile: compile the denoiser (``torch.compile``).
        loss_size: ``height``, ``width``, ``num_frames`` or ``audio_length_in_s`` of media in the denoising loss, where
            they differ from those of ``sampling``.
        batch: media that are drawn at a time, which bounds memory; by default as many as have 4 million pixels
            together, at most 32.
        gradient_checkpointing: recompute the denoiser's activations in that loss's backward pass, to save memory.
        loss_batch: media that the denoiser sees at a time in that loss; memory grows with it.

    """

    #: optional parts of the pipeline that are never needed
    unused_parts: tuple[str, ...] = ("safety_checker", "feature_extractor", "image_encoder")

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
        loss_size: Arguments | None = None,
        gradient_checkpointing: bool = False,
        batch: int | None = None,
        loss_batch: int = 1,
    ) -> None:
        # mistakes are named before any weights are read
        check_options(batch, loss_batch, dtype, fps)
        self.batch, self.loss_batch, self.fps = batch, loss_batch, fps
        self.gradient_checkpointing = gradient_checkpointing
        self.parts = dict(parts or {})
        self.pipeline_name, self.path, self.dtype_name = pipeline, path, dtype
        self.files = PipelineFiles(pipeline, path, self.parts)
        self.sampling, self.loss_size, self.negative_prompt = (
            dict(sampling or {}),
            dict(loss_size or {}),
            negative_prompt,
        )
        self.check_sampling(self.sampling)
        self._check_loss_size()
        self.set_up = SetUp(scheduler, dict(scheduler_args or {}), offload, compile)
        self.device = torch.device("cpu")
        self._pipeline: Any = None
        self._latents = Memory(MEMORY_BYTES)

    @cached_property
    def captions(self) -> CaptionEncoder:
        """The pipeline's text encoder."""
        return CaptionEncoder(self.files, type(self).__name__)

    def check_sampling(self, sampling: Mapping[str, Any]) -> None:
        """See :meth:`Decoder.check_sampling`; against the signature of the pipeline's call."""
        pipeline_class = self.files.pipeline_class()
        if "prompt_embeds" not in declared(pipeline_class.__call__):
            raise UserError(f"decoder pipeline={self.pipeline_name!r} takes no prompt_embeds")
        known = {**sampling_types(pipeline_class), guidance.KEY: list[float] | None}
        check(sampling, known, "decoder sampling", self.pipeline_name)
        guidance.taken_from(dict(sampling))

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
        """As given; Zeroscope's own is 8."""
        return self.fps

    @property
    def embedding_shape(self) -> tuple[int, ...]:
        """Of the pipeline's text encoder; reads no weights."""
        return self.captions.shape

    @torch.no_grad()
    @own_precision()
    def embed_captions(self, captions: Sequence[str]) -> Tensor:
        """``(N, *embedding_shape)`` float32, outside of autocast. What was embedded lately is remembered."""
        return self.captions.embed(captions, self.cache)

    def remember(self, max_bytes: int) -> None:
        """See :meth:`Decoder.remember`."""
        if self.cache is None:
            self.captions.remember(max_bytes)

    def _loaded(self) -> Any:
        """The diffusion networks, without text encoder and tokenizer: embeddings are given by us."""
        if self._pipeline is None:
            pipeline_class = self.files.pipeline_class()
            dtype = getattr(torch, self.dtype_name)
            with quiet_loading():
                given = self._given_parts(dtype)
                pipeline = pipeline_class.from_pretrained(resolve(self.path), dtype=dtype, **given)
            pipeline.set_progress_bar_config(disable=True)
            self.set_up.apply(pipeline, self.device)
            self._pipeline = pipeline
        return self._pipeline

    def _given_parts(self, dtype: torch.dtype) -> dict[str, Any]:
        """What the pipeline is not to read from its own folder: parts that are never needed, and shared ones."""
        index = self.files.index()
        given: dict[str, Any] = dict.fromkeys(p for p in (*self.captions.parts, *self.unused_parts) if p in index)
        for part in self.parts.keys() - given.keys():
            part_class = self.files.part_class(part)
            given[part] = part_class.from_pretrained(self.files.folder(part), dtype=dtype)
        return given

    @torch.no_grad()
    @own_precision()
    def generate(
        self, embeddings: Tensor, *, seed: int | Sequence[int], negative: Tensor | None = None, **sampling: Any
    ) -> list[np.ndarray]:
        """See :meth:`Decoder.generate`.

        Raises:
            UserError: the embeddings have another shape, a sampling argument is wrong, or the pipeline gave numbers
                that are not finite.

        """
        self.check_sampling(sampling)
        sampling = {**self.sampling, **sampling}
        if tuple(embeddings.shape[1:]) != self.embedding_shape:
            raise UserError(f"embeddings {tuple(embeddings.shape[1:])}, the decoder wants {self.embedding_shape}")
        if negative is None:
            negative = self.embed_captions([self.negative_prompt])[0]
        seeds, step = item_seeds(seed, len(embeddings)), self.batch or self._at_once(sampling)
        parts = [slice(start, start + step) for start in range(0, len(embeddings), step)]
        return [array for part in parts for array in self._drawn(embeddings[part], seeds[part], negative, sampling)]

    def _at_once(self, sampling: Mapping[str, Any]) -> int:
        """Media that are drawn at a time where the YAML gives no number."""
        return at_once(self._pixels_each(sampling))

    def _pixels_each(self, sampling: Mapping[str, Any]) -> int:
        return pixels_of(sampling, moving=self.fps is not None)

    def _drawn(
        self, embeddings: Tensor, seeds: list[int], negative: Tensor, sampling: dict[str, Any]
    ) -> list[np.ndarray]:
        pipeline = self._loaded()
        negative = negative.expand(len(embeddings), *self.embedding_shape)
        dtype = getattr(torch, self.dtype_name)
        sampling = dict(sampling)
        interval = guidance.taken_from(sampling)
        with guidance.limited(pipeline, getattr(pipeline, denoiser_name(pipeline)), len(embeddings), interval):
            output = pipeline(
                **self._conditions(embeddings.to(self.device, dtype), negative.to(self.device, dtype)),
                generator=[torch.Generator().manual_seed(s) for s in seeds],
                output_type="np",
                **sampling,
            )
        return [finite_medium(array, self.path) for array in self._arrays(output)]

    def _conditions(self, embeddings: Tensor, negative: Tensor) -> dict[str, Any]:
        """The pipeline's arguments that the embeddings are."""
        return {"prompt_embeds": embeddings, "negative_prompt_embeds": negative}

    def _arrays(self, output: Any) -> list[np.ndarray]:
        """Pictures ``(..., H, W, 3)`` from 0 to 1, sounds ``(n,)`` from -1 to 1."""
        return [np.asarray(p) for p in (output.images if hasattr(output, "images") else output.frames)]

    @torch.no_grad()
    @own_precision()
    def latents(self, media: Sequence[Media]) -> Tensor:
        """``(N, C, h, w)`` of images, ``(N, C, T, h, w)`` of videos. What was encoded lately is remembered."""
        found = self._latents.fetch(
            [media_name(m) for m in media], lambda at: torch.stack([self._latent(media[i]) for i in at])
        )
        return upload(torch.stack(found), self.device)

    def _latent(self, medium: Media) -> Tensor:
        vae = self._loaded().vae
        pixels = upload(self._pixels(medium), self.device).to(next(vae.parameters()).dtype)
        found = vae.encode(pixels).latent_dist.mode().float() * vae.config.scaling_factor
        return found[0] if medium.modality is not Modality.VIDEO else found.transpose(0, 1)

    def _pixels(self, medium: Media) -> Tensor:
        """What the autoencoder encodes: ``(frames, channels, height, width)``."""
        height, width, frames = self.picture_size()
        return denoising.pictures(medium, height, width, frames)

    def loss_sizes(self) -> dict[str, Any]:
        """Arguments of ``loss_size``, and those of ``sampling`` that it does not give; null gives none."""
        given = [(name, value) for of in (self.sampling, self.loss_size) for name, value in of.items()]
        return {name: value for name, value in given if value is not None}

    def picture_size(self) -> tuple[int, int, int]:
        """Height, width and frames of media in the denoising loss."""
        factor = 2 ** (len(self._config("vae")["block_out_channels"]) - 1)
        side = self._config("unet").get("sample_size", 64) * factor
        size: dict[str, Any] = {"height": side, "width": side, "num_frames": 16, **self.loss_sizes()}
        return int(size["height"]), int(size["width"]), int(size["num_frames"])

    def denoising_loss(
        self, embeddings: Tensor, latents: Tensor, *, gamma: float, generator: torch.Generator
    ) -> Tensor:
        """See :meth:`Decoder.denoising_loss`.

        Raises:
            UserError: the pipeline's denoiser is no UNet.

        """
        pipeline = self._loaded()
        if "unet" not in pipeline.components:
            raise UserError(f"model.denoising_weights: {self.pipeline_name} has no UNet to be trained through")
        return self.loss_through(pipeline.unet, pipeline.scheduler, embeddings, latents, gamma, generator)

    def loss_through(
        self, unet: Any, scheduler: Any, embeddings: Tensor, latents: Tensor, gamma: float, generator: torch.Generator
    ) -> Tensor:
        """The denoising loss through a UNet of this decoder's class, which is frozen and may be without weights."""
        unet.requires_grad_(False)
        if self.gradient_checkpointing and not unet.is_gradient_checkpointing:
            denoising.checkpoint_blocks(unet)
        dtype = next(unet.parameters()).dtype

        def denoise(noisy: Tensor, timesteps: Tensor, embedding: Tensor) -> Tensor:
            return unet(noisy.to(dtype), timesteps, **self.unet_conditions(embedding.to(dtype))).sample

        return denoising.loss(denoise, scheduler, embeddings, latents, gamma, generator, at_once=self.loss_batch)

    def unet_conditions(self, embeddings: Tensor) -> dict[str, Any]:
        """The UNet's arguments that the embeddings are."""
        return {"encoder_hidden_states": embeddings}

    def latent_shape(self, frames: bool) -> tuple[int, ...]:
        """Of one medium in the denoising loss, known without weights; ``frames``: of a video."""
        height, width, count = self.picture_size()
        factor = 2 ** (len(self._config("vae")["block_out_channels"]) - 1)
        channels = int(self._config("unet")["in_channels"])
        return (channels, *((count,) if frames else ()), height // factor, width // factor)

    def to(self, device: torch.device | str) -> DiffusionDecoder:
        """Move what is loaded; the rest goes there when it is read."""
        moved = torch.device(device) != self.device
        self.device = torch.device(device)
        if self._pipeline is not None and moved:
            self._pipeline.remove_all_hooks()
            self.set_up.place(self._pipeline, self.device)
        self.captions.to(self.device)
        return self
