"""Lists of ``messages`` with ``role`` and ``content``: OpenAI, transformers, LLaMA-Factory, ms-swift."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from nextgpt_pl.errors import MissingFileError, UserError
from nextgpt_pl.readers.layouts.base import keys, without_unknown_keys
from nextgpt_pl.readers.layouts.clips import clipped
from nextgpt_pl.readers.layouts.conversations import talk
from nextgpt_pl.readers.layouts.parts import GivenMedium, given, named_media, part_of
from nextgpt_pl.readers.model import Talk
from nextgpt_pl.readers.place import Place
from nextgpt_pl.readers.row_media import RowMedia, reply_medium
from nextgpt_pl.readers.tars import EMBEDDING
from nextgpt_pl.readers.turns import LOSS_KEYS, Piece, Turn, captions_in, learned_in, pieces, role_of, turns_of
from nextgpt_pl.samples import MediaPart, Role

_MESSAGE = keys("role content caption name") | set(LOSS_KEYS)


@dataclass(frozen=True)
class _Row:
    """What the parts of a row's messages refer to: its keys, files, and media."""

    row: dict[str, Any]
    place: Place
    media: RowMedia


def messages(row: dict[str, Any], place: Place) -> list[Talk]:
    """``messages``, whose content is a text or a list of parts, and the row's media for placeholders.

    A part is one of :func:`~nextgpt_pl.readers.layouts.parts.part_of`; or a text; or ``{"type": "image"}`` alone for
    the next of the row's ``images``. A value may name a member of the row's tar sample. ``start`` and ``end`` are
    seconds of the medium; media of the assistant have a ``caption`` and may have its ``caption_embedding``. A message
    with ``"weight": 0`` or ``"loss": false`` is context, without a loss. For the keys of the row's media see
    :class:`~nextgpt_pl.readers.row_media.RowMedia`.
    """
    found = turns_of(row, "messages")
    media = RowMedia(row, place, _texts_of_parts(found) if "__key__" in row else ())
    of = _Row(row, place, media)
    return [talk([_turn(message, of) for message in found], media, row)]


def _texts_of_parts(found: list[Any]) -> set[str]:
    """All texts in the parts of messages, among them the names of media."""
    contents = [message.get("content") for message in found if isinstance(message, dict)]
    parts = [part for content in contents if isinstance(content, list) for part in content if isinstance(part, dict)]
    return {value for part in parts for value in part.values() if isinstance(value, str)}


def _turn(message: Any, of: _Row) -> Turn:
    role = role_of(message, "role")
    message = given(message)
    without_unknown_keys(message, _MESSAGE, of.place.ignore, "a message's ")
    captions = list(captions_in(message))
    content = message.get("content")
    if isinstance(content, str):
        return Turn(role, pieces(content), tuple(captions), learned_in(message))
    if not isinstance(content, list):
        raise UserError(f"a message's content is {content!r:.80}: a text or a list of parts is expected")
    found: list[Piece] = []
    for part in content:
        of_part, caption = _pieces(part, role, of)
        found += of_part
        captions += caption
    return Turn(role, tuple(found), tuple(captions), learned_in(message))


def _pieces(part: Any, role: Role, of: _Row) -> tuple[tuple[Piece, ...], list[str]]:
    """The pieces of one part, and the caption of a medium of the assistant that the part does not hold."""
    if isinstance(part, str):
        return pieces(part), []
    found = part_of(part, of.place.ignore)
    if isinstance(found, str):
        return pieces(found), []
    if found.key is None and "caption_embedding" not in found.part:
        return (found.modality,), list(captions_in(found.part)) if role == "assistant" else []
    return (_medium(found, role, of),), []


def _medium(found: GivenMedium, role: Role, of: _Row) -> MediaPart:
    """The medium of a part."""
    made, media = role == "assistant", None
    if found.key is not None:
        try:
            media = of.media.member(found.value) or named_media(found, of.place, needed=True if made else None)
            if media.modality is not found.modality:
                media = replace(media, modality=found.modality)
            media = clipped(media, found.part)
        except MissingFileError:
            if not made:
                raise
    if made:
        caption = found.part.get("caption")
        return reply_medium(found.modality, media, caption, of.place, _embedding(found.part, of))
    return MediaPart(found.modality, media)


def _embedding(part: dict[str, Any], of: _Row) -> list[Any]:
    """The part's caption embedding: its file's name, or what refers to it in the data file; empty if it has none."""
    value = part.get("caption_embedding")
    if isinstance(value, str) and value.endswith(EMBEDDING) and "__key__" in of.row:
        value = of.row.get(value.removeprefix(f"{PurePosixPath(of.row['__key__']).name}."), value)
    return [] if value is None else [value]
