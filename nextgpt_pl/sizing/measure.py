"""Measurement of operations and memory on the meta device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nextgpt_pl.sizing.live_bytes import LiveBytes

_ATTENTION = "nextgpt_pl_meta"


@dataclass(frozen=True)
class Cost:
    """Operations and memory of one part of a step.

    Attributes:
        forward: floating-point operations of the forward pass.
        backward: those of the backward pass.
        kept: bytes that are saved for the backward pass.
        passing: peak of the temporary bytes that are freed before the next part runs.

    """

    forward: int = 0
    backward: int = 0
    kept: int = 0
    passing: int = 0

    @property
    def flops(self) -> int:
        """Operations of both passes."""
        return self.forward + self.backward

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.forward + other.forward,
            self.backward + other.backward,
            self.kept + other.kept,
            max(self.passing, other.passing),
        )

    def times(self, factor: float) -> Cost:
        """The cost of ``factor`` such parts, run one after the other."""
        forward, backward, kept = (int(value * factor) for value in (self.forward, self.backward, self.kept))
        return Cost(forward, backward, kept, self.passing)


def measure(step: Callable[[], Tensor], weights: nn.Module) -> Cost:
    """Run ``step`` on the meta device, and the backward pass if its result requires a gradient.

    Args:
        step: returns a tensor.
        weights: module whose parameters are not counted as saved tensors.

    """
    own = {p.untyped_storage()._cdata for p in weights.parameters()}
    kept: dict[int, Any] = {}

    def remember(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage  # keep a reference, so that its id is not reused
        return tensor

    live = LiveBytes()
    live.count(list(weights.parameters()))  # views of weights allocate nothing
    start = live.now
    with FlopCounterMode(display=False) as counter, live:
        with torch.autograd.graph.saved_tensors_hooks(remember, lambda t: t):
            out = step()
        forward = counter.get_total_flops()
        size = sum(storage.nbytes() for storage in kept.values())
        kept.clear()
        if out.requires_grad:
            out.sum().backward()
    return Cost(forward, counter.get_total_flops() - forward, size, max(0, live.peak - start - size))


def peak_bytes(step: Callable[[], Tensor], weights: nn.Module) -> int:
    """Peak of the bytes that ``step`` and its backward pass hold beside the weights.

    The counter of operations in :func:`measure` keeps states that gradient checkpointing frees.
    """
    live = LiveBytes()
    live.count(list(weights.parameters()))
    start = live.now
    with live:
        step().sum().backward()
    return live.peak - start


@contextmanager
def countable(model: Any) -> Iterator[None]:
    """Use fused attention in the LLM, which saves no T x T matrix, and disable fused layers, which are not counted."""
    from transformers import AttentionInterface

    AttentionInterface.register(_ATTENTION, _fused_attention)
    config, fast = model.config, torch.backends.mha.get_fastpath_enabled()
    before = config._attn_implementation
    config._attn_implementation = _ATTENTION
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        config._attn_implementation = before
        torch.backends.mha.set_fastpath_enabled(fast)


def _fused_attention(
    _module: nn.Module, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any
) -> tuple[Tensor, None]:
    groups = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(groups, 1) if groups > 1 else x for x in (key, value))
    # the kernel does not support float32; the number of operations is the same
    inputs = [x.to(torch.bfloat16) for x in (query, key, value)]
    out = torch.ops.aten._scaled_dot_product_flash_attention(*inputs, 0.0, True)[0]
    return out.to(query.dtype).transpose(1, 2).contiguous(), None


@contextmanager
def fused() -> Iterator[None]:
    """Use a fused kernel for attention without mask in networks that call torch's function directly."""
    original = F.scaled_dot_product_attention

    def attention(query: Tensor, key: Tensor, value: Tensor, *args: Any, **options: Any) -> Tensor:
        if args or options.get("attn_mask") is not None or query.ndim != 4:
            return original(query, key, value, *args, **options)
        inputs = [x.to(torch.bfloat16) for x in (query, key, value)]
        return torch.ops.aten._scaled_dot_product_flash_attention(*inputs)[0].to(query.dtype)

    F.scaled_dot_product_attention = attention
    try:
        yield
    finally:
        F.scaled_dot_product_attention = original
