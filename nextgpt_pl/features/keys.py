"""Keys of features: hashes of weights and of content, and version numbers of the code that computes features.

Every producer of features has a constant ``VERSION``. Raise it when the same input gives other features; features of
another version are not used. ``tests/features/test_golden_features.py`` fails if features change and it was not raised.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from nextgpt_pl.errors import UserError
from nextgpt_pl.samples import Media

KEY_BYTES = 20
_FILES = 2**18  # maximum number of files whose hashes are remembered, about 100 MB


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
    """Hash of a file's bytes; cached until its size or mtime changes."""
    status = path.stat()
    return _file_sha256(str(path.resolve()), status.st_size, status.st_mtime_ns)


@lru_cache(_FILES)
def _file_sha256(path: str, _size: int, _changed: int) -> str:
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

    Hash of a file's bytes. A medium that is rendered on demand is identified by its source's ``content_key()``, or
    rendered and hashed if there is none.

    Raises:
        UserError: the file is missing or cannot be read.

    """
    rates = f"{media.modality}:{media.sample_rate}:{media.fps}"
    if isinstance(media.source, Path):
        try:
            return digest("file", file_sha256(media.source), rates)
        except OSError as error:
            raise UserError(f"{media.source}: cannot be read ({error.strerror})") from error
    return _source_key(media.source, rates)


def media_name(media: Media) -> bytes:
    """A key that is valid in this process only: like :func:`media_key`, but of a file's path, size and mtime.

    The key holds no reference to the medium.
    """
    rates = f"{media.modality}:{media.sample_rate}:{media.fps}"
    if not isinstance(media.source, Path):
        return _source_key(media.source, rates)
    try:
        status = media.source.stat()
    except OSError:  # the reader of the file reports the error
        return digest("path", str(media.source), rates)
    return digest("path", str(media.source), f"{status.st_size}:{status.st_mtime_ns}", rates)


def _source_key(source: Callable[[], np.ndarray], rates: str) -> bytes:
    content_key = getattr(source, "content_key", None)
    if content_key is not None:
        return digest("rendered", content_key(), rates)
    array = np.ascontiguousarray(source())
    return digest("array", array.tobytes(), f"{array.dtype}{array.shape}", rates)
