"""Read media files. Sizes are bounded, and every error names the file.

Arrays: image ``(H, W, 3)`` uint8, video ``(T, H, W, 3)`` uint8, audio ``(samples,)`` float32 mono; depth and thermal
``(H, W)`` and IMU ``(6, n)`` float32, from ``.npy`` files; others as the rows of :mod:`nextgpt_pl.modality` say.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nextgpt_pl.errors import UserError
from nextgpt_pl.media.arrays import ARRAYS, finite, readings
from nextgpt_pl.media.clips import cut, is_clip
from nextgpt_pl.media.files import MAX_PIXELS, existing, unreadable
from nextgpt_pl.media.images import load_image, rgb
from nextgpt_pl.media.sound import load_audio
from nextgpt_pl.media.timeline import spread
from nextgpt_pl.media.video import Transform, load_video
from nextgpt_pl.modality import MODALITIES, Modality
from nextgpt_pl.samples import Media, StoredMedia

VERSION = 3  # raise it when a file is read differently or other files are refused; see nextgpt_pl.features.keys


def load_array(path: Path, modality: Modality) -> np.ndarray:
    """Read an array of a modality that is stored as one from a ``.npy`` file, or by the reader of the modality's row.

    Arrays of objects are refused.

    Raises:
        UserError: the file is missing or unreadable, or the array is not valid, see :func:`readings`.

    """
    spec = MODALITIES[modality].array
    reader = spec.reader if spec is not None and not _is_npy(existing(path)) else None
    try:
        # mapped, so that a header that promises more than the file holds allocates nothing
        array = _imported(reader)(path) if reader else np.load(path, mmap_mode="r", allow_pickle=False)
    except UserError:
        raise
    except Exception as error:  # a decoder may raise anything on damaged data
        raise unreadable(path, f"file of {modality}" if reader else ".npy file", error) from error
    if not isinstance(array, np.ndarray):
        raise UserError(f"{path}: not a readable .npy file (it holds several arrays)")
    if array.size > MAX_PIXELS:
        raise UserError(f"{path}: an array of {array.shape}, at most {MAX_PIXELS:,} values are read")
    return readings(np.array(array), modality, str(path))


def _is_npy(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(6) == b"\x93NUMPY"
    except OSError as error:
        raise unreadable(path, "file", error) from error


def _imported(name: str) -> Callable[[Path], np.ndarray]:
    """The function with a dotted name, from a row of the table of modalities."""
    module, _, function = name.rpartition(".")
    found: Callable[[Path], np.ndarray] = getattr(importlib.import_module(module), function)
    return found


def array_of(media: Media) -> tuple[np.ndarray, float | None]:
    """Read a medium's array and its rate in frames per second or hertz; ``None`` if it has no rate.

    Raises:
        UserError: the file is missing, unreadable or too large, or a value is not finite.

    """
    if isinstance(media.source, StoredMedia):
        with file_with(media.source.read(), str(media.source)) as file:
            return array_of(replace(media, source=file))
    if is_clip(media) and not _is_video_file(media):
        array, rate = array_of(replace(media, start=None, end=None))
        return cut(array, rate, media), rate
    if not isinstance(media.source, Path):
        where = f"{media.modality} made by {getattr(media.source, '__qualname__', media.source)}"
        return finite(media.source(), media.modality, where), media.sample_rate or media.fps
    if media.modality is Modality.IMAGE:
        return load_image(media.source), None
    if media.modality in ARRAYS:
        return load_array(media.source, media.modality), None
    return _load_video(media, media.source) if media.modality is Modality.VIDEO else load_audio(media.source)


def _is_video_file(media: Media) -> bool:
    return media.modality is Modality.VIDEO and isinstance(media.source, Path)


def _load_video(
    media: Media, path: Path, count: int | None = None, transform: Transform | None = None, *, repeat: bool = True
) -> tuple[np.ndarray, float]:
    """Read a video, or the clip of it that ``media`` is; see :func:`load_video`."""
    return load_video(path, count, transform, repeat=repeat, start=media.start or 0.0, end=media.end)


def frames_of(media: Media, count: int, transform: Transform | None = None, *, repeat: bool = True) -> np.ndarray:
    """Evenly spread frames of a video ``(count, H, W, 3)`` uint8; the others are not kept in memory.

    Args:
        media: the video.
        count: number of frames.
        transform: applied to each frame when it is decoded; see :func:`load_video`.
        repeat: repeat frames of a video that has fewer than ``count``; otherwise there are fewer.

    Raises:
        UserError: the file is missing, unreadable or too large.

    """
    if isinstance(media.source, StoredMedia):
        with file_with(media.source.read(), str(media.source)) as file:
            return frames_of(replace(media, source=file), count, transform, repeat=repeat)
    if isinstance(media.source, Path):
        return _load_video(media, media.source, count, transform, repeat=repeat)[0]
    array, _ = array_of(media)
    chosen = array[spread(len(array), count if repeat else min(count, len(array)))]
    return chosen if transform is None else np.stack([transform(frame) for frame in chosen])


def check_readable(media: Media) -> None:
    """Decode a whole medium without keeping it.

    Raises:
        UserError: the file is missing, unreadable or too large, or a value is not finite.

    """
    if isinstance(media.source, StoredMedia):
        with file_with(media.source.read(), str(media.source)) as file:
            check_readable(replace(media, source=file))
    elif media.modality is Modality.VIDEO and isinstance(media.source, Path):
        _load_video(media, media.source, transform=_nothing)
    else:
        array_of(media)


def _nothing(frame: np.ndarray) -> np.ndarray:
    return np.empty(0, np.uint8)


def as_array(source: Any, modality: Modality, where: str = "") -> tuple[np.ndarray, float | None]:
    """Convert the bytes of a file, a PIL image or an array to a medium's array, and its rate if the bytes hold one.

    Raises:
        UserError: the source is none of these, the array has another shape or dtype, or a value is not finite.

    """
    if isinstance(source, (bytes, bytearray)):
        return _from_bytes(bytes(source), modality, where)
    try:
        if isinstance(source, Image.Image) and modality not in ARRAYS:
            source = rgb(source, where)
        array = np.asarray(source)
    except UserError:
        raise
    except Exception as error:  # Pillow decodes lazily, and numpy refuses nested lists of unequal lengths
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{where}: {type(source).__name__} cannot be read as {modality} ({reason})") from error
    if modality in ARRAYS:
        return readings(array, modality, where), None
    if modality.form is Modality.AUDIO:
        if array.ndim != 1 or array.dtype.kind != "f" or not array.size:
            raise UserError(f"{where}: audio arrays are floating-point (n,), got {array.dtype} {array.shape}")
        return finite(array.astype(np.float32), modality, where), None
    dimensions = 4 if modality is Modality.VIDEO else 3
    if array.ndim != dimensions or array.shape[-1] != 3 or array.dtype != np.uint8 or not array.size:
        shape = "(T, H, W, 3)" if modality is Modality.VIDEO else "(H, W, 3)"
        raise UserError(f"{where}: {modality} arrays are uint8 {shape}, got {array.dtype} {array.shape}")
    return array, None


def _from_bytes(data: bytes, modality: Modality, where: str) -> tuple[np.ndarray, float | None]:
    with file_with(data, where or f"bytes of {modality}") as file:
        return array_of(Media(modality, file))


@contextmanager
def file_with(data: bytes, where: str) -> Iterator[Path]:
    """A temporary file: video and audio libraries read files, and ignore the file name's extension.

    Raises:
        UserError: the error of the block, which names ``where`` instead of the temporary file.

    """
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        try:
            yield Path(file.name)
        except UserError as error:
            raise UserError(str(error).replace(file.name, where)) from None
