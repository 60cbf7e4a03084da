"""Video files whose frames tell their numbers, written by PyAV."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def numbered_frames(count: int, height: int = 48, width: int = 64) -> np.ndarray:
    """``(count, height, width, 3)`` uint8: a bar moves to the right over a changing gradient."""
    y, x = np.mgrid[:height, :width]
    frames = np.empty((count, height, width, 3), np.uint8)
    for number in range(count):
        frames[number] = np.stack([x * 2 + number * 3, y * 2 + number * 5, x + y + number * 7], -1) % 256
        frames[number, :, : number * width // count] = number * 255 // count
    return frames


def write_video(
    path: Path,
    frames: np.ndarray,
    codec: str = "libx264",
    *,
    fps: float = 10,
    milliseconds: list[int] | None = None,
    pixels: str = "yuv420p",
    container: str | None = None,
    keyframes: int = 10,
    options: dict[str, str] | None = None,
) -> Path:
    """Write ``frames``, at constant ``fps`` or each at its time in ``milliseconds``."""
    with av.open(str(path), "w", format=container) as output:
        stream = output.add_stream(codec, rate=Fraction(fps).limit_denominator(1001), options=options or {})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pixels
        stream.codec_context.gop_size = keyframes
        if milliseconds is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, array in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(array), format="rgb24")
            if milliseconds is not None:
                frame.pts, frame.time_base = milliseconds[number], Fraction(1, 1000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


def all_frames(path: Path) -> list[np.ndarray]:
    """All frames of a file as they are stored, decoded one after the other."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
