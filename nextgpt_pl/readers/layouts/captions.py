"""Media with captions whose files the rows name or hold: manifests, tables, Parquet files, and tar shards."""

from __future__ import annotations

from typing import Any

from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import DECODABLE, MODALITIES, Modality, modality_of_file
from nextgpt_pl.readers.layouts.base import keys
from nextgpt_pl.readers.model import Captioned, LeftOut
from nextgpt_pl.readers.place import Place
from nextgpt_pl.readers.tars import sample_media
from nextgpt_pl.readers.values import captions_of

#: keys of a row's medium, with its modality; ``None``: the file's ending tells it
MEDIUM_KEYS: dict[str, Modality | None] = {"file": None, "file_name": None, **{m.value: m for m in DECODABLE}}
CAPTION_KEYS = ("captions", "caption", "text")
_MEMBER_CAPTIONS = ("txt", *CAPTION_KEYS)

MANIFEST_NEEDS = tuple(keys(f"{medium} {caption}") for medium in MEDIUM_KEYS for caption in CAPTION_KEYS)
SHARD_NEEDS = tuple(keys(f"__key__ {caption}") for caption in _MEMBER_CAPTIONS)
#: what img2dataset and video2dataset write about a sample
DOWNLOAD_METADATA = keys(
    "key url status error_message width height original_width original_height exif sha256 md5 "
    "clips yt_meta_dict video_metadata"
)

#: columns in which img2dataset and video2dataset hold media
HELD = ("jpg", "png", "webp", "mp4")


def modality_by_ending(name: Any) -> Modality:
    """The modality of a file name.

    Raises:
        UserError: it is no name of a medium.

    """
    if not isinstance(name, str) or not name:
        raise UserError(f"{name!r:.80} is no file name")
    try:
        return modality_of_file(name)
    except ValueError as error:
        raise UserError(str(error)) from error


def manifest(row: dict[str, Any], place: Place) -> list[Captioned]:
    """``file``, ``file_name`` or ``image``, ``video``, ``audio``, and ``caption``, ``text`` or a list ``captions``.

    The value of ``image`` may be the struct of bytes and path in which ``datasets`` saves images.
    """
    captions, found = captions_of(row, CAPTION_KEYS), []
    for key, kind in MEDIUM_KEYS.items():
        value = row.get(key)
        if value is not None:
            modality = kind or modality_by_ending(value)
            found.append(Captioned(modality, _name(value, modality), captions, place.media(modality, value)))
    if not found:
        raise UserError(f"no medium: one of the keys {', '.join(MEDIUM_KEYS)} is expected to have a value")
    return found


def _name(value: Any, modality: Modality) -> str:
    path = value.get("path") if isinstance(value, dict) else value
    return path if isinstance(path, str) and path and not path.startswith("data:") else f"{modality} of the row"


def shard_sample(row: dict[str, Any], place: Place) -> list[Captioned]:
    """A sample of a tar shard: media by their endings, and a caption in ``txt`` or in the JSON object."""
    downloaded(row)
    captions, key = captions_of(row, _MEMBER_CAPTIONS), str(row["__key__"])
    media = sample_media(row, place.file)
    if not media:
        raise UserError(f"sample {key}: no member is a medium: {', '.join(row)}")
    return [
        Captioned(medium.modality, f"{key}.{ending}", captions, medium, identity=key)
        for ending, medium in media.items()
    ]


def downloaded(row: dict[str, Any]) -> None:
    """Leave a sample out that img2dataset or video2dataset could not download.

    Raises:
        LeftOut: its ``status`` is not ``success``.

    """
    if row.get("status") not in (None, "success"):
        raise LeftOut(f"status {row['status']!r:.80}")


def downloads(row: dict[str, Any], place: Place) -> list[Captioned]:
    """A row of the Parquet files of img2dataset and video2dataset, which hold the media or lie beside their folder."""
    downloaded(row)
    captions, key, shard = captions_of(row, ("caption",)), str(row["key"]), place.file.stem
    held = next((ending for ending in HELD if row.get(ending) is not None), None)
    if held is not None:
        modality, name = modality_of_file(f".{held}"), f"{key}.{held}"
        return [Captioned(modality, name, captions, place.media(modality, row[held]), identity=key)]
    videos = any(row.get(name) for name in ("clips", "yt_meta_dict", "video_metadata"))
    modality = Modality.VIDEO if videos else Modality.IMAGE
    endings = MODALITIES[modality].suffixes if videos else (".jpg", ".png", ".webp")
    name, media = place.named(modality, row, [f"{shard}/{key}{ending}" for ending in endings])
    return [Captioned(modality, name, captions, media, identity=key)]
