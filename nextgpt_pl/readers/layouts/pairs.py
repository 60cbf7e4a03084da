"""Captioned pairs as ``data convert`` writes them: exact captions, one medium, and all texts of a pair."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from nextgpt_pl.errors import UserError, nearest
from nextgpt_pl.modality import MODALITIES, Modality
from nextgpt_pl.readers.layouts.base import keys, needs
from nextgpt_pl.readers.layouts.clips import clipped
from nextgpt_pl.readers.model import Captioned
from nextgpt_pl.readers.place import Place
from nextgpt_pl.readers.tars import EMBEDDING, sample_media
from nextgpt_pl.readers.values import exact_captions_of, text
from nextgpt_pl.samples import Media

NEEDS = needs("modality captions")
TEXTS = ("instruction", "question", "response", "description")
KEYS = keys("__key__ start end caption_embedding").union(TEXTS, (EMBEDDING,), (m.value for m in MODALITIES))
#: the first caption, for programs that read one
METADATA = keys("caption txt")


def pairs(row: dict[str, Any], place: Place) -> list[Captioned]:
    """``modality``, ``captions`` and the medium, a member of the tar sample or under the name of its modality.

    Optional are ``instruction``, ``question``, ``response`` and ``description`` (see
    :class:`~nextgpt_pl.samples.CaptionedPair`), ``start`` and ``end`` in seconds, and the embedding of a single
    caption. Without a medium the pair has a caption alone.
    """
    modality, captions = _modality(row), exact_captions_of(row, ["captions"])
    embedding = row.get(EMBEDDING, row.get("caption_embedding"))
    if embedding is not None and len(captions) > 1:
        raise UserError(f"{len(captions)} captions and one caption embedding")
    name, media = _medium(row, modality, place)
    texts = {key: text(row, key) for key in TEXTS if row.get(key) is not None}
    embeddings = () if embedding is None else (place.embedding([embedding]),)
    return [Captioned(modality, name, captions, media, embeddings, **texts)]


def _modality(row: dict[str, Any]) -> Modality:
    name = row["modality"]
    try:
        return Modality(name)
    except ValueError as error:
        raise UserError(f"modality={name!r:.60}{nearest(str(name), [m.value for m in MODALITIES])}") from error


def _medium(row: dict[str, Any], modality: Modality, place: Place) -> tuple[str, Media | None]:
    """Name and medium of a row."""
    members = sample_media(row, place.file)
    if len(members) > 1:
        raise UserError(f"one medium is expected, but the sample has {', '.join(members)}")
    for ending, media in members.items():
        return f"{row['__key__']}.{ending}", clipped(replace(media, modality=modality), row)
    value = row.get(modality.value)
    if value is None:
        return f"{modality} of the row", None
    path = value.get("path") if isinstance(value, dict) else value
    return str(path or f"{modality} of the row"), clipped(place.media(modality, value), row)
