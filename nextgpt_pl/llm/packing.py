"""Packing: the rows of a batch joined into fewer rows without padding, for one pass of the LLM.

Attention stays within each original row, by position ids and a block-diagonal mask. With sliding windows, transformers
makes the masks of all kinds of layers from the position ids.
Shapes: B rows of T tokens, packed into R rows of W tokens; H LLM width.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nextgpt_pl.errors import UserError
from nextgpt_pl.utils.transfer import upload

# they keep packed rows apart by position ids, if these are in one row and there is no mask
_BY_POSITION = ("flash_attention_2", "flash_attention_3", "flex_attention")
_FULL, _SLIDING = "full_attention", "sliding_attention"
_SHORTEST = 128


def check_packing(model: Any, path: str) -> None:
    """Check that a model can keep packed rows apart.

    Raises:
        UserError: it has layers other than attention, or does not accept position ids; the message names ``path``.

    """
    name = type(model).__name__
    others = _layer_types(model.config) - {_FULL, _SLIDING}
    if others or getattr(model, "_is_stateful", False):
        kinds = f" ({', '.join(sorted(others))})" if others else ""
        raise UserError(
            f"llm.packing=true: {name} of llm.path={path!r} has layers{kinds} that would mix packed rows;"
            " set llm.packing=false, and llm.length_groups for less padding"
        )
    if "position_ids" not in inspect.signature(model.forward).parameters:
        raise UserError(
            f"llm.packing=true: {name} of llm.path={path!r} does not accept position ids; set llm.packing=false"
        )


def _layer_types(config: Any) -> set[str]:
    """The kinds of a model's layers."""
    types = getattr(config, "layer_types", None)
    if types:
        return set(types)
    return {_FULL if getattr(config, "sliding_window", None) is None else _SLIDING}


def first_fit_decreasing(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Bins of item numbers whose lengths sum to at most ``capacity``, or of one longer item."""
    bins: list[list[int]] = []
    room: list[int] = []
    for item in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        fitting = next((number for number, free in enumerate(room) if free >= lengths[item]), None)
        if fitting is None:
            bins.append([])
            room.append(capacity)
            fitting = len(bins) - 1
        bins[fitting].append(item)
        room[fitting] -= lengths[item]
    return bins


def smallest_bins(lengths: Sequence[int]) -> list[list[int]]:
    """Bins of about the longest length, or of a few more tokens, whichever leaves less padding."""
    longest, everything = max(lengths), sum(lengths)
    several = max(longest, _SHORTEST)  # several captions fit into a row
    equal = -(-everything // -(-everything // several))  # rows of equal size
    found = [first_fit_decreasing(lengths, size) for size in {longest, several, max(longest, equal)}]
    return min(found, key=lambda bins: (_area(bins, lengths), len(bins)))


def _area(bins: Sequence[Sequence[int]], lengths: Sequence[int]) -> int:
    """Tokens of the packed rows, with padding."""
    return len(bins) * max(sum(lengths[item] for item in items) for items in bins)


def packed_pass(base: Any, embeddings: Tensor, lengths: Sequence[int]) -> Tensor:
    """Hidden states ``(B, T, H)`` after the final norm; undefined at padding.

    Args:
        base: transformer of a model of the transformers library, without its head.
        embeddings: ``(B, T, H)``, padded on the right.
        lengths: number of tokens of each row without padding.

    """
    count, total, _ = embeddings.shape
    implementation = base.config._attn_implementation
    by_position = implementation in _BY_POSITION
    bins = first_fit_decreasing(lengths, sum(lengths)) if by_position else smallest_bins(lengths)
    if _area(bins, lengths) >= count * max(lengths):
        return base(inputs_embeds=embeddings, use_cache=False).last_hidden_state
    layout = _Layout(bins, lengths, total)
    device = embeddings.device
    inputs: dict[str, Tensor] = {"position_ids": upload(layout.positions, device)}
    if not by_position and _layer_types(base.config) == {_FULL}:
        inputs["attention_mask"] = _block_mask(upload(layout.segments, device), implementation, embeddings.dtype)
    packed = embeddings.flatten(0, 1)[upload(layout.sources, device)]
    states = base(inputs_embeds=packed, use_cache=False, **inputs).last_hidden_state
    return states.flatten(0, 1)[upload(layout.targets, device)]


class _Layout:
    """Where each token of a batch is in the packed rows.

    Attributes:
        sources: ``(R, W)`` flat index of each packed token in the batch; 0 at padding.
        segments: ``(R, W)`` number of the original row; -1 at padding.
        positions: ``(R, W)`` position in the original row; 0 at padding.
        targets: ``(B, T)`` flat index of each token in the packed rows; 0 at padding.

    """

    def __init__(self, bins: Sequence[Sequence[int]], lengths: Sequence[int], total: int) -> None:
        width = max(sum(lengths[item] for item in items) for items in bins)
        self.sources = torch.zeros(len(bins), width, dtype=torch.long)
        self.segments = torch.full_like(self.sources, -1)
        self.positions = torch.zeros_like(self.sources)
        self.targets = torch.zeros(len(lengths), total, dtype=torch.long)
        for row, items in enumerate(bins):
            start = 0
            for item in items:
                place, steps = slice(start, start + lengths[item]), torch.arange(lengths[item])
                self.sources[row, place] = item * total + steps
                self.segments[row, place] = item
                self.positions[row, place] = steps
                self.targets[item, : lengths[item]] = row * width + start + steps
                start = place.stop


def _block_mask(segments: Tensor, implementation: str, dtype: torch.dtype) -> Tensor:
    """``(R, 1, W, W)``: a token attends to itself and to earlier ones of its segment; padding to padding."""
    width = segments.shape[1]
    same = segments.unsqueeze(2) == segments.unsqueeze(1)
    causal = torch.ones(width, width, dtype=torch.bool, device=segments.device).tril()
    allowed = (same & causal).unsqueeze(1)
    if implementation == "sdpa":
        return allowed
    return torch.zeros_like(allowed, dtype=dtype).masked_fill(~allowed, torch.finfo(dtype).min)
