"""Lists of ``messages`` with ``role`` and ``content``: OpenAI, transformers, LLaMA-Factory, ms-swift."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from nextgpt_pl.errors import MissingFileError, UserError, nearest
from nextgpt_pl.modality import GENERATED, MODALITIES, Modality
from nextgpt_pl.readers.layouts.base import keys, without_unknown_keys
from nextgpt_pl.readers.layouts.clips import clipped
from nextgpt_pl.readers.layouts.conversations import talk
from nextgpt_pl.readers.model import Talk
from nextgpt_pl.readers.place import Place
from nextgpt_pl.readers.row_media import RowMedia, reply_medium
from nextgpt_pl.readers.tars import EMBEDDING
from nextgpt_pl.readers.turns import Piece, Turn, captions_in, pieces, role_of, turns_of
from nextgpt_pl.readers.values import text
from nextgpt_pl.samples import Media, MediaPart, Role

_MESSAGE = keys("role content caption name")
_TEXTS = ("text", "input_text", "output_text")
_SOURCES = keys("url path base64 bytes")
_OPENAI = keys("url detail data format")
_ABOUT = keys("type caption caption_embedding start end detail")  # what a part says about its medium

#: the modality of each type of part, and the keys that hold the medium
_MEDIA: dict[str, Modality] = {
    **{m.value: m for m in MODALITIES},
    **{f"{m}_url": m for m in GENERATED},
    **{f"input_{m}": m for m in GENERATED},
}
#: the keys of each type of part
_TEXT_PART = keys("type text")
_MEDIA_PARTS = {kind: _SOURCES | _ABOUT | {kind, m.value, f"{m}_url"} for kind, m in _MEDIA.items()}


@dataclass(frozen=True)
class _Row:
    """What the parts of a row's messages refer to: its keys, files, and media."""

    row: dict[str, Any]
    place: Place
    media: RowMedia


def messages(row: dict[str, Any], place: Place) -> list[Talk]:
    """``messages``, whose content is a text or a list of parts, and the row's media for placeholders.

    A part is ``{"type": "text", "text": ...}``; a medium as transformers writes it (``{"type": "image", KEY: ...}``,
    where KEY is ``url``, ``path``, ``base64`` or ``image``) or as OpenAI does (``image_url``, ``video_url``,
    ``input_audio``); or ``{"type": "image"}`` alone for the next of the row's ``images``. A value may name a member of
    the row's tar sample. ``start`` and ``end`` are seconds of the medium; media of the assistant have a ``caption`` and
    may have its ``caption_embedding``. For the keys of the row's media see
    :class:`~nextgpt_pl.readers.row_media.RowMedia`.
    """
    found = turns_of(row, "messages")
    media = RowMedia(row, place, _texts_of_parts(found) if "__key__" in row else ())
    given = _Row(row, place, media)
    return [talk([_turn(message, given) for message in found], media, row)]


def _texts_of_parts(found: list[Any]) -> set[str]:
    """All texts in the parts of messages, among them the names of media."""
    contents = [message.get("content") for message in found if isinstance(message, dict)]
    parts = [part for content in contents if isinstance(content, list) for part in content if isinstance(part, dict)]
    return {value for part in parts for value in part.values() if isinstance(value, str)}


def _given(value: Mapping[str, Any]) -> dict[str, Any]:
    """An object without its empty fields: Parquet files write all fields in all objects."""
    return {key: v for key, v in value.items() if v is not None}


def _turn(message: Any, of: _Row) -> Turn:
    role = role_of(message, "role")
    message = _given(message)
    without_unknown_keys(message, _MESSAGE, of.place.ignore, "a message's ")
    captions = list(captions_in(message))
    content = message.get("content")
    if isinstance(content, str):
        return Turn(role, pieces(content), tuple(captions))
    if not isinstance(content, list):
        raise UserError(f"a message's content is {content!r:.80}: a text or a list of parts is expected")
    found: list[Piece] = []
    for part in content:
        of_part, caption = _pieces(part, role, of)
        found += of_part
        captions += caption
    return Turn(role, tuple(found), tuple(captions))


def _pieces(part: Any, role: Role, of: _Row) -> tuple[tuple[Piece, ...], list[str]]:
    """The pieces of one part, and the caption of a medium of the assistant that the part does not hold."""
    if isinstance(part, str):
        return pieces(part), []
    if not isinstance(part, dict):
        raise UserError(f"a part of a message is {part!r:.80}: an object with 'type' is expected")
    part = _given(part)
    kind = part.get("type")
    if kind in _TEXTS:
        if not part.keys() <= _TEXT_PART:
            without_unknown_keys(part, _TEXT_PART, of.place.ignore, f"a part of type {kind!r}: ")
        return pieces(text(part, "text")), []
    modality = _MEDIA.get(kind) if isinstance(kind, str) else None
    if modality is None:
        known = (*_TEXTS, *_MEDIA)
        raise UserError(f"a part of type {kind!r:.60} is not read{nearest(str(kind), known)}")
    known_keys = _MEDIA_PARTS[str(kind)]
    if not part.keys() <= known_keys:
        without_unknown_keys(part, known_keys, of.place.ignore, f"a part of type {kind!r}: ")
    sources = {key: value for key, value in part.items() if key not in _ABOUT}
    if len(sources) > 1:
        raise UserError(f"a part of type {kind!r}: one of {', '.join(sources)} is expected")
    if not sources and "caption_embedding" not in part:
        return (modality,), list(captions_in(part)) if role == "assistant" else []
    return (_medium(modality, part, sources, role, of),), []


def _medium(modality: Modality, part: dict[str, Any], sources: dict[str, Any], role: Role, of: _Row) -> MediaPart:
    """The medium of a part; ``sources`` has the key that holds it, if one does."""
    made, media = role == "assistant", None
    for key, value in sources.items():
        try:
            media = of.media.member(value) or _media(modality, key, value, of.place, needed=True if made else None)
            if media.modality is not modality:
                media = replace(media, modality=modality)
            media = clipped(media, part)
        except MissingFileError:
            if not made:
                raise
    if made:
        return reply_medium(modality, media, part.get("caption"), of.place, _embedding(part, of))
    return MediaPart(modality, media)


def _embedding(part: dict[str, Any], of: _Row) -> list[Any]:
    """The part's caption embedding: its file's name, or what refers to it in the data file; empty if it has none."""
    value = part.get("caption_embedding")
    if isinstance(value, str) and value.endswith(EMBEDDING) and "__key__" in of.row:
        value = of.row.get(value.removeprefix(f"{PurePosixPath(of.row['__key__']).name}."), value)
    return [] if value is None else [value]


def _media(modality: Modality, key: str, value: Any, place: Place, *, needed: bool | None = None) -> Media:
    """The medium in a part's key."""
    if key in ("base64", "bytes"):
        value = {key: value}
    elif isinstance(value, Mapping) and not value.keys() <= _SOURCES:
        value = _given(value)
        without_unknown_keys(value, _OPENAI, place.ignore, f"{key}: ")
        value = {"base64": value["data"]} if "data" in value else value.get("url")
    return place.media(modality, value, needed=needed)
