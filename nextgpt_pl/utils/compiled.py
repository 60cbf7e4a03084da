"""``torch.compile`` for decoder layers and projections, enabled by ``llm.compile`` and ``compile_projections``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn


def compile_layers(layers: Iterable[nn.Module]) -> None:
    """Compile decoder layers for training, in place.

    Row lengths vary, so shapes are dynamic. Passes with a key-value cache (generation, frozen prefixes) stay eager,
    because the cache has another shape at each token.
    """
    for layer in layers:
        layer.forward = _without_cache(layer.forward, torch.compile(layer.forward, dynamic=True))


def _without_cache(eager: Callable[..., Any], compiled: Callable[..., Any]) -> Callable[..., Any]:
    def forward(*args: Any, **kwargs: Any) -> Any:
        # the argument's name depends on the version of transformers
        cached = kwargs.get("cache") is not None or kwargs.get("past_key_values") is not None
        return (eager if cached else compiled)(*args, **kwargs)

    return forward


def compile_module(module: nn.Module) -> None:
    """Compile a projection, in place; the number of media in a batch varies."""
    module.compile(dynamic=True)
