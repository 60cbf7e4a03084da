"""``torch.compile`` for repeated parts and projections, as YAMLs switch it on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn


def compile_layers(layers: Iterable[nn.Module]) -> None:
    """Compile decoder layers for training, in place.

    Lengths of rows vary, so shapes are dynamic. Passes with a key-value cache (generation, frozen prefixes) stay eager:
    each of their tokens would be another shape.
    """
    for layer in layers:
        layer.forward = _without_cache(layer.forward, torch.compile(layer.forward, dynamic=True))


def _without_cache(eager: Callable[..., Any], compiled: Callable[..., Any]) -> Callable[..., Any]:
    def forward(*args: Any, **kwargs: Any) -> Any:
        # what transformers calls it differs between versions
        cached = kwargs.get("cache") is not None or kwargs.get("past_key_values") is not None
        return (eager if cached else compiled)(*args, **kwargs)

    return forward


def compile_module(module: nn.Module) -> None:
    """Compile a projection, in place; the number of media in a batch varies."""
    module.compile(dynamic=True)
