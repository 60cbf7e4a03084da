"""Questions about videos: VideoChat, VideoChat2-IT, Video-ChatGPT."""

from __future__ import annotations

from typing import Any

from nextgpt_pl.errors import MissingFileError, UserError
from nextgpt_pl.modality import MODALITIES, Modality
from nextgpt_pl.readers.layouts.base import keys, without_unknown_keys
from nextgpt_pl.readers.layouts.clips import clipped
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
    medium = MediaPart(modality, clipped(place.media(modality, row.get(modality.value)), row))
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
