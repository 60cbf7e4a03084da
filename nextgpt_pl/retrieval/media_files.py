"""The media of a gallery: files in its own folder, named by their content."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from nextgpt_pl.errors import UserError
from nextgpt_pl.features.keys import content_sha256
from nextgpt_pl.media.files import existing
from nextgpt_pl.media.reading import array_of, check_readable
from nextgpt_pl.media.writing import save_exactly, save_samples_exactly
from nextgpt_pl.modality import Modality
from nextgpt_pl.readers.files import inside
from nextgpt_pl.retrieval.records import Record
from nextgpt_pl.samples import CaptionedPair, Media, StoredMedia
from nextgpt_pl.utils.atomic import scratch_name

MEDIA = "media"
_LONGEST = 8  # characters of a file's ending


def keep(item: CaptionedPair, folder: Path) -> Record:
    """Put an item's medium into a gallery's folder; equal media are one file.

    A file is linked if it is on the same file system, else copied; a rendered medium is written without loss.

    Raises:
        UserError: the medium is missing or damaged.

    """
    media = item.media
    assert media is not None
    if media.is_file:
        check_readable(media)
    scratch = scratch_name(folder / MEDIA / "medium")
    scratch.parent.mkdir(parents=True, exist_ok=True)
    written = scratch
    try:
        if isinstance(media.source, Path):
            _link(existing(media.source).resolve(), scratch)
            ending = media.source.suffix
        elif isinstance(media.source, StoredMedia):
            scratch.write_bytes(media.source.read())
            ending = Path(str(media.source)).suffix
        else:
            written = _rendered(media, scratch.with_suffix(""))
            ending = written.suffix
        sha256 = content_sha256(written)
        name = f"{MEDIA}/{sha256[:2]}/{sha256}{ending.lower()[:_LONGEST]}"
        (folder / name).parent.mkdir(exist_ok=True)
        written.replace(folder / name)
    finally:
        # a link that replaces a link to the same file leaves both
        scratch.unlink(missing_ok=True)
        written.unlink(missing_ok=True)
    return Record(item.key, item.caption, name, sha256, media.start, media.end)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


def _rendered(media: Media, stem: Path) -> Path:
    array, rate = array_of(media)
    write = save_samples_exactly if media.modality is Modality.AUDIO else save_exactly
    return write(array, media.modality, stem, rate)


def medium_of(record: Record, modality: Modality, folder: Path) -> Media:
    """The medium of a record, which lies in the gallery's folder and has not changed.

    Raises:
        UserError: its name leaves the folder, or the file is missing or has changed.

    """
    path = existing(inside(folder, record.media))
    try:
        found = content_sha256(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if found != record.sha256:
        raise UserError(f"{path}: the file has changed since it was indexed")
    return Media(modality, path, start=record.start, end=record.end)
