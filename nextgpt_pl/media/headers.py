"""Sizes, rates and durations of media, from the headers of their files; nothing is decoded."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nextgpt_pl.errors import UserError
from nextgpt_pl.media.files import MAX_PIXELS, MAX_SECONDS, check_sides, existing, unreadable
from nextgpt_pl.media.images import opened_image
from nextgpt_pl.media.reading import array_of, file_with, load_array
from nextgpt_pl.modality import MODALITIES, Modality
from nextgpt_pl.samples import Media, StoredMedia


@dataclass(frozen=True)
class Header:
    """What a file tells of its medium; ``None`` where it does not tell it, or the modality has no such property.

    Attributes:
        size: bytes of the file; ``None`` for media that are made on demand.
        width: pixels of an image or frame, as stored.
        height: pixels of an image or frame, as stored.
        seconds: duration of a video or sound; of a clip, that of the clip.
        rate: frames per second of a video, hertz of a sound.

    """

    size: int | None = None
    width: int | None = None
    height: int | None = None
    seconds: float | None = None
    rate: float | None = None


def read_header(media: Media) -> Header:
    """The header of a medium's file. A medium that is made on demand is made, since it has no file.

    Raises:
        UserError: the file is missing or no medium of this modality, or larger than what is read in training.

    """
    if isinstance(media.source, StoredMedia):
        with file_with(media.source.read(), str(media.source)) as file:
            return read_header(replace(media, source=file))
    if not isinstance(media.source, Path):
        return _of_array(*array_of(media), media.modality)
    path = existing(media.source)
    try:
        spec = MODALITIES[media.modality].array
        if spec is not None and spec.reader is not None:  # whose files need have no header
            header = _read_whole(path, media.modality)
        else:
            header = _READERS.get(media.modality, _array)(path)
    except UserError:
        raise
    except Exception as error:  # a decoder may raise anything on damaged data
        raise unreadable(path, str(media.modality), error) from error
    header = replace(header, size=path.stat().st_size, seconds=_of_clip(header.seconds, media))
    if (header.seconds or 0) > MAX_SECONDS:
        raise UserError(f"{path}: {header.seconds:.0f} seconds, at most {MAX_SECONDS:g} are read")
    return header


def _of_clip(seconds: float | None, media: Media) -> float | None:
    """Duration of the part of a file that the medium is."""
    start = media.start or 0.0
    if seconds is not None and start >= seconds:
        raise UserError(f"{media.source}: a clip begins at {start:g} s, but the file has {seconds:g} s")
    end = min((end for end in (seconds, media.end) if end is not None), default=None)
    return None if end is None else max(0.0, end - start)


def _image(path: Path) -> Header:
    with opened_image(path) as image:
        check_sides(str(path), image.width, image.height)
        return Header(width=image.width, height=image.height)


def _video(path: Path) -> Header:
    import av

    with av.open(str(path)) as container:
        if not container.streams.video:
            raise UserError(f"{path}: holds no video")
        stream = container.streams.video[0]
        check_sides(str(path), stream.width, stream.height)
        seconds = _seconds(container, stream)
        rate = _positive(stream.average_rate)
        if seconds is None and rate and stream.frames:
            seconds = stream.frames / rate
        return Header(width=stream.width, height=stream.height, seconds=seconds, rate=rate)


def _audio(path: Path) -> Header:
    import av
    import soundfile

    try:
        info = soundfile.info(str(path))
    except soundfile.LibsndfileError:  # a container that libsndfile does not support
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise UserError(f"{path}: holds no sound") from None
            stream = container.streams.audio[0]
            return Header(seconds=_seconds(container, stream), rate=_positive(stream.rate))
    return Header(seconds=_positive(info.frames / info.samplerate), rate=float(info.samplerate))


def _array(path: Path) -> Header:
    shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
    if len(shape) != 2:
        raise UserError(f"{path}: an array of two dimensions is expected, got {shape}")
    if math.prod(shape) > MAX_PIXELS:
        raise UserError(f"{path}: {shape[1]} x {shape[0]} pixels, at most {MAX_PIXELS:,} are read")
    return Header(width=shape[1], height=shape[0])


def _read_whole(path: Path, modality: Modality) -> Header:
    load_array(path, modality)
    return Header()


_READERS: dict[Modality, Callable[[Path], Header]] = {
    Modality.IMAGE: _image,
    Modality.VIDEO: _video,
    Modality.AUDIO: _audio,
}


def _seconds(container: Any, stream: Any) -> float | None:
    """Duration of a stream, or else of its container."""
    import av

    own = _positive((stream.duration or 0) * (stream.time_base or 0))
    return own or _positive((container.duration or 0) / av.time_base)


def _positive(value: Any) -> float | None:
    """The number if it is positive and finite."""
    number = float(value or 0)
    return number if 0 < number < math.inf else None


def _of_array(array: np.ndarray, rate: float | None, modality: Modality) -> Header:
    if modality.form is Modality.AUDIO:
        return Header(seconds=len(array) / rate if rate else None, rate=rate)
    if modality is Modality.VIDEO:
        seconds = len(array) / rate if rate else None
        return Header(width=array.shape[2], height=array.shape[1], seconds=seconds, rate=rate)
    return Header(width=array.shape[1], height=array.shape[0])
