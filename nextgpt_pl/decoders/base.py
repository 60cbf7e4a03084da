"""Interface of frozen decoders.

Decoders are not modules, so their weights are not in state dicts, optimizers or sharding.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nextgpt_pl.decoders.captions import CaptionEncoder
from nextgpt_pl.errors import UserError
from nextgpt_pl.features import Preparation
from nextgpt_pl.samples import Media, Origin


@dataclass(frozen=True)
class DrawingStep:
    """A finished denoising step.

    Attributes:
        number: number of finished steps.
        of: number of all steps.
        preview: decodes small media from the present latents, as the arrays of :class:`samples.Media`; none if the
            decoder has no previews.

    """

    number: int
    of: int
    preview: Callable[[], list[np.ndarray]]


OnStep = Callable[[DrawingStep], None]


@dataclass(frozen=True)
class Made:
    """A medium of a decoder.

    Attributes:
        array: as in :class:`samples.Media`.
        origin: see :class:`samples.ReplyPart`.

    """

    array: np.ndarray
    origin: Origin | None = None


class Decoder(ABC):
    """Embeds captions with a frozen text encoder, and generates media from caption embeddings."""

    #: whether :meth:`generate` works
    can_generate = True
    #: whether it is told the words that the LLM writes, by :meth:`generate_from_words`; else a caption embedding
    takes_words = False
    #: maximum number of tokens of these words
    max_tokens = 0

    @property
    def captions(self) -> CaptionEncoder | None:
        """The text encoder, whose embeddings can be kept in a feature cache; ``None``: they are computed each time."""
        return None

    @property
    def rate(self) -> float | None:
        """Frames per second of its videos, sample rate of its sounds; images have none."""
        return None

    @property
    @abstractmethod
    def embedding_shape(self) -> tuple[int, ...]:
        """Shape of one caption embedding, ``(L, D)`` or ``(D,)``; known without reading weights."""

    @property
    def projection_shape(self) -> tuple[int, int]:
        """L and D of the output projection; a pooled embedding has one token."""
        shape = self.embedding_shape
        return (1, shape[0]) if len(shape) == 1 else (shape[0], shape[1])

    @abstractmethod
    def embed_captions(self, captions: Sequence[str]) -> Tensor:
        """Caption embeddings ``(N, *embedding_shape)`` float32; the training targets."""

    def generate(
        self,
        embeddings: Tensor,
        *,
        seed: int | Sequence[int],
        negative: Tensor | None = None,
        on_step: OnStep | None = None,
        **sampling: Any,
    ) -> list[np.ndarray]:
        """Media from caption embeddings ``(N, *embedding_shape)``, as the arrays of :class:`samples.Media`.

        Args:
            embeddings: from :meth:`embed_captions` or from an output projection.
            negative: negative embedding of guidance, ``embedding_shape``; by default that of the negative prompt.
            seed: seed of the initial noise: one per item, or a number to which item i adds i. An item's noise does not
                depend on the batch.
            on_step: called after each denoising step; an exception that it raises ends the generation. Decoders without
                steps ignore it.
            sampling: overrides of the YAML's sampling arguments (``guidance_scale``, ``num_inference_steps``, ...).

        Raises:
            UserError: this decoder does not generate from caption embeddings.

        """
        reason = "takes words" if self.takes_words else "cannot generate"
        raise UserError(f"{type(self).__name__} {reason}: no media from caption embeddings {tuple(embeddings.shape)}")

    def make(
        self,
        embeddings: Tensor,
        *,
        seed: int | Sequence[int],
        negative: Tensor | None = None,
        on_step: OnStep | None = None,
        **sampling: Any,
    ) -> list[Made]:
        """The media of :meth:`generate`, with their origins; the arguments are the same."""
        arrays = self.generate(embeddings, seed=seed, negative=negative, on_step=on_step, **sampling)
        return [Made(array) for array in arrays]

    def generate_from_words(
        self, words: Sequence[str], *, seed: int | Sequence[int], on_step: OnStep | None = None, **sampling: Any
    ) -> list[np.ndarray]:
        """Media from words, as the arrays of :class:`samples.Media`; for decoders that take words.

        Args:
            words: of each medium.
            seed: seed of the random numbers: one per item, or a number to which item i adds i. An item does not depend
                on the batch.
            on_step: called between items; an exception that it raises ends the generation.
            sampling: overrides of the YAML's sampling arguments.

        Raises:
            UserError: this decoder takes caption embeddings.

        """
        raise UserError(f"{type(self).__name__} takes caption embeddings, not words such as {words[0]!r:.60}")

    def check_sampling(self, sampling: Mapping[str, Any]) -> None:
        """Check sampling arguments of :meth:`generate`; loads nothing.

        Raises:
            UserError: a name is unknown, or a value is of another type or out of bounds.

        """
        if sampling:
            raise UserError(f"sampling.{next(iter(sampling))}: {type(self).__name__} takes no sampling arguments")

    def preparation(self) -> Preparation:
        """How data-loader workers read media for :meth:`latents`; reads no weights.

        Raises:
            UserError: this decoder does not support the denoising loss.

        """
        raise UserError(f"model.denoising_weights: {type(self).__name__} has no network to be trained through")

    def latents(self, media: Sequence[Media], inputs: Sequence[Tensor | None] = ()) -> Tensor:
        """Media as the diffusion network sees them, ``(N, C, ...)`` float32; for :meth:`denoising_loss`.

        Args:
            media: N media.
            inputs: of each medium the output of :meth:`preparation`, or ``None`` if it is not read yet; empty: of none.

        Raises:
            UserError: this decoder does not support the denoising loss.

        """
        raise UserError(f"model.denoising_weights: {type(self).__name__} has no network to be trained through")

    def denoising_loss(
        self, embeddings: Tensor, latents: Tensor, *, gamma: float, generator: torch.Generator
    ) -> Tensor:
        """Denoising loss of ``latents`` under ``embeddings (N, *embedding_shape)``, a scalar.

        Args:
            embeddings: gradients flow into them.
            latents: result of :meth:`latents`.
            gamma: upper bound of the min-SNR weights.
            generator: CPU generator of timesteps and noise.

        """
        raise UserError(f"model.denoising_weights: {type(self).__name__} has no network to be trained through")

    def parameter_counts(self) -> dict[str, int]:
        """Parameters per network that it consists of, all frozen; known without reading weights."""
        return {}

    def to(self, device: torch.device | str) -> Decoder:
        """Move loaded weights; those read later go there too."""
        return self


def constant(array: np.ndarray) -> bool:
    """Whether all values of a medium are equal (a black picture, silence)."""
    return array.size == 0 or bool(array.max() == array.min())


def item_seeds(seed: int | Sequence[int], count: int) -> list[int]:
    """One seed per item, as :meth:`Decoder.generate` takes them."""
    if isinstance(seed, int):
        return list(range(seed, seed + count))
    if len(seed) != count:
        raise ValueError(f"{len(seed)} seeds for {count} items")
    return list(seed)


class PrecomputedEmbeddings(Decoder):
    """A decoder with caption embeddings in files only: it can be trained with, but cannot generate.

    Args:
        shape: shape of the embeddings, such as ``[77, 1024]`` or ``[512]``.

    """

    can_generate = False

    def __init__(self, shape: list[int]) -> None:
        if not shape or len(shape) > 2 or min(shape) < 1:
            raise UserError(f"shape={shape}: give [tokens, width], or [width] for a pooled embedding")
        self.shape = tuple(shape)

    @property
    def embedding_shape(self) -> tuple[int, ...]:
        """The configured shape."""
        return self.shape

    def embed_captions(self, captions: Sequence[str]) -> Tensor:
        """Not supported: there is no text encoder.

        Raises:
            UserError: always, naming the caption.

        """
        raise UserError(f"the caption {captions[0]!r} has no embedding file, and this decoder has no text encoder")
