"""Media files and caption embeddings as bytes: copied as they are, or written without loss if they are no files."""

from __future__ import annotations

import io
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from nextgpt_pl.datamodules.rows import load_embedding
from nextgpt_pl.errors import UserError
from nextgpt_pl.media.arrays import ARRAYS
from nextgpt_pl.media.files import existing
from nextgpt_pl.media.reading import array_of, check_readable
from nextgpt_pl.media.writing import save_exactly, save_samples_exactly
from nextgpt_pl.modality import MODALITIES, Modality
from nextgpt_pl.readers.stored import MAX_BYTES
from nextgpt_pl.readers.tars import EMBEDDING
from nextgpt_pl.samples import Media, StoredMedia


@dataclass(frozen=True)
class Blob:
    """A file in a shard.

    Attributes:
        content: its bytes.
        ending: of its name in a tar shard, from which readers tell its modality: ``jpg``, ``depth.npy``.
        name: its name before, if it had one.

    """

    content: bytes
    ending: str
    name: str = ""


def blob_of(media: Media, *, check: bool) -> Blob:
    """A medium's file; a medium that is made on demand is written without loss.

    Args:
        media: the medium; of a clip, the whole file.
        check: decode it to find out whether it can be read.

    Raises:
        UserError: it is missing, empty or too large, or cannot be decoded.

    """
    if not isinstance(media.source, (Path, StoredMedia)):
        return _written(media)
    if check:
        check_readable(media)
    content, name = _bytes(media.source)
    if not content:
        raise UserError(f"{media.source}: the file is empty")
    return Blob(content, _ending(content, name, media.modality), name)


def embedding_blob(source: Path | StoredMedia) -> Blob:
    """A caption embedding's file.

    Raises:
        UserError: it is missing or unreadable, or a number is not finite.

    """
    load_embedding(source)
    content, name = _bytes(source)
    return Blob(content, EMBEDDING, name)


def _bytes(source: Path | StoredMedia) -> tuple[bytes, str]:
    """The bytes of a file, and its name."""
    if isinstance(source, StoredMedia):
        return source.read(), PurePosixPath(getattr(source, "name", "")).name
    size = existing(source).stat().st_size
    if size > MAX_BYTES:
        raise UserError(f"{source}: {size:,} bytes; at most {MAX_BYTES:,} of one medium are read from shards")
    try:
        return source.read_bytes(), source.name
    except OSError as error:
        raise UserError(f"{source}: {error.strerror}") from error


def _ending(content: bytes, name: str, modality: Modality) -> str:
    """The ending that tells readers the modality: the name's own, that of the format, or behind the modality's name."""
    endings = MODALITIES[modality].suffixes
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in endings:
        return suffix[1:]
    if modality is Modality.IMAGE:
        with suppress(Exception), Image.open(io.BytesIO(content)) as image:  # check_readable reports what is unreadable
            suffix = f".{image.format}".lower()
            if suffix in endings:
                return suffix[1:]
    return f"{modality}.npy" if modality in ARRAYS else f"{modality}.bin"


def _written(media: Media) -> Blob:
    array, rate = array_of(media)
    if media.modality in ARRAYS:
        buffer = io.BytesIO()
        np.save(buffer, array)
        return Blob(buffer.getvalue(), f"{media.modality}.npy")
    with tempfile.TemporaryDirectory() as folder:
        stem = Path(folder) / "medium"
        save = save_samples_exactly if media.modality.form is Modality.AUDIO else save_exactly
        file = save(array, media.modality, stem, rate)
        return Blob(file.read_bytes(), file.suffix[1:])
