"""How pipelines call their denoisers: the arrangement of latents and the arguments beside them.

Each pipeline that the denoising loss supports has an :class:`Arrangement` in :data:`ARRANGEMENTS`. Shapes: n media, C
channels of T frames of h x w latents.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nextgpt_pl.decoders import denoiser_arguments as arguments
from nextgpt_pl.decoders.denoiser_arguments import Call
from nextgpt_pl.errors import UserError


@dataclass(frozen=True)
class Arrangement:
    """How pipelines call their denoiser: how latents are arranged, and which arguments stand beside them.

    Attributes:
        arguments: the keyword arguments of the denoiser's call.
        part: the pipeline's part that is the denoiser.
        square: side of the squares of latents that become one token; 0 if the denoiser takes unpacked latents.
        frames_first: the denoiser takes ``(n, T, C, h, w)``.
        channels: channels of the denoiser's input per channel of the latents.
        side: height and width of latents, if neither the YAML nor the denoiser's configuration has a size.
        others: other parts through which the embedding reaches the denoiser.

    """

    arguments: Callable[[Call], dict[str, Any]]
    part: str = "transformer"
    square: int = 0
    frames_first: bool = False
    channels: int = 1
    side: int = 64
    others: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[str, ...]:
        """The pipeline's parts that the loss runs through."""
        return (self.part, *self.others)

    def token_side(self, config: Mapping[str, Any]) -> int:
        """Latents per token, along height and width."""
        patch = config.get("patch_size") or 1
        return max(self.square, 1) * int(patch if isinstance(patch, int) else patch[-1])

    def packed(self, latents: Tensor) -> Tensor:
        """The denoiser's input of latents ``(n, C, ...)``."""
        if self.frames_first:
            return latents.transpose(1, 2)
        if not self.square:
            return latents
        grid = latents.unflatten(-1, (-1, self.square)).unflatten(-3, (-1, self.square))
        # (n, C, [T,] rows, square, columns, square) to (n, tokens, C * square * square)
        return grid.movedim(1, -1).movedim(-4, -1).movedim(-3, -1).flatten(1, -4).flatten(2)

    def unpacked(self, output: Tensor, shape: torch.Size) -> Tensor:
        """The inverse of :meth:`packed`; ``shape`` is that of the latents."""
        if self.frames_first:
            return output.transpose(1, 2)
        if not self.square:
            return output
        n, channels, *frames, rows, columns = shape
        grid = output.view(n, *frames, rows // self.square, columns // self.square, channels, self.square, self.square)
        return grid.movedim(-3, 1).movedim(-2, -3).flatten(-2).flatten(-3, -2)


_UNET = Arrangement(arguments.unet, part="unet")
_PIXART = Arrangement(arguments.pixart)

#: by class name of the pipeline
ARRANGEMENTS: dict[str, Arrangement] = {
    "StableDiffusionPipeline": _UNET,
    "TextToVideoSDPipeline": _UNET,
    "AudioLDMPipeline": Arrangement(arguments.audioldm, part="unet"),
    "StableDiffusionXLPipeline": Arrangement(arguments.unet_xl, part="unet", side=128),
    "PixArtAlphaPipeline": _PIXART,
    "PixArtSigmaPipeline": _PIXART,
    "StableDiffusion3Pipeline": Arrangement(arguments.stable_diffusion_3, side=128),
    "FluxPipeline": Arrangement(arguments.flux, square=2, channels=4, side=128),
    "ChromaPipeline": Arrangement(arguments.chroma, square=2, channels=4, side=128),
    "AuraFlowPipeline": Arrangement(arguments.aura_flow),
    "SanaPipeline": Arrangement(arguments.sana),
    "CogVideoXPipeline": Arrangement(arguments.cogvideox, frames_first=True),
    "LTXPipeline": Arrangement(arguments.ltx, square=1),
    "WanPipeline": Arrangement(arguments.wan),
    "StableAudioPipeline": Arrangement(arguments.stable_audio, others=("projection_model",)),
}


def arrangement_of(pipeline: str, parts: Collection[str]) -> Arrangement:
    """The arrangement of a pipeline.

    Args:
        pipeline: class name in diffusers.
        parts: names of its parts.

    Raises:
        UserError: the denoising loss does not support the pipeline.

    """
    if pipeline not in ARRANGEMENTS:
        known = ", ".join(sorted(ARRANGEMENTS))
        raise UserError(f"model.denoising_weights: {pipeline} is not supported; pipelines that are: {known}")
    if "transformer_2" in parts:
        raise UserError(f"model.denoising_weights: {pipeline} with two denoisers (transformer_2) is not supported")
    return ARRANGEMENTS[pipeline]


class Denoiser(nn.Module):
    """A frozen denoiser that is called as its pipeline calls it.

    Args:
        described: the pipeline's arrangement.
        parts: the networks of ``described.parts``; they may be on the meta device.
        text: maps embeddings ``(n, *embedding_shape)`` to the text arguments of the pipeline's call.
        options: sizes and arguments of the pipeline's call.

    """

    def __init__(
        self,
        described: Arrangement,
        parts: Mapping[str, nn.Module],
        text: Callable[[Tensor], Mapping[str, Tensor]],
        options: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.described, self.text, self.options = described, text, options
        self.parts = nn.ModuleDict(parts)

    @property
    def network(self) -> Any:
        """The transformer or UNet."""
        return self.parts[self.described.part]

    def tokens(self, shape: torch.Size) -> int:
        """Number of tokens of one medium whose latents are ``(n, C, ...)``."""
        return math.prod(shape[2:]) // self.described.token_side(self.network.config) ** 2

    def forward(self, noisy: Tensor, timesteps: Tensor, embeddings: Tensor) -> Tensor:
        """The prediction ``(n, C', ...)`` for noisy latents ``(n, C, ...)``, timesteps ``(n,)`` and embeddings."""
        dtype = self.network.dtype  # some parameters may be float32 in any case
        shape, noisy = noisy.shape, self.described.packed(noisy.to(dtype))
        call = Call(noisy, timesteps, self.text(embeddings.to(dtype)), shape, self.parts, self.network, self.options)
        output = self.network(**self.described.arguments(call), return_dict=False)[0]
        return self.described.unpacked(output, shape)
