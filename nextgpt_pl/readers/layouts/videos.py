"""Questions about videos: VideoChat, VideoChat2-IT, Video-ChatGPT."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from nextgpt_pl.errors import MissingFileError, UserError
from nextgpt_pl.modality import MODALITIES, Modality
from nextgpt_pl.readers.layouts.base import keys, without_unknown_keys
from nextgpt_pl.readers.model import Question, Talk
from nextgpt_pl.readers.place import Place
from nextgpt_pl.readers.turns import turns_of
from nextgpt_pl.readers.values import text
from nextgpt_pl.samples import Media, MediaPart, Message, Part, TextPart

_QA_KEYS = keys("i q a")


def videochat(row: dict[str, Any], place: Place) -> list[Talk]:
    """``video`` (or ``image``) and ``QA``, a list of ``q`` and ``a`` with an instruction ``i``, as one dialogue.

    ``i`` or ``q`` may be empty; the medium precedes the first question. ``start`` and ``end`` are seconds of the video.
    """
    modality = Modality.VIDEO if row.get("video") is not None else Modality.IMAGE
    medium = MediaPart(modality, _clip(place.media(modality, row.get(modality.value)), row))
    messages: list[Message] = []
    for turn in turns_of(row, "QA"):
        if not isinstance(turn, dict):
            raise UserError(f"QA: an object with q and a is expected, got {turn!r:.80}")
        without_unknown_keys(turn, _QA_KEYS, place.ignore, "QA: ")
        question = "\n".join(filter(None, (text(turn, key, optional=True) for key in ("i", "q"))))
        if not question:
            raise UserError(f"QA: neither i nor q has a text: {turn!r:.80}")
        parts: list[Part] = [] if messages else [medium]
        answer = Message("assistant", (TextPart(text(turn, "a")),))
        messages += [Message("user", (*parts, TextPart(question))), answer]
    return [Talk(tuple(messages))]


def _clip(media: Media, row: dict[str, Any]) -> Media:
    """The part of a video from ``start`` to ``end`` seconds."""
    start, end = (_seconds(row, key) for key in ("start", "end"))
    if start is None and end is None:
        return media
    if media.modality is not Modality.VIDEO:
        raise UserError(f"start and end are seconds of a video, but the row has {media.modality}")
    if end is not None and end <= (start or 0.0):
        raise UserError(f"start={start or 0:g}, end={end:g}: the end of the clip has to be behind its start")
    return replace(media, start=start, end=end)


def _seconds(row: dict[str, Any], key: str) -> float | None:
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


def video_chatgpt(row: dict[str, Any], place: Place) -> list[Question]:
    """``video_id``, ``q`` and ``a``; the file is named by the identity and any ending of a video."""
    identity = text(row, "video_id")
    media = MediaPart(Modality.VIDEO, _by_stem(identity, place))
    return [Question((media,), text(row, "q"), (text(row, "a"),), identity)]


def _by_stem(stem: str, place: Place) -> Media:
    """The video of a name without ending."""
    if stem.lower().endswith(MODALITIES[Modality.VIDEO].suffixes):
        return place.media(Modality.VIDEO, stem)
    for suffix in MODALITIES[Modality.VIDEO].suffixes:
        try:
            return place.media(Modality.VIDEO, stem + suffix)
        except MissingFileError:
            continue
    return place.media(Modality.VIDEO, stem + MODALITIES[Modality.VIDEO].suffixes[0])
