"""Parts of videos and sounds that rows give in seconds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import Media


def clipped(media: Media, row: Mapping[str, Any]) -> Media:
    """The part of a video or sound from ``start`` to ``end`` seconds, which a row or a part of a message gives.

    Raises:
        UserError: a value is no number of seconds, or the medium has no duration.

    """
    start, end = (_seconds(row, key) for key in ("start", "end"))
    if start is None and end is None:
        return media
    if media.modality.form not in (Modality.VIDEO, Modality.AUDIO):
        raise UserError(f"start and end are seconds of a video or sound, but the row has {media.modality}")
    if end is not None and end <= (start or 0.0):
        raise UserError(f"start={start or 0:g}, end={end:g}: the end of the clip has to be behind its start")
    return replace(media, start=start, end=end)


def _seconds(row: Mapping[str, Any], key: str) -> float | None:
    value = row.get(key)
    if value is None:
        return None
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise UserError(f"{key}={value!r:.60}: a number of seconds from 0 on is expected")
    return seconds
