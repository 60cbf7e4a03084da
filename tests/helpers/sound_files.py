"""Sound files in containers of all kinds, written by PyAV."""

from pathlib import Path

import av
import numpy as np


def write_sound(
    path: Path, samples: np.ndarray, layout: str = "mono", codec: str = "pcm_s16le", container: str | None = None
) -> Path:
    """Write ``(n, channels)`` int16 samples at 16 kHz."""
    with av.open(str(path), "w", format=container) as output:
        stream = output.add_stream(codec, rate=16_000, layout=layout)
        stream.bit_rate = 32_000  # of codecs with loss
        resampler = av.AudioResampler(stream.codec_context.format.name, layout, 16_000)
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout=layout)
        frame.sample_rate = 16_000
        size = stream.codec_context.frame_size or len(samples)
        fifo = av.AudioFifo()
        for part in resampler.resample(frame):
            fifo.write(part)
        while (part := fifo.read(size, partial=True)) is not None:
            output.mux(stream.encode(part))
        output.mux(stream.encode())
    return path
