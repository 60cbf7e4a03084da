"""Parts of messages as transformers and OpenAI write them, in data files and in chats."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from nextgpt_pl.errors import UserError, nearest
from nextgpt_pl.modality import DECODABLE, MODALITIES, Modality
from nextgpt_pl.readers.layouts.base import keys, without_unknown_keys
from nextgpt_pl.readers.place import Place
from nextgpt_pl.readers.values import text
from nextgpt_pl.samples import Media

_TEXTS = ("text", "input_text", "output_text")
_SOURCES = keys("url path base64 bytes")
_OPENAI = keys("url detail data format")
_ABOUT = keys("type caption caption_embedding start end detail")  # what a part says about its medium

#: the modality of each type of part, and the keys that hold the medium
_MEDIA: dict[str, Modality] = {
    **{m.value: m for m in MODALITIES},
    **{f"{m}_url": m for m in DECODABLE},
    **{f"input_{m}": m for m in DECODABLE},
}
#: the keys of each type of part
_TEXT_PART = keys("type text")
_MEDIA_PARTS = {kind: _SOURCES | _ABOUT | {kind, m.value, f"{m}_url"} for kind, m in _MEDIA.items()}


class GivenMedium(NamedTuple):
    """A part that is a medium.

    Attributes:
        modality: modality of the medium.
        part: the part, without its empty fields.
        key: the part's key that holds the medium; ``None``: no key does.
        value: what the key holds.

    """

    modality: Modality
    part: dict[str, Any]
    key: str | None
    value: Any


def given(value: Mapping[str, Any]) -> dict[str, Any]:
    """An object without its empty fields: Parquet files write all fields in all objects."""
    return {key: v for key, v in value.items() if v is not None}


def part_of(part: Any, ignore: Collection[str] | None, also: frozenset[str] = frozenset()) -> str | GivenMedium:
    """The text or the medium of a part.

    Args:
        part: an object: ``{"type": "text", "text": ...}``; a medium as transformers writes it (``{"type": "image", KEY:
            ...}``, where KEY is ``url``, ``path``, ``base64`` or ``image``) or as OpenAI does (``image_url``,
            ``video_url``, ``input_audio``).
        ignore: see :func:`~nextgpt_pl.readers.layouts.base.without_unknown_keys`.
        also: further keys that say something about a medium.

    Raises:
        UserError: the part is of no known type, or has an unknown key or several media.

    """
    if not isinstance(part, dict):
        raise UserError(f"a part of a message is {part!r:.80}: an object with 'type' is expected")
    part = given(part)
    kind = part.get("type")
    if kind in _TEXTS:
        if not part.keys() <= _TEXT_PART:
            without_unknown_keys(part, _TEXT_PART, ignore, f"a part of type {kind!r}: ")
        return text(part, "text")
    modality = _MEDIA.get(kind) if isinstance(kind, str) else None
    if modality is None:
        known = (*_TEXTS, *_MEDIA)
        raise UserError(f"a part of type {kind!r:.60} is not read{nearest(str(kind), known)}")
    known_keys = _MEDIA_PARTS[str(kind)]
    if not part.keys() <= known_keys:
        without_unknown_keys(part, known_keys | also, ignore, f"a part of type {kind!r}: ")
    sources = {key: value for key, value in part.items() if key not in _ABOUT and key not in also}
    if len(sources) > 1:
        raise UserError(f"a part of type {kind!r}: one of {', '.join(sources)} is expected")
    ((key, value),) = sources.items() if sources else [(None, None)]
    return GivenMedium(modality, part, key, value)


def named_media(medium: GivenMedium, place: Place, *, needed: bool | None = None) -> Media:
    """The medium that a part names; see :meth:`~nextgpt_pl.readers.place.Place.media`."""
    key, value = medium.key, medium.value
    if key in ("base64", "bytes"):
        value = {key: value}
    elif isinstance(value, Mapping) and not value.keys() <= _SOURCES:
        value = given(value)
        without_unknown_keys(value, _OPENAI, place.ignore, f"{key}: ")
        value = {"base64": value["data"]} if "data" in value else value.get("url")
    return place.media(medium.modality, value, needed=needed)
