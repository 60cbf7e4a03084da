"""Positions of tokens, as the denoisers of diffusers' pipelines take them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def grid_ids(rows: int, columns: int, like: Tensor) -> Tensor:
    """``(rows * columns, 3)``: zero, row and column of each token, with the dtype and device of ``like``."""
    across = [torch.arange(size, dtype=like.dtype, device=like.device) for size in (rows, columns)]
    ids = torch.stack(torch.meshgrid(*across, indexing="ij"), dim=-1).flatten(0, 1)
    return torch.nn.functional.pad(ids, (1, 0))


def line_rotary(width: int, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines ``(length, width)`` of a sequence."""
    from diffusers.models.embeddings import get_1d_rotary_pos_embed

    places = torch.arange(length, device=device)
    cosines, sines = get_1d_rotary_pos_embed(width, places, use_real=True, repeat_interleave_real=False)
    return cosines, sines


def video_rotary(config: Any, shape: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines ``(tokens, width)`` of a video in CogVideoX.

    Args:
        config: configuration of the transformer.
        shape: frames, height and width of the latents. A grid of another size than the model's is interpolated.
        device: device of the result.

    """
    from diffusers.models.embeddings import get_3d_rotary_pos_embed
    from diffusers.pipelines.cogvideo.pipeline_cogvideox import get_resize_crop_region_for_grid

    frames, rows, columns = shape[0], *(side // config.patch_size for side in shape[1:])
    base = (config.sample_height // config.patch_size, config.sample_width // config.patch_size)
    options: dict[str, Any] = {"embed_dim": config.attention_head_dim, "grid_size": (rows, columns), "device": device}
    if config.patch_size_t is None:
        corners = get_resize_crop_region_for_grid((rows, columns), base[1], base[0])
        cosines, sines = get_3d_rotary_pos_embed(crops_coords=corners, temporal_size=frames, **options)
    else:
        frames = -(-frames // config.patch_size_t)
        cosines, sines = get_3d_rotary_pos_embed(
            crops_coords=None, temporal_size=frames, grid_type="slice", max_size=base, **options
        )
    return cosines, sines
