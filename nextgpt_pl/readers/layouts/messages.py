"""Lists of ``messages`` with ``role`` and ``content``: OpenAI, transformers, LLaMA-Factory, ms-swift."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nextgpt_pl.errors import MissingFileError, UserError, nearest
from nextgpt_pl.modality import GENERATED, MODALITIES, Modality
from nextgpt_pl.readers.layouts.base import keys, without_unknown_keys
from nextgpt_pl.readers.layouts.conversations import talk
from nextgpt_pl.readers.model import Talk
from nextgpt_pl.readers.place import Place
from nextgpt_pl.readers.row_media import RowMedia, reply_medium
from nextgpt_pl.readers.turns import Piece, Turn, pieces, role_of, turns_of
from nextgpt_pl.readers.values import take, text
from nextgpt_pl.samples import Media, MediaPart, Role

_MESSAGE = keys("role content caption name")
_TEXTS = ("text", "input_text", "output_text")
_SOURCES = keys("url path base64 bytes")
_OPENAI = keys("url detail data format")

#: the modality of each type of part, and the keys that hold the medium
_MEDIA: dict[str, Modality] = {
    **{m.value: m for m in MODALITIES},
    **{f"{m}_url": m for m in GENERATED},
    **{f"input_{m}": m for m in GENERATED},
}


def messages(row: dict[str, Any], place: Place) -> list[Talk]:
    """``messages``, whose content is a text or a list of parts, and the row's media for placeholders.

    A part is ``{"type": "text", "text": ...}``; a medium as transformers writes it (``{"type": "image", KEY: ...}``,
    where KEY is ``url``, ``path``, ``base64`` or ``image``) or as OpenAI does (``image_url``, ``video_url``,
    ``input_audio``); or ``{"type": "image"}`` alone for the next of the row's ``images``. For the keys of the row's
    media see :class:`~nextgpt_pl.readers.row_media.RowMedia`.
    """
    turns = [_turn(message, place) for message in turns_of(row, "messages")]
    return [talk(turns, RowMedia(row, place), row)]


def _given(value: Mapping[str, Any]) -> dict[str, Any]:
    """An object without its empty fields: Parquet files write all fields in all objects."""
    return {key: v for key, v in value.items() if v is not None}


def _turn(message: Any, place: Place) -> Turn:
    role = role_of(message, "role")
    message = _given(message)
    without_unknown_keys(message, _MESSAGE, place.ignore, "a message's ")
    captions = tuple(take(message, "caption", optional=True))
    content = message.get("content")
    if isinstance(content, str):
        return Turn(role, pieces(content), captions)
    if not isinstance(content, list):
        raise UserError(f"a message's content is {content!r:.80}: a text or a list of parts is expected")
    return Turn(role, tuple(piece for part in content for piece in _pieces(part, role, place)), captions)


def _pieces(part: Any, role: Role, place: Place) -> tuple[Piece, ...]:
    """The pieces of one part."""
    if isinstance(part, str):
        return pieces(part)
    if not isinstance(part, Mapping):
        raise UserError(f"a part of a message is {part!r:.80}: an object with 'type' is expected")
    part = _given(part)
    kind = part.get("type")
    if kind in _TEXTS:
        without_unknown_keys(part, keys("type text"), place.ignore, f"a part of type {kind!r}: ")
        return pieces(text(part, "text"))
    modality = _MEDIA.get(kind) if isinstance(kind, str) else None
    if modality is None:
        known = (*_TEXTS, *_MEDIA)
        raise UserError(f"a part of type {kind!r:.60} is not read{nearest(str(kind), known)}")
    known_keys = _SOURCES | {"type", "caption", str(kind), modality.value, f"{modality}_url", "detail"}
    without_unknown_keys(part, known_keys, place.ignore, f"a part of type {kind!r}: ")
    sources = {key: value for key, value in part.items() if key not in ("type", "caption", "detail")}
    if not sources:
        return (modality,)
    if len(sources) != 1:
        raise UserError(f"a part of type {kind!r}: one of {', '.join(sources)} is expected")
    ((key, value),) = sources.items()
    if role != "assistant":
        return (MediaPart(modality, _media(modality, key, value, place)),)
    try:
        media = _media(modality, key, value, place, needed=True)
    except MissingFileError:
        media = None
    return (reply_medium(modality, media, part.get("caption"), place),)


def _media(modality: Modality, key: str, value: Any, place: Place, *, needed: bool | None = None) -> Media:
    """The medium in a part's key."""
    if key in ("base64", "bytes"):
        value = {key: value}
    elif isinstance(value, Mapping) and not value.keys() <= _SOURCES:
        value = _given(value)
        without_unknown_keys(value, _OPENAI, place.ignore, f"{key}: ")
        value = {"base64": value["data"]} if "data" in value else value.get("url")
    return place.media(modality, value, needed=needed)
