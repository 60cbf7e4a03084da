"""Decode frames: chosen ones of a video by seeking if its packets can be trusted, else all that decode, in order."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nextgpt_pl.media.timeline import Timeline

# of a decoder: data-loader workers run beside each other; and with frame threads, which do not conceal errors, the
# frames of a damaged H.264 video differ from one reading to the next
THREADS = 1


class MissingFrameError(Exception):
    """A frame that the packets promise was not decoded."""


def decode_at(container: Any, stream: Any, timeline: Timeline, numbers: Sequence[int]) -> Iterator[Any]:
    """The frames of ascending, distinct numbers.

    Decoding starts at the last keyframe before a frame. On the way to it, frames that no other depends on are skipped.

    Raises:
        MissingFrameError: a frame was not decoded.

    """
    wanted = {timeline.packets[timeline.order[number]].time for number in numbers}
    found = 0
    for first, last in _runs(timeline, [timeline.order[number] for number in numbers]):
        for frame in _decode_run(container, stream, timeline, first, last, wanted):
            found += 1
            yield frame
    if found != len(numbers):
        raise MissingFrameError(f"{found} of {len(numbers)} frames")


def _runs(timeline: Timeline, positions: Sequence[int]) -> list[tuple[int, int]]:
    """First and last packets of the stretches that have to be decoded; stretches that touch are joined."""
    runs: list[tuple[int, int]] = []
    for position in positions:
        first = timeline.keyframe(position)
        if runs and first <= runs[-1][1] + 1:
            runs[-1] = runs[-1][0], max(position, runs[-1][1])
        else:
            runs.append((first, position))
    return runs


def _decode_run(
    container: Any, stream: Any, timeline: Timeline, first: int, last: int, wanted: set[int]
) -> Iterator[Any]:
    start, end = timeline.packets[first], timeline.packets[last]
    container.seek(start.seek_time, stream=stream, backward=True)
    started, previous = False, None
    for packet in container.demux(stream):
        # the container may be positioned before the keyframe
        started = started or packet.pts == start.time
        if not started:
            continue
        stream.codec_context.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
        ended = packet.pts == end.time or not packet.size
        for frame in [*packet.decode(), *(stream.decode(None) if packet.size and ended else ())]:
            if previous is not None and frame.pts <= previous:
                raise MissingFrameError("frames are out of order")
            previous = frame.pts
            if frame.pts in wanted:
                yield frame
        if ended:
            return


def decodable_frames(path: Path, container: Any, stream: Any) -> Iterator[Any]:
    """The frames of a video or sound in order; damaged packets are passed over with a warning.

    Whether a file can be read therefore does not depend on which of its frames are wanted.

    Args:
        path: the file, for the warning.
        container: the opened file.
        stream: its stream.

    Raises:
        FFmpegError: no packet can be decoded.

    """
    from av.error import FFmpegError

    packets, found, damaged = container.demux(stream), False, 0
    first: FFmpegError | None = None
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                break
            frames = packet.decode()
        except FFmpegError as error:
            first, damaged = first or error, damaged + 1
            continue
        for frame in frames:
            found = True
            yield frame
    if first is not None and not found:
        raise first
    if first is not None:
        warnings.warn(
            f"{path}: {damaged} packets cannot be decoded ({first.strerror}): the others are used", stacklevel=2
        )


def decode_in_order(frames: Iterator[Any], numbers: Sequence[int]) -> Iterator[Any]:
    """The frames of ascending, distinct numbers; all frames up to the last one are decoded."""
    wanted = set(numbers)
    for number, frame in enumerate(frames):
        if number in wanted:
            yield frame
        if number >= numbers[-1]:
            return


@dataclass(frozen=True)
class Orientation:
    """How stored frames are shown: transposed first, then mirrored."""

    transposed: bool = False
    mirrored_x: bool = False
    mirrored_y: bool = False

    @classmethod
    def of(cls, frame: Any) -> Orientation:
        """The orientation by the frame's display matrix.

        PyAV's side data and frame refer to each other, so the frame stays in memory until the garbage collection: ask
        for the first frame of a video only.
        """
        data = frame.side_data.get("DISPLAYMATRIX")
        if data is None:
            return cls()
        # (x, y) is shown at (a x + c y, b x + d y)
        a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].astype(np.int64).tolist()
        if abs(a) + abs(d) < abs(b) + abs(c):
            return cls(True, mirrored_x=c < 0, mirrored_y=b < 0)
        return cls(False, mirrored_x=a < 0, mirrored_y=d < 0)

    def picture(self, frame: Any, reformatter: Any) -> np.ndarray:
        """A frame as it is shown, ``(H, W, 3)`` uint8.

        Args:
            frame: the frame.
            reformatter: of the whole video; a new one for each frame takes longer.

        """
        array: np.ndarray = reformatter.reformat(frame, format="rgb24").to_ndarray()
        if self.transposed:
            array = array.transpose(1, 0, 2)
        return array[:: -1 if self.mirrored_y else 1, :: -1 if self.mirrored_x else 1]
