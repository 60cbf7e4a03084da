"""Keys of features: hashes of weights and of content, and version numbers of the code that computes features.

Every producer of features has a constant ``VERSION``. Raise it when the same input gives other features; features of
another version are not used. ``tests/features/test_golden_features.py`` fails if features change and it was not raised.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np

from nextgpt_pl.errors import UserError
from nextgpt_pl.media.clips import clip_name, is_clip
from nextgpt_pl.media.files import existing
from nextgpt_pl.samples import Media, StoredMedia

KEY_BYTES = 20
_FILES = 2**18  # maximum number of files whose hashes are remembered, about 100 MB
_BLOCKS, _BLOCK = 16, 2**16  # of a large medium that are hashed, and their bytes
_SAMPLED = _BLOCKS * _BLOCK


def digest(*parts: bytes | str) -> bytes:
    """The key of some content; each part's length is hashed too, so borders between parts matter."""
    sha256 = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        sha256.update(len(data).to_bytes(8, "little") + data)
    return sha256.digest()[:KEY_BYTES]


def fingerprint(description: dict[str, Any]) -> str:
    """A short name for plain data."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()[:16]


def file_sha256(path: Path) -> str:
    """Hash of all of a file's bytes; cached until the file changes."""
    return _file_sha256(_FileState.of(path))


def content_sha256(path: Path) -> str:
    """Hash of a medium's size and content; cached until the file changes.

    Files of at most ``_SAMPLED`` bytes are hashed whole. Of larger ones, evenly spaced blocks are hashed, the first and
    the last included, so that a feature is found without reading the whole file. The hash is the same on all machines,
    since neither name nor mtime is part of it. The price: large files of the same size that differ only between the
    blocks have the same hash.
    """
    return _content_sha256(_FileState.of(path))


@dataclass(frozen=True)
class _FileState:
    """What changes when a file is written or replaced; valid on one machine only."""

    path: str
    size: int
    changed: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> _FileState:
        status = path.stat()
        return cls(str(path.resolve()), status.st_size, status.st_mtime_ns, status.st_ino)


@lru_cache(_FILES)
def _content_sha256(state: _FileState) -> str:
    with Path(state.path).open("rb") as file:
        return _blocks_sha256(file, state.size)


def _blocks_sha256(file: IO[bytes], size: int) -> str:
    sha256 = hashlib.sha256(str(size).encode())
    if size <= _SAMPLED:
        sha256.update(file.read())
    else:
        for block in range(_BLOCKS):
            file.seek((size - _BLOCK) * block // (_BLOCKS - 1))
            sha256.update(file.read(_BLOCK))
    return sha256.hexdigest()


@lru_cache(_FILES)
def _file_sha256(state: _FileState) -> str:
    path = state.path
    with Path(path).open("rb") as file:
        return (
            hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _hash_blocks(file)
        )


def _hash_blocks(file: Any) -> str:
    sha256 = hashlib.sha256()
    while block := file.read(2**24):
        sha256.update(block)
    return sha256.hexdigest()


def folder_sha256(folder: Path, patterns: Iterable[str] = ("*.safetensors", "*.bin", "*.gguf", "*.json")) -> str:
    """Hash of a model's weights and configuration: names and contents of all matching files in a folder."""
    files = sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
    return fingerprint({path.name: file_sha256(path) for path in files})


def media_key(media: Media) -> bytes:
    """The key of a medium's content.

    Hash of a file's content, see :func:`content_sha256`. A medium that is rendered on demand is identified by its
    source's ``content_key()``, or rendered and hashed if there is none.

    Raises:
        UserError: the file is missing or cannot be read.

    """
    rates = _rates(media)
    if isinstance(media.source, Path):
        try:
            return digest("content", content_sha256(existing(media.source)), rates)
        except OSError as error:
            raise UserError(f"{media.source}: cannot be read ({error.strerror})") from error
    if isinstance(media.source, StoredMedia):
        data = media.source.read()
        return digest("content", _blocks_sha256(io.BytesIO(data), len(data)), rates)
    return _source_key(media.source, rates)


def media_name(media: Media) -> bytes:
    """A key that is valid in this process only: like :func:`media_key`, but of a file's path, size, mtime and inode.

    For a medium inside a file, this is the file. The key holds no reference to the medium.
    """
    rates, source = _rates(media), media.source
    if isinstance(source, StoredMedia):
        return digest("stored", repr(source), _state_name(source.path) if source.path is not None else "", rates)
    return digest("path", _state_name(source), rates) if isinstance(source, Path) else _source_key(source, rates)


def _state_name(path: Path) -> str:
    """A file's state as text; its path if it cannot be found, which the reader of the file reports."""
    try:
        state = _FileState.of(path)
    except (OSError, ValueError):
        return str(path)
    return f"{state.size}:{state.changed}:{state.inode}:{state.path}"


def _rates(media: Media) -> str:
    rates = (media.modality, media.sample_rate, media.fps)
    return ":".join(map(str, (*rates, clip_name(media)) if is_clip(media) else rates))


def _source_key(source: Callable[[], np.ndarray], rates: str) -> bytes:
    content_key = getattr(source, "content_key", None)
    if content_key is not None:
        return digest("rendered", content_key(), rates)
    array = np.ascontiguousarray(source())
    return digest("array", array.tobytes(), f"{array.dtype}{array.shape}", rates)
