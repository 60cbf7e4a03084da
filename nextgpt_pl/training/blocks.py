"""The units of sharding: decoder layers of the LLM and blocks of the encoder, which hold most weights."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from nextgpt_pl.model import NextGPT


@dataclass(frozen=True)
class Block:
    """One unit.

    Attributes:
        module: the block.
        recompute: whether its activations are recomputed in the backward pass.
        own_dtype: whether it always computes in the dtype of its weights, as parts with cached features do.

    """

    module: nn.Module
    recompute: bool
    own_dtype: bool


def blocks_of(network: NextGPT) -> list[Block]:
    """The blocks of LLM and encoder, in order."""
    recompute = network.llm.gradient_checkpointing
    blocks = [Block(block, recompute, own_dtype=False) for block in network.llm.blocks()]
    encoder = network.encoder.blocks() if network.encoder is not None else []
    return blocks + [Block(block, recompute=False, own_dtype=True) for block in encoder]
