"""Pictures of any shape as patches: what towers with a variable resolution (NaFlex) read, and grids of their states.

Shapes: N pictures, P patches, of which the first rows x columns are in use, D numbers of a patch, C width of a state.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor


def packed(prepared: Mapping[str, Any]) -> np.ndarray:
    """The processor's output for one picture as ``(P, D + 2)`` float32: each patch, then rows and columns."""
    patches = np.asarray(prepared["pixel_values"][0], np.float32)
    shape = np.asarray(prepared["spatial_shapes"][0], np.float32)
    return np.concatenate([patches, np.broadcast_to(shape, (len(patches), 2))], axis=1)


def arguments(inputs: Tensor, dtype: torch.dtype) -> dict[str, Any]:
    """Arguments of the network for ``(N, P, D + 2)``; on the meta device, pictures are squares without padding."""
    patches = inputs[..., :-2].to(dtype)
    if inputs.is_meta:  # the network reads sizes and masks on the host
        side = int(inputs.shape[1] ** 0.5)
        shapes = torch.tensor([[side, side]], device="cpu").expand(len(inputs), 2)
        return {"pixel_values": patches, "pixel_attention_mask": None, "spatial_shapes": shapes}
    shapes = _shapes(inputs)
    used = torch.arange(inputs.shape[1], device=inputs.device) < shapes.prod(1, keepdim=True)
    return {"pixel_values": patches, "pixel_attention_mask": used.long(), "spatial_shapes": shapes}


def cells(states: Tensor, inputs: Tensor, height: int, width: int) -> Tensor:
    """Averages of states over the cells of a grid, ``(N, height * width, C)`` float32.

    A cell covers the same share of each picture, as in adaptive average pooling. Cells of pictures with fewer rows or
    columns than the grid share patches.

    Args:
        states: ``(N, P, C)``.
        inputs: ``(N, P, D + 2)``, from :func:`packed`.
        height: rows of the grid.
        width: columns of the grid.

    """
    rows, columns = (size.unsqueeze(1) for size in _shapes(inputs).unbind(1))
    places = torch.arange(states.shape[1], device=states.device)
    inside_rows = _inside(places // columns, rows, height)
    inside_columns = _inside(places % columns, columns, width)
    used = (places < rows * columns)[:, None, None]
    weights = (inside_rows[:, :, None] & inside_columns[:, None] & used).flatten(1, 2).float()
    return weights / weights.sum(-1, keepdim=True) @ states.float()


def _shapes(inputs: Tensor) -> Tensor:
    """Rows and columns of each picture, ``(N, 2)``."""
    return inputs[:, 0, -2:].round().long()


def _inside(places: Tensor, size: Tensor, count: int) -> Tensor:
    """Whether ``places (N, P)`` on an axis of ``size (N, 1)`` are in each of ``count`` cells, ``(N, count, P)``."""
    numbers = torch.arange(count, device=places.device)
    first, end = numbers * size // count, -(-(numbers + 1) * size // count)
    return (places[:, None] >= first[..., None]) & (places[:, None] < end[..., None])
