"""The official instruction data as published, before the official code's preparation: T+X to T, T to T+X, MosIT."""

from __future__ import annotations

import re
from typing import Any

from nextgpt_pl.errors import UserError, nearest
from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.readers.layouts.base import keys, without_unknown_keys
from nextgpt_pl.readers.layouts.conversations import talk, turn_of
from nextgpt_pl.readers.model import Talk
from nextgpt_pl.readers.place import Place
from nextgpt_pl.readers.row_media import RowMedia, reply_medium
from nextgpt_pl.readers.turns import Piece, Turn, is_medium, turns_of
from nextgpt_pl.readers.values import take, text
from nextgpt_pl.samples import MediaPart, Role

KEYS = frozenset({"conversation", *(f"{m}_{what}" for m in GENERATED for what in ("name", "list"))})
METADATA = keys("id output_modality source_data data_source")
_TAG = re.compile(r"<(Image|Video|Audio)>(.*?)</\1>", re.DOTALL)
_ENTRY_METADATA = keys("data_source")

_Captions = dict[Modality, dict[str, Any]]


def raw(row: dict[str, Any], place: Place) -> list[Talk]:
    """``conversation``, with media as files of the row (``X_name``) or by name in the text (``<Image>name</Image>``).

    A medium in ``X_name`` is what the assistant makes if a turn has a caption, else what the user shows. The captions
    of media that the text names are in ``X_list``.
    """
    turns = [turn_of(turn, place, row.get("output_modality")) for turn in turns_of(row, "conversation")]
    media = RowMedia({}, place)
    makes = any(turn.captions for turn in turns)
    names = {m: take(row, f"{m}_name", optional=True) for m in GENERATED}
    for modality, files in names.items():
        media.add(modality, "made" if makes else "shown", *files)
        if makes and place.plain_embeddings:
            media.add(modality, "embeddings", *(f"{name}.npy" for name in files))
    captions = {m: _captions(row, m, place) for m in GENERATED}
    found = talk([_with_named(turn, captions, place) for turn in turns], media, {})
    if any(captions.values()):
        unused = ", ".join(name for listed in captions.values() for name in listed)
        raise UserError(f"no turn has the listed media {unused}")
    return [found]


def _captions(row: dict[str, Any], modality: Modality, place: Place) -> dict[str, Any]:
    """The captions in ``X_list``, by name."""
    key = f"{modality}_list"
    captions = {}
    for entry in row.get(key) or ():
        if not isinstance(entry, dict):
            raise UserError(f"{key}: an object with {modality}_name and caption is expected, got {entry!r:.80}")
        known = _ENTRY_METADATA | {f"{modality}_name", "caption"}
        without_unknown_keys(entry, known, place.ignore, f"{key}: ")
        captions[text(entry, f"{modality}_name")] = entry.get("caption")
    return captions


def _with_named(turn: Turn, captions: _Captions, place: Place) -> Turn:
    """The turn with the media that its texts name; their captions are removed from ``captions``."""
    content: list[Piece] = []
    for piece in turn.content:
        if is_medium(piece) or not isinstance(piece, str):
            content.append(piece)
            continue
        before, *tags = _TAG.split(piece)
        content.append(before)
        for kind, name, behind in zip(tags[::3], tags[1::3], tags[2::3], strict=True):
            content += [_named(Modality(kind.lower()), name.strip(), turn.role, captions, place), behind]
    return turn._replace(content=tuple(piece for piece in content if piece != ""))


def _named(modality: Modality, name: str, role: Role, captions: _Captions, place: Place) -> MediaPart:
    known = captions[modality]
    if role != "assistant":
        known.pop(name, None)
        return MediaPart(modality, place.media(modality, name))
    if name not in known:
        raise UserError(f"a turn names {name!r:.80}, of which {modality}_list gives no caption{nearest(name, known)}")
    embeddings = [f"{name}.npy"] if place.plain_embeddings else []
    return reply_medium(modality, place.optional_media(modality, name), known.pop(name), place, embeddings)
