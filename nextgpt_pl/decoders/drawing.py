"""How many media a decoder draws at a time, and what becomes of the numbers that its pipeline gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nextgpt_pl.errors import UserError

# drawn at a time; where the size is not given, a picture's side and a video's frames are assumed
_PIXELS_AT_ONCE, _MOST_AT_ONCE, _SIDE, _FRAMES = 2**22, 32, 512, 16


def pixels_of(sampling: Mapping[str, Any], moving: bool) -> int:
    """Pixels of one picture, or of all frames of one video, that these sampling arguments ask for."""
    height, width = sampling.get("height") or _SIDE, sampling.get("width") or _SIDE
    return int(height * width * (sampling.get("num_frames") or (_FRAMES if moving else 1)))


def at_once(pixels_each: int) -> int:
    """Media of so many pixels that are drawn at a time where the YAML gives no number."""
    return min(_MOST_AT_ONCE, max(1, _PIXELS_AT_ONCE // pixels_each))


def finite_medium(array: np.ndarray, path: str) -> np.ndarray:
    """Pictures as uint8, sounds as float32. A black picture or silence is a medium too.

    Args:
        array: picture or video with values from 0 to 1, or sound ``(n,)``.
        path: of the decoder, for the error.

    Raises:
        UserError: a number is not finite.

    """
    if not np.isfinite(array).all():
        raise UserError(f"decoder {path!r} gave numbers that are not finite; try dtype=float32, or bfloat16 on a GPU")
    return np.rint(array * 255).clip(0, 255).astype(np.uint8) if array.ndim > 1 else array.clip(-1, 1)
