"""Text conditioning of a pipeline as one matrix: hidden states, optional mask, optional pooled vector.

An output projection predicts one matrix. The layout packs all inputs of a pipeline into it: the mask as an additional
column, the pooled vector as an additional row. Packing is lossless.

Shapes: N captions, L tokens, D width, P width of the pooled vector.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nextgpt_pl.errors import UserError

_MASKS = ("prompt_attention_mask", "attention_mask")
_POOLED = "pooled_prompt_embeds"


@dataclass(frozen=True)
class TextLayout:
    """Layout of one pipeline's text conditioning.

    Attributes:
        length: L.
        width: D.
        mask: name of the call's argument for the mask, if it has one.
        pooled: P; 0 for pipelines without a pooled vector.

    """

    length: int
    width: int
    mask: str | None = None
    pooled: int = 0

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of one packed embedding."""
        return self.length + bool(self.pooled), max(self.width, self.pooled) + bool(self.mask)

    def pack(self, states: Tensor, mask: Tensor | None = None, pooled: Tensor | None = None) -> Tensor:
        """States ``(N, L, D)``, mask ``(N, L)`` and pooled ``(N, P)`` to ``(N, *shape)`` float32."""
        width = max(self.width, self.pooled)
        packed = F.pad(states.float(), (0, width - states.shape[-1]))
        if self.pooled:
            assert pooled is not None
            packed = torch.cat([packed, F.pad(pooled.float(), (0, width - self.pooled)).unsqueeze(1)], dim=1)
        if self.mask:
            assert mask is not None
            column = F.pad(mask.float(), (0, int(bool(self.pooled))))
            # masked states have no effect, so they are set to zero
            packed = torch.cat([packed * _kept(column, self.length).unsqueeze(-1), column.unsqueeze(-1)], dim=-1)
        return packed

    def unpack(self, packed: Tensor, prefix: str = "") -> dict[str, Tensor]:
        """The call's arguments, named with ``prefix`` (``negative_``), from ``(N, *shape)``."""
        conditions = {f"{prefix}prompt_embeds": packed[:, : self.length, : self.width]}
        if self.mask:
            mask = packed[:, : self.length, -1] > 0.5
            mask[:, 0] = True  # attention needs at least one token
            conditions[f"{prefix}{self.mask}"] = mask.long()
        if self.pooled:
            conditions[f"{prefix}{_POOLED}"] = packed[:, self.length, : self.pooled]
        return conditions

    def from_outputs(self, outputs: Any, count: int) -> Tensor:
        """Pack the outputs of a pipeline's ``encode_prompt``, in any order; they are identified by their shapes."""
        tensors = [t for t in (outputs if isinstance(outputs, tuple) else (outputs,)) if isinstance(t, Tensor)]
        states = next(t for t in tensors if t.shape == (count, self.length, self.width))
        masks = [t for t in tensors if t.shape == (count, self.length) and not t.is_floating_point()]
        pooled = [t for t in tensors if t.shape == (count, self.pooled) and t.is_floating_point()]
        return self.pack(states, masks[0] if masks else None, pooled[0] if pooled else None)


def _kept(column: Tensor, length: int) -> Tensor:
    """1 at unmasked tokens, and at the pooled row."""
    kept = column.clone()
    kept[:, length:] = 1
    return kept


def read_layout(
    pipeline_class: Any, encoders: Mapping[str, Mapping[str, Any]], tokenizer: Mapping[str, Any], length: int | None
) -> TextLayout:
    """The layout of a pipeline, from its signature and its text encoders' configurations.

    Args:
        pipeline_class: pipeline class of diffusers.
        encoders: configurations of its text encoders, in order.
        tokenizer: configuration of its tokenizer.
        length: L; ``None``: the pipeline's default.

    Raises:
        UserError: the pipeline does not take embeddings.

    """
    call = inspect.signature(pipeline_class.__call__).parameters
    if "prompt_embeds" not in call:
        raise UserError(f"decoder pipeline={pipeline_class.__name__!r} takes no prompt_embeds")
    states = [int(c["d_model"]) for c in encoders.values() if "d_model" in c]
    clips = [c for c in encoders.values() if "d_model" not in c]
    if length is None:
        default = call["max_sequence_length"].default if "max_sequence_length" in call else None
        length = default if isinstance(default, int) else int(tokenizer["model_max_length"])
    width = states[0] if states else sum(int(c["hidden_size"]) for c in clips)
    pooled = 0
    if _POOLED in call and clips:
        # with T5 it is CLIP's pooled state; with two CLIPs it is the projection of the last one
        pooled = int(clips[-1]["hidden_size" if states else "projection_dim"])
    return TextLayout(length, width, next((m for m in _MASKS if m in call), None), pooled)
