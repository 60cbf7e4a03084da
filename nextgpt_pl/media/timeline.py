"""When the frames of a video are shown, and which of them are evenly spread; from packets, without decoding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

_ROUNDING = 1e-4  # seconds
_SLACK = 10.0  # seconds that packets may be out of order


@dataclass(frozen=True)
class Packet:
    """A packet that holds one frame.

    Attributes:
        time: when its frame is shown, in units of the stream.
        seek_time: where a container is positioned to read it.
        key: whether its frame can be decoded without others.

    """

    time: int
    seek_time: int
    key: bool


@dataclass(frozen=True)
class Timeline:
    """The packets of a video stream, in the order in which they are decoded.

    Attributes:
        packets: of all frames that are shown.
        unit: seconds per unit of time.

    """

    packets: Sequence[Packet]
    unit: float

    @cached_property
    def order(self) -> list[int]:
        """Positions of the packets, in the order in which their frames are shown."""
        return sorted(range(len(self.packets)), key=lambda position: self.packets[position].time)

    @cached_property
    def seconds(self) -> np.ndarray:
        """When each frame is shown, ``(T,)``, ascending."""
        return np.array([self.packets[position].time for position in self.order], np.float64) * self.unit

    def keyframe(self, position: int) -> int:
        """Position of the packet at which decoding has to start for the packet at ``position``."""
        packet = self.packets[position]
        while position and not (self.packets[position].key and self.packets[position].time <= packet.time):
            position -= 1
        return position


def read_timeline(container: Any, stream: Any, max_seconds: float) -> Timeline | None:
    """Read the times of all packets of a stream.

    Returns:
        ``None`` if the packets do not say when their frames are shown. A video that is longer than ``max_seconds`` is
        read a little beyond it only.

    """
    # AVI holds no times; FFmpeg's are wrong where frames are reordered
    if container.format.name == "avi" and stream.codec_context.has_b_frames:
        return None
    packets: list[Packet] = []
    unit = float(stream.time_base or 0)
    for packet in container.demux(stream):
        if not packet.size or packet.is_discard:
            continue
        if packet.pts is None:
            return None
        packets.append(Packet(packet.pts, packet.pts if packet.dts is None else packet.dts, packet.is_keyframe))
        if (packet.pts - packets[0].time) * unit > max_seconds + _SLACK:
            break
    distinct = len({packet.time for packet in packets}) == len(packets)
    # a keyframe after which earlier frames are shown than before: the clock was set back
    keys = [packet.time for packet in packets if packet.key]
    if not packets or not distinct or not unit or not packets[0].key or keys != sorted(keys):
        return None
    return Timeline(packets, unit)


def spread(length: int, count: int) -> np.ndarray:
    """Numbers of ``count`` frames that are spread evenly over ``length`` frames, first and last included.

    >>> spread(10, 4).tolist()
    [0, 3, 6, 9]

    """
    return np.linspace(0, length - 1, count).round().astype(int)


def at_rate(frames: np.ndarray, rate: float, target: float) -> np.ndarray:
    """Frames ``(T, ...)`` at ``rate`` per second, repeated or left out so that there are ``target`` per second.

    >>> at_rate(np.arange(8), 4.0, 2.0).tolist()
    [1, 3, 5, 7]

    """
    count = max(1, round(len(frames) * target / rate))
    numbers = ((np.arange(count) + 0.5) * rate / target).astype(int)
    return frames[numbers.clip(max=len(frames) - 1)]


def clip_frames(seconds: np.ndarray, start: float, end: float | None) -> tuple[int, int]:
    """Numbers of the first frame of a clip and of the frame behind its last; the clip has a frame at least.

    Args:
        seconds: when each frame is shown, ``(T,)``, ascending from 0.
        start: seconds at which the clip begins.
        end: seconds before which its frames are shown; ``None``: all that follow.

    Returns:
        ``(T, T)`` if all frames are shown before the clip begins.

    >>> clip_frames(np.arange(10) / 10, 0.3, 0.5)
    (3, 5)

    """
    # times of frames are rounded
    first = int(np.searchsorted(seconds, start - _ROUNDING))
    stop = len(seconds) if end is None else int(np.searchsorted(seconds, end - _ROUNDING))
    return first, min(len(seconds), max(stop, first + 1))


def chosen_frames(seconds: np.ndarray, count: int | None) -> np.ndarray:
    """Numbers of the frames that are nearest to evenly spread points in time, ascending.

    Args:
        seconds: when each frame is shown, ``(T,)``, ascending.
        count: how many; ``None``: T, each once if the frame rate is constant.

    """
    length = len(seconds)
    points = np.linspace(seconds[0], seconds[-1], length)
    step = (seconds[-1] - seconds[0]) / max(1, length - 1)
    # times are rounded to units, so those of a constant frame rate are not exactly evenly spaced
    if np.abs(seconds - points).max() <= step / 2:
        return spread(length, length if count is None else count)
    if count is not None:
        points = np.linspace(seconds[0], seconds[-1], count)
    after = np.searchsorted(seconds, points).clip(1, length - 1)
    return after - (points - seconds[after - 1] < seconds[after] - points)
