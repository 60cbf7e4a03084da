"""Outputs of ``encode_prompt`` from conditions, for pipelines whose call takes none, or needs its text encoders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def audioldm_2(
    values: Mapping[str, Tensor], _prompt: Any, _device: Any, _count: Any, guided: bool, *_others: Any, **_more: Any
) -> tuple[Tensor, ...]:
    """States of T5, their mask and generated states; of guidance, both halves, of equal length."""
    names = ("prompt_embeds", "attention_mask", "generated_prompt_embeds")
    positive = [values[name] for name in names]
    if not guided:
        return tuple(positive)
    pairs = zip([values[f"negative_{name}"] for name in names], positive, strict=True)
    return tuple(
        torch.cat([_filled(own, max(own.shape[1], other.shape[1])) for own, other in ((n, p), (p, n))])
        for n, p in pairs
    )


def _filled(value: Tensor, length: int) -> Tensor:
    """``(N, L, ...)`` filled with zeros to ``(N, length, ...)``."""
    return F.pad(value, (*[0, 0] * (value.ndim - 2), 0, length - value.shape[1]))


def ace_step(values: Mapping[str, Tensor], *_: Any, **__: Any) -> tuple[Tensor, ...]:
    """States and mask of the caption, and of the lyrics."""
    kinds = ("text_hidden_states", "text_attention_mask", "lyric_hidden_states", "lyric_attention_mask")
    return tuple(values[name].bool() if "mask" in name else values[name] for name in kinds)
