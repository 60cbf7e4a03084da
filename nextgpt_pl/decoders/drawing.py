"""Default batch size of generation, and conversion of a pipeline's output to media."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nextgpt_pl.errors import UserError

# maximum per batch; default side of an image and default number of frames of a video
_MAX_PIXELS, _MAX_MEDIA, _SIDE, _FRAMES = 2**22, 32, 512, 16


def pixels_of(sampling: Mapping[str, Any], moving: bool) -> int:
    """Pixels of one image, or of all frames of one video, under these sampling arguments."""
    height, width = sampling.get("height") or _SIDE, sampling.get("width") or _SIDE
    return int(height * width * (sampling.get("num_frames") or (_FRAMES if moving else 1)))


def default_batch_size(pixels_per_medium: int) -> int:
    """Number of media per batch, by the number of pixels of one medium."""
    return min(_MAX_MEDIA, max(1, _MAX_PIXELS // pixels_per_medium))


def finite_medium(array: np.ndarray, path: str) -> np.ndarray:
    """Convert images and videos to uint8, and audio to float32 in [-1, 1].

    Args:
        array: image or video with values in [0, 1], or audio ``(n,)``.
        path: path of the decoder, for the message.

    Raises:
        UserError: a number is not finite.

    """
    if not np.isfinite(array).all():
        raise UserError(f"decoder {path!r} gave numbers that are not finite; try dtype=float32, or bfloat16 on a GPU")
    return np.rint(array * 255).clip(0, 255).astype(np.uint8) if array.ndim > 1 else array.clip(-1, 1)
