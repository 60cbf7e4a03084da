"""Decoders that a denoising loss can be computed through: autoencoder and denoiser of a pipeline."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from nextgpt_pl.decoders import denoising
from nextgpt_pl.decoders.autoencoders import Compression, compression, encoded
from nextgpt_pl.decoders.base import Decoder
from nextgpt_pl.decoders.captions import MEMORY_BYTES
from nextgpt_pl.decoders.denoisers import Arrangement, Denoiser, arrangement_of
from nextgpt_pl.decoders.files import PipelineFiles
from nextgpt_pl.errors import UserError
from nextgpt_pl.features import Memory, Preparation
from nextgpt_pl.features.keys import media_name
from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import Media
from nextgpt_pl.utils.precision import own_precision
from nextgpt_pl.utils.transfer import upload


class DenoisedDecoder(Decoder):
    """Denoising loss of a pipeline; see :class:`~nextgpt_pl.decoders.diffusion.DiffusionDecoder` for the attributes."""

    files: PipelineFiles
    sampling: dict[str, Any]
    loss_size: dict[str, Any]
    gradient_checkpointing: bool
    loss_batch: int
    device: torch.device

    def __init__(self) -> None:
        self._latents = Memory(MEMORY_BYTES)

    @abstractmethod
    def _loaded(self) -> Any:
        """The diffusion networks, without text encoder and tokenizer."""

    @cached_property
    def arrangement(self) -> Arrangement:
        """How the pipeline calls its denoiser.

        Raises:
            UserError: the denoising loss does not support the pipeline.

        """
        return arrangement_of(self.files.pipeline, self.files.index())

    @cached_property
    def compression(self) -> Compression:
        """How the pipeline's autoencoder reduces pictures."""
        return compression(self.files.config("vae"))

    @torch.no_grad()
    @own_precision()
    def latents(self, media: Sequence[Media], inputs: Sequence[Tensor | None] = ()) -> Tensor:
        """Latents of media, which are cached in memory.

        ``(N, C, h, w)`` of images, ``(N, C, T, h, w)`` of videos, ``(N, C, samples)`` of waveforms.

        Raises:
            UserError: latents are not finite.

        """
        inputs = inputs or [None] * len(media)

        def compute(missing: list[int]) -> Tensor:
            latents = torch.stack([self._latent(media[i], inputs[i]) for i in missing])
            if not latents.isfinite().all():
                advice = "its autoencoder may need another dtype, such as float32 or bfloat16"
                raise UserError(f"decoder path={self.files.path!r}: latents of media are not finite; {advice}")
            return latents

        return upload(torch.stack(self._latents.fetch([media_name(m) for m in media], compute)), self.device)

    @cached_property
    def _prepare(self) -> Callable[[Media], Tensor]:
        return self.preparation().prepare

    def _latent(self, medium: Media, pixels: Tensor | None) -> Tensor:
        """Latents of one medium; ``pixels`` is the output of :meth:`preparation`, unless the medium is not read yet."""
        vae, pixels = self._loaded().vae, self._prepare(medium) if pixels is None else pixels
        pixels = denoising.scaled(upload(pixels, self.device)).to(vae.dtype)
        if self.compression.moving:
            return encoded(vae, pixels.transpose(0, 1).unsqueeze(0))[0]
        latent = encoded(vae, pixels)
        return latent[0] if medium.modality is not Modality.VIDEO else latent.transpose(0, 1)

    def preparation(self) -> Preparation:
        """See :meth:`Decoder.preparation`; ``(frames, channels, height, width)``, of pictures uint8."""
        assert self.arrangement
        height, width, frames = self.picture_size()
        return Preparation(partial(denoising.pictures, height=height, width=width, frames=frames), self._latents)

    def loss_sizes(self) -> dict[str, Any]:
        """Arguments of ``loss_size``, with ``sampling`` as default; null values are dropped."""
        entries = [(name, value) for options in (self.sampling, self.loss_size) for name, value in options.items()]
        return {name: value for name, value in entries if value is not None}

    def call_options(self) -> dict[str, Any]:
        """Arguments of the pipeline's call in the denoising loss: :meth:`loss_sizes`, and defaults of the call."""
        parameters = inspect.signature(self.files.pipeline_class().__call__).parameters
        defaults = {name: p.default for name, p in parameters.items() if p.default not in (None, p.empty)}
        return {**defaults, **self.loss_sizes()}

    def picture_size(self) -> tuple[int, int, int]:
        """Height, width and frames of media in the denoising loss.

        Raises:
            UserError: height or width is not a multiple of what one token covers.

        """
        config, side = self.files.config(self.arrangement.part), self.compression.side
        sample = config.get("sample_size") or self.arrangement.side
        rows, columns = (sample, sample) if isinstance(sample, int) else sample[-2:]
        rows, columns = (config.get(name) or x for name, x in (("sample_height", rows), ("sample_width", columns)))
        size = {"height": rows * side, "width": columns * side, "num_frames": 16, **self.call_options()}
        multiple = side * self.arrangement.token_side(config)
        for name in ("height", "width"):
            if size[name] % multiple:
                wanted = f"{self.files.pipeline} needs a multiple of {multiple} pixels"
                raise UserError(f"decoder loss_size.{name}={size[name]}: {wanted}")
        frames = self.compression.whole(int(size["num_frames"]), config.get("patch_size_t") or 1)
        return int(size["height"]), int(size["width"]), frames

    def denoiser_options(self) -> dict[str, Any]:
        """What the denoiser's arguments depend on, beside latents and text."""
        height, width, _ = self.picture_size()
        sizes = {"height": height, "width": width, "pixels_per_latent": self.compression.side}
        sizes |= {"frames_per_latent": self.compression.frames}
        tokenwise = self.files.json("model_index.json").get("expand_timesteps", False)
        return {**self.call_options(), **sizes, "expand_timesteps": tokenwise}

    def text_conditions(self, embeddings: Tensor) -> Mapping[str, Tensor]:
        """Convert embeddings to the text arguments of the pipeline's call."""
        return {"prompt_embeds": embeddings}

    def denoiser(self, *, weights: bool = True) -> Denoiser:
        """The frozen denoiser; without weights it is on the meta device, and no file of weights is read.

        Raises:
            UserError: the denoising loss does not support the pipeline.

        """
        return self._denoiser if weights else self._assembled(self.files.empty_part)

    @cached_property
    def _denoiser(self) -> Denoiser:
        return self._assembled(partial(getattr, self._loaded()))

    def _assembled(self, find: Callable[[str], Any]) -> Denoiser:
        parts = {part: find(part) for part in self.arrangement.parts}
        return Denoiser(self.arrangement, parts, self.text_conditions, self.denoiser_options()).requires_grad_(False)

    def denoising_loss(
        self, embeddings: Tensor, latents: Tensor, *, gamma: float, generator: torch.Generator
    ) -> Tensor:
        """See :meth:`Decoder.denoising_loss`.

        Raises:
            UserError: the denoising loss does not support the pipeline.

        """
        return self.loss_through(self.denoiser(), self._loaded().scheduler, embeddings, latents, gamma, generator)

    def loss_through(
        self,
        denoiser: Denoiser,
        scheduler: Any,
        embeddings: Tensor,
        latents: Tensor,
        gamma: float,
        generator: torch.Generator,
    ) -> Tensor:
        """The denoising loss through a denoiser of this decoder's class, which may be on the meta device.

        Raises:
            UserError: the denoiser's class does not support gradient checkpointing, or the scheduler is not supported.

        """
        if self.gradient_checkpointing and not denoiser.network.is_gradient_checkpointing:
            denoising.checkpoint_blocks(denoiser.network)
        tokens = denoiser.tokens(latents.shape)
        return denoising.loss(denoiser, scheduler, embeddings, latents, gamma, generator, self.loss_batch, tokens)

    def latent_shape(self, frames: bool) -> tuple[int, ...]:
        """Shape of the latents of one medium in the denoising loss; ``frames``: of a video. Reads no weights."""
        height, width, count = self.picture_size()
        reduced = self.compression
        channels = int(self.files.config(self.arrangement.part)["in_channels"]) // self.arrangement.channels
        shown = (reduced.latent_frames(count if frames else 1),) if frames or reduced.moving else ()
        return (channels, *shown, height // reduced.side, width // reduced.side)
