"""Build projections of a network; their initial weights do not depend on the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

from nextgpt_pl.utils.compiled import compile_module
from nextgpt_pl.utils.initial import drawn_on_cpu

P = TypeVar("P", bound=nn.Module)


def build(factory: Callable[..., P], *sizes: int, compile: bool = False) -> P:
    """``factory(*sizes)`` on the default device, with weights drawn on the CPU.

    Args:
        factory: class of the projection, with its other arguments.
        sizes: outer widths and token counts.
        compile: whether to compile its forward pass.

    """
    device = torch.get_default_device()
    with drawn_on_cpu():
        projection = factory(*sizes)
    if compile:
        compile_module(projection)
    return projection.to(device)
