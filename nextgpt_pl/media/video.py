"""Read video files: only the wanted frames are decoded, each is scaled before the next is decoded."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nextgpt_pl.errors import UserError
from nextgpt_pl.media.files import MAX_PIXELS, MAX_SECONDS, check_sides, existing, unreadable
from nextgpt_pl.media.frames import (
    THREADS,
    MissingFrameError,
    Orientation,
    decodable_frames,
    decode_at,
    decode_in_order,
)
from nextgpt_pl.media.timeline import chosen_frames, clip_frames, read_timeline

#: a function of a frame ``(H, W, 3)`` uint8, applied when the frame is decoded
Transform = Callable[[np.ndarray], np.ndarray]

MAX_BYTES = 2**28  # of all frames of a video that are read without a transform


def load_video(
    path: Path,
    count: int | None = None,
    transform: Transform | None = None,
    max_pixels: int = MAX_PIXELS,
    max_seconds: float = MAX_SECONDS,
    repeat: bool = True,
    start: float = 0.0,
    end: float | None = None,
) -> tuple[np.ndarray, float]:
    """Read a video's frames ``(T, H, W, 3)`` uint8 and its frames per second.

    Frames are turned by the video's display matrix. With a variable frame rate, frames are chosen by time: frame i of
    all frames is the one nearest to i / fps seconds. Frames of another size than the first are resized to it. Frames
    that need more than ``MAX_BYTES`` in total are scaled down to that, with a warning.

    Args:
        path: the file.
        count: number of evenly spread frames; some are repeated if the video has fewer. ``None``: all frames.
        transform: applied to each frame ``(H, W, 3)`` when it is decoded; the result has its outputs, of one shape.
        max_pixels: maximum number of pixels per frame.
        max_seconds: maximum duration.
        repeat: repeat frames of a video that has fewer than ``count``; otherwise there are fewer.
        start: seconds at which a clip of the file begins; its frames are as if the file had no others.
        end: seconds at which the clip ends; ``None``: the end of the file.

    Raises:
        UserError: the file is missing, unreadable or too large, or ends before the clip begins.

    """
    from av.error import FFmpegError

    request = _Request(path, count, transform, max_pixels, max_seconds, repeat, start, end)
    try:
        with suppress(MissingFrameError, FFmpegError):
            return _load_by_seeking(request)
        return _load_in_order(request)
    except UserError:
        raise
    except Exception as error:  # a decoder may raise anything on damaged data
        raise unreadable(path, "video", error) from error


@dataclass(frozen=True)
class _Request:
    """The arguments of :func:`load_video`."""

    path: Path
    count: int | None
    transform: Transform | None
    max_pixels: int
    max_seconds: float
    repeat: bool
    start: float
    end: float | None

    @property
    def last_second(self) -> float:
        """Where reading may stop: the end of the clip, or where it is too long."""
        longest = self.start + self.max_seconds
        return longest if self.end is None else min(self.end, longest)

    def numbers(self, seconds: np.ndarray, fps: float) -> np.ndarray:
        """Numbers of the frames to return, ascending.

        Args:
            seconds: when each frame of the file is shown, ``(T,)``, ascending from 0.
            fps: frames per second.

        Raises:
            UserError: the clip is too long, or begins behind the end of the file.

        """
        first, stop = clip_frames(seconds, self.start, self.end)
        if first == len(seconds):
            length = seconds[-1] + 1 / fps
            raise UserError(f"{self.path}: a clip begins at {self.start:g} s, but the file has {length:g} s")
        seconds = seconds[first:stop]
        if seconds[-1] - seconds[0] > self.max_seconds:
            raise UserError(f"{self.path}: longer than {self.max_seconds:g} seconds")
        count = self.count if self.count is None or self.repeat else min(self.count, len(seconds))
        return first + chosen_frames(seconds, count)


@contextmanager
def _opened(request: _Request) -> Iterator[tuple[Any, Any, float]]:
    """The container, its first video stream and the frames per second."""
    import av

    with av.open(str(existing(request.path))) as container:
        if not container.streams.video:
            raise UserError(f"{request.path}: holds no video")
        stream = container.streams.video[0]
        check_sides(str(request.path), stream.width, stream.height, request.max_pixels)
        stream.codec_context.thread_count = THREADS
        yield container, stream, float(stream.average_rate or 0) or 1.0


def _load_by_seeking(request: _Request) -> tuple[np.ndarray, float]:
    """Decode the chosen frames and those that they depend on.

    Raises:
        MissingFrameError: the packets do not say when frames are shown, or not all of them can be decoded.

    """
    with _opened(request) as (container, stream, fps):
        timeline = read_timeline(container, stream, request.last_second)
        if timeline is None:
            raise MissingFrameError("unknown times")
        numbers = request.numbers(timeline.seconds - timeline.seconds[0], fps)
        frames = decode_at(container, stream, timeline, np.unique(numbers).tolist())
        return _collected(request, frames, numbers), fps


def _load_in_order(request: _Request) -> tuple[np.ndarray, float]:
    """Decode all frames twice: to count them, and to convert the chosen ones; frames are never all in memory."""
    length = 0
    with _opened(request) as (container, stream, fps):
        for _ in decodable_frames(request.path, container, stream):
            length += 1
            if (length - 1) / fps > request.last_second:
                break
    if not length:
        raise UserError(f"{request.path}: holds no frame")
    numbers = request.numbers(np.arange(length) / fps, fps)
    with _opened(request) as (container, stream, fps):
        frames = decode_in_order(decodable_frames(request.path, container, stream), np.unique(numbers).tolist())
        return _collected(request, frames, numbers), fps


def _collected(request: _Request, frames: Iterator[Any], numbers: np.ndarray) -> np.ndarray:
    """One converted frame for each of the ascending ``numbers``, whose distinct ones ``frames`` yields."""
    _, repeats = np.unique(numbers, return_counts=True)
    pictures = _pictures(request, frames)
    first = next(pictures)
    transform = request.transform or _fitting(request.path, first, len(numbers))
    converted = transform(first)
    out = np.empty((len(numbers), *converted.shape), converted.dtype)
    ends = repeats.cumsum()
    out[: ends[0]] = converted
    for picture, start, end in zip(pictures, ends[:-1], ends[1:], strict=True):
        out[start:end] = transform(picture)
    return out


def _pictures(request: _Request, frames: Iterator[Any]) -> Iterator[np.ndarray]:
    """Frames as they are shown."""
    from av.video.reformatter import VideoReformatter

    orientation: Orientation | None = None
    reformatter = VideoReformatter()
    for frame in frames:
        check_sides(str(request.path), frame.width, frame.height, request.max_pixels)
        orientation = orientation or Orientation.of(frame)
        yield orientation.picture(frame, reformatter)


def _fitting(path: Path, first: np.ndarray, count: int) -> Transform:
    """Resize frames to the size of the first; to a smaller one if all of them would need too much memory."""
    height, width = first.shape[:2]
    scale = (MAX_BYTES / (count * first.nbytes)) ** 0.5
    if scale < 1:
        full, height, width = f"{width} x {height}", max(1, int(height * scale)), max(1, int(width * scale))
        warnings.warn(
            f"{path}: its {count} frames of {full} need more than {MAX_BYTES // 2**20} MB: they are scaled to"
            f" {width} x {height}",
            stacklevel=2,
        )
    return partial(resized, height=height, width=width)


def resized(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize ``(H, W, 3)`` uint8, bicubic."""
    if picture.shape[:2] == (height, width):
        return picture
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))
