"""Grids of features over time, height and width, and their averages."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from nextgpt_pl.errors import UserError, at_least

Grid = tuple[int, int, int]


def check_grid(grid: Sequence[int], pooled: bool) -> None:
    """Check the argument ``grid`` of an encoder.

    Raises:
        UserError: it has another number of sizes than the features have axes, or a size is not positive.

    """
    forms = "[time]" if pooled else "[time], [height, width] or [time, height, width]"
    if not 1 <= len(grid) <= (1 if pooled else 3):
        raise UserError(f"encoder.grid={list(grid)}: {forms} is expected with features={_kind(pooled)}")
    at_least(1, **{f"encoder__grid[{i}]": size for i, size in enumerate(grid)})


def _kind(pooled: bool) -> str:
    return "pooled" if pooled else "patches"


def averaged_grid(full: Grid, grid: Sequence[int], name: str, timeless: bool = False) -> Grid:
    """The grid to which features are averaged.

    Args:
        full: sizes of the network's features.
        grid: ``[time]``, ``[height, width]`` or ``[time, height, width]``.
        name: what the features are of, for messages.
        timeless: whether ``grid`` is of videos, too, and its time is ignored here.

    Raises:
        UserError: a size is larger than that of the network's features.

    >>> averaged_grid((8, 27, 27), [9, 9], "video")
    (8, 9, 9)

    """
    time = full[0] if len(grid) == 2 or timeless else grid[0]
    height, width = grid[-2:] if len(grid) > 1 else (1, 1)
    if any(size > most for size, most in zip((time, height, width), full, strict=True)):
        sizes = " x ".join(map(str, full))
        raise UserError(f"encoder.grid={list(grid)}: features of {name} are {sizes} (time, height, width)")
    return time, height, width


def average(features: Tensor, full: Grid, target: Grid) -> Tensor:
    """Features ``(N, T * H * W, C)`` of the grid ``full``, averaged to those of ``target``."""
    if target == full:
        return features
    cells = features.unflatten(1, full).movedim(-1, 1)
    return F.adaptive_avg_pool3d(cells, target).flatten(2).transpose(1, 2)
