"""Clips: parts of videos and sounds, from a time to another."""

from __future__ import annotations

import math

import numpy as np

from nextgpt_pl.errors import UserError
from nextgpt_pl.samples import Media


def is_clip(media: Media) -> bool:
    """Whether a medium is a part of its file."""
    return media.start is not None or media.end is not None


def clip_name(media: Media) -> str:
    """The part of the file in keys and messages, such as ``0.5-1.5 s``; empty for a whole file."""
    return f"{media.start or 0.0}-{'' if media.end is None else media.end} s" if is_clip(media) else ""


def cut(array: np.ndarray, rate: float | None, media: Media) -> np.ndarray:
    """The part of a video ``(T, H, W, 3)`` or sound ``(samples,)`` from ``media.start`` to ``media.end``.

    It has the frames or samples of which the time, number / rate, is in this range; at least one. A range that goes on
    behind the end of the file ends with the file.

    Args:
        array: of the whole file.
        rate: frames or samples per second.
        media: says which part.

    Raises:
        UserError: the range begins behind the end of the file, or the medium has no duration.

    """
    if rate is None:
        raise UserError(f"{media.source}: a part in seconds is expected of a video or sound, not of {media.modality}")
    # rounded, so that 0.3 s at 10 frames per second is frame 3
    first = math.ceil(round((media.start or 0.0) * rate, 6))
    end = len(array) if media.end is None else math.ceil(round(media.end * rate, 6))
    if first >= len(array):
        seconds = len(array) / rate
        raise UserError(f"{media.source}: a clip begins at {media.start:g} s, but the file has {seconds:g} s")
    return array[first : max(end, first + 1)]
