"""Captioned data sets whose rows name their media by a rule, such as CC3M, WebVid, AudioCaps, COCO and MSR-VTT."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import Modality, modality_of_file
from nextgpt_pl.readers.model import Captioned
from nextgpt_pl.readers.place import Place
from nextgpt_pl.readers.values import captions_of

_URL = re.compile(r"https?://")
_NUMBERED = re.compile(r"#\d+$")
CLOTHO_CAPTIONS = tuple(f"caption_{number}" for number in range(1, 6))


def _named(
    row: Mapping[str, Any],
    place: Place,
    modality: Modality,
    names: Sequence[str],
    captions: Sequence[str],
    identity: Any,
) -> list[Captioned]:
    name, media = place.named(modality, row, names)
    return [Captioned(modality, name, tuple(captions), media, identity=str(identity))]


def text_at(row: Mapping[str, Any], key: str) -> str:
    """A value of a row that is part of a file name.

    Raises:
        UserError: it is neither a text nor a number, or empty.

    """
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise UserError(f"{key}={value!r:.80}: a text or a number is expected")
    return str(value)


def _is_medium(text: str) -> bool:
    try:
        modality_of_file(text)
    except ValueError:
        return False
    return True


def medium_of_pair(row: Mapping[str, Any]) -> str:
    """Of two columns without a header, the URL or the file name; empty if neither is one."""
    for value in (row.get("1"), row.get("0")):
        if isinstance(value, str):
            name = _NUMBERED.sub("", value.strip())
            if _URL.match(name) or (_is_medium(name) and " " not in name):
                return name
    return ""


def pair(row: dict[str, Any], place: Place) -> list[Captioned]:
    """Caption and URL of CC3M, URL and caption of CC12M, ``1000092795.jpg#0`` and caption of Flickr30k.

    Columns without a header; of a URL, the last part is the file's name.
    """
    medium = medium_of_pair(row)
    if not medium:
        raise UserError(
            f"two columns without a header, {row['0']!r:.40} and {row['1']!r:.40}: one is expected to be a URL or a "
            "file name; columns: in the YAML says which column means what"
        )
    caption = next(key for key in ("0", "1") if _NUMBERED.sub("", row[key].strip()) != medium)
    name = PurePosixPath(unquote(urlsplit(medium).path)).name if _URL.match(medium) else medium
    if not name and place.media_name is None:
        raise UserError(f"{medium!r:.80}: the URL ends without a file name; media_name: makes one of the columns")
    # the URLs of CC3M are those of images, whatever they end in
    modality = modality_of_file(name) if _is_medium(name) else Modality.IMAGE
    return _named(row, place, modality, [name], captions_of(row, [caption]), "")


def webvid(row: dict[str, Any], place: Place) -> list[Captioned]:
    """``videoid``, ``page_dir`` and the caption ``name``."""
    video = text_at(row, "videoid")
    names = [f"{text_at(row, 'page_dir')}/{video}.mp4", f"{video}.mp4"]
    return _named(row, place, Modality.VIDEO, names, captions_of(row, ["name"]), video)


def audiocaps(row: dict[str, Any], place: Place) -> list[Captioned]:
    """``youtube_id``, ``start_time`` and ``caption``; a clip of the test split has five rows."""
    clip, start = text_at(row, "youtube_id"), text_at(row, "start_time")
    names = [f"{clip}.wav", f"{clip}_{start}.wav"]
    return _named(row, place, Modality.AUDIO, names, captions_of(row, ["caption"]), clip)


def audiocaps_without_header(row: dict[str, Any], place: Place) -> list[Captioned]:
    """The columns of AudioCaps without their names."""
    if not (row["0"].isdigit() and row["2"].isdigit()):
        raise UserError(
            "four columns without a header are those of AudioCaps: audiocap_id, youtube_id, start_time and caption, "
            f"but these are {list(row.values())!r:.120}; columns: in the YAML says which column means what"
        )
    return audiocaps(
        dict(zip(("audiocap_id", "youtube_id", "start_time", "caption"), row.values(), strict=True)), place
    )


def clotho(row: dict[str, Any], place: Place) -> list[Captioned]:
    """``file_name`` and five captions."""
    captions = [caption for key in CLOTHO_CAPTIONS if key in row for caption in captions_of(row, [key])]
    return _named(row, place, Modality.AUDIO, [text_at(row, "file_name")], captions, "")


def wavcaps(row: dict[str, Any], place: Place) -> list[Captioned]:
    """``id`` and ``caption``; ``audio`` is a path, or the word ``wav_path`` of the published files."""
    identity, audio = text_at(row, "id"), row.get("audio")
    stem = identity.removesuffix(".wav")
    given = [audio] if isinstance(audio, str) and _is_medium(audio) else []
    return _named(
        row, place, Modality.AUDIO, [*given, f"{stem}.flac", f"{stem}.wav"], captions_of(row, ["caption"]), identity
    )


def coco(row: dict[str, Any], place: Place) -> list[Captioned]:
    """An image of COCO's object, with its captions."""
    name, url = text_at(row, "file_name"), str(row.get("coco_url") or "")
    folder = PurePosixPath(urlsplit(url).path).parent.name
    names = [name, *([f"{folder}/{name}"] if folder else [])]
    return _named(row, place, Modality.IMAGE, names, captions_of(row, ["captions"]), row["id"])


def karpathy(row: dict[str, Any], place: Place) -> list[Captioned]:
    """An image of Karpathy's ``dataset_coco.json`` or ``dataset_flickr30k.json``."""
    name, sentences = text_at(row, "filename"), row["sentences"]
    if not isinstance(sentences, list) or not all(isinstance(s, dict) and "raw" in s for s in sentences):
        raise UserError(f"sentences={sentences!r:.80}: a list of objects with raw is expected")
    names = [*([f"{row['filepath']}/{name}"] if row.get("filepath") else []), name]
    captions = captions_of({"sentences": [sentence["raw"] for sentence in sentences]}, ["sentences"])
    return _named(row, place, Modality.IMAGE, names, captions, row.get("cocoid", row.get("imgid", "")))


def flickr30k(row: dict[str, Any], place: Place) -> list[Captioned]:
    """``image_name``, ``comment_number`` and ``comment``."""
    name = text_at(row, "image_name").strip()
    return _named(row, place, Modality.IMAGE, [name], captions_of(row, ["comment"]), "")


def msrvtt(row: dict[str, Any], place: Place) -> list[Captioned]:
    """A video of MSR-VTT's object with its captions, or a row of the table ``MSRVTT_JSFUSION_test.csv``."""
    video = text_at(row, "video_id")
    return _named(row, place, Modality.VIDEO, [f"{video}.mp4"], captions_of(row, ["captions", "sentence"]), video)
