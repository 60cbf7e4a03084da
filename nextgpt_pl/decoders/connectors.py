"""LTX-2: its embedding is what the connectors make of all layers of its text encoder, for video and for sound.

All layers of Gemma 3 are 188,160 numbers per token, and the connectors' states 7,680.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nextgpt_pl.decoders.layout import Block
from nextgpt_pl.decoders.sizes import Sizes
from nextgpt_pl.errors import UserError

_KINDS = ("video", "audio")


def blocks(sizes: Sizes) -> tuple[Block, ...]:
    """States for video and sound side by side, and their mask.

    Raises:
        UserError: the number of tokens is not a multiple of that of the connectors' registers.

    """
    config = sizes.config("connectors")
    for registers in (config[f"{kind}_connector_num_learnable_registers"] for kind in _KINDS):
        if registers and sizes.length % registers:
            raise UserError(f"decoder max_length={sizes.length}: LTX-2 needs a multiple of {registers}")
    return (Block("prompt_embeds", sizes.length, sum(_widths(config)), "prompt_attention_mask"),)


def encoded(pipeline: Any, outputs: Sequence[Any]) -> list[Any]:
    """Outputs of ``encode_prompt``, states and masks in turn, behind the connectors."""
    found: list[Any] = []
    for states, mask in zip(outputs[::2], outputs[1::2], strict=True):
        if states is not None:
            video, sound, kept = pipeline.connectors(states, mask, padding_side=pipeline.tokenizer.padding_side)
            found += [torch.cat([video, sound], dim=-1), kept]
    return found


class GivenStates:
    """Takes the place of the connectors of a pipeline that is given their states.

    Args:
        sizes: sizes of the pipeline's parts.

    """

    def __init__(self, sizes: Sizes) -> None:
        self.widths = _widths(sizes.config("connectors"))

    def __call__(self, states: Tensor, mask: Tensor, **_: Any) -> tuple[Tensor, Tensor, Tensor]:
        """States for video and for sound ``(N, L, D)``, and the mask ``(N, L)``."""
        video, sound = states.split(self.widths, dim=-1)
        return video.contiguous(), sound.contiguous(), mask


def _widths(config: dict[str, Any]) -> list[int]:
    names = [(f"{kind}_connector_num_attention_heads", f"{kind}_connector_attention_head_dim") for kind in _KINDS]
    return [int(config[heads]) * int(config[width]) for heads, width in names]
