"""Read audio files as mono samples.

One rule mixes the channels of all containers: the weights of ITU-R BS.775 for a mono downmix (front left and right
0.7071, centre 1, surround 0.5, no LFE), divided by their sum. The mix never clips, and stereo is averaged. If a
container does not store positions, six and eight channels are 5.1 and 7.1, and other numbers are averaged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nextgpt_pl.errors import UserError
from nextgpt_pl.media.arrays import finite
from nextgpt_pl.media.files import MAX_SECONDS, existing, unreadable
from nextgpt_pl.media.frames import decodable_frames
from nextgpt_pl.modality import Modality

MAX_SAMPLE_RATE = 768_000
MAX_SAMPLES = 2**27  # of one file, per channel
MAX_VALUE = 2.0**31  # of a sample; integers as floating-point numbers are below it, and powers of spectra stay finite
_BLOCK = 2**18  # samples per channel that are decoded at once
_FRONT = ("FL", "FR", "FLC", "FRC", "DL", "DR", "WL", "WR")
_SURROUND = ("BL", "BR", "BC", "SL", "SR", "TFL", "TFC", "TFR", "TBL", "TBC", "TBR", "TC", "TSL", "TSR", "SDL", "SDR")
_WEIGHTS = {
    **dict.fromkeys(_FRONT, 0.5**0.5),
    **dict.fromkeys(_SURROUND, 0.5),
    **dict.fromkeys(("LFE", "LFE2"), 0.0),
    "FC": 1.0,
}
_USUAL = {
    6: ("FL", "FR", "FC", "LFE", "BL", "BR"),
    8: ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"),
}


def channel_weights(positions: Sequence[str]) -> np.ndarray:
    """Weights ``(channels,)`` of the mono mix, of sum 1.

    Args:
        positions: FFmpeg's names of the positions, such as ``FL``, or ``NONE`` where the container does not store them.

    >>> channel_weights(["FL", "FR"]).tolist()
    [0.5, 0.5]

    """
    if set(positions) == {"NONE"}:
        positions = _USUAL.get(len(positions), positions)
    weights = np.array([_WEIGHTS.get(name, np.nan) for name in positions])
    if not weights.sum() > 0:
        weights = np.ones(len(positions))
    return (weights / weights.sum()).astype(np.float32)


def load_audio(path: Path, max_seconds: float = MAX_SECONDS) -> tuple[np.ndarray, int]:
    """Read audio samples ``(n,)`` float32, mixed to mono, and the sample rate in hertz.

    Raises:
        UserError: the file is missing, unreadable, empty or too long, its sample rate is impossible, or a sample is not
            finite or above ``MAX_VALUE``.

    """
    import soundfile

    try:
        with soundfile.SoundFile(str(existing(path))) as file:
            rate, channels = int(file.samplerate), int(file.channels)
            _check_size(path, len(file), rate, max_seconds)
            # libsndfile does not tell the positions of more than two channels, and gives damaged MP3 files samples of
            # uninitialised memory
            samples = _mean_of_channels(file) if channels <= 2 and file.format != "MP3" else None
    except soundfile.LibsndfileError:
        samples = None
    if samples is None:
        samples, rate = _load_stream(path, max_seconds)
    if not samples.size:
        raise UserError(f"{path}: holds no samples")
    samples = finite(samples, Modality.AUDIO, str(path))
    if (peak := float(np.abs(samples).max())) > MAX_VALUE:
        raise UserError(f"{path}: a sample is {peak:g} in magnitude, at most {MAX_VALUE:g} is read")
    return samples, rate


def _check_size(path: Path, samples: int, rate: int, max_seconds: float) -> None:
    """Refuse impossible sample rates and long files, before memory is allocated."""
    if not 0 < rate <= MAX_SAMPLE_RATE:
        raise UserError(f"{path}: a sample rate of {rate} hertz, at most {MAX_SAMPLE_RATE} is read")
    if samples / rate > max_seconds:
        raise UserError(f"{path}: {samples / rate:.0f} seconds, at most {max_seconds:g} are read")
    if samples > MAX_SAMPLES:
        raise UserError(f"{path}: {samples} samples, at most {MAX_SAMPLES} are read")


def _mean_of_channels(file: Any) -> np.ndarray:
    samples, position = np.empty(len(file), np.float32), 0
    for block in file.blocks(_BLOCK, dtype="float32", always_2d=True):
        samples[position : position + len(block)] = block.mean(axis=1)
        position += len(block)
    return samples[:position]


def _load_stream(path: Path, max_seconds: float) -> tuple[np.ndarray, int]:
    """Read audio by FFmpeg: what libsndfile does not read (m4a, mp4), MP3, and more than two channels."""
    import av

    chunks: list[np.ndarray] = []
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise UserError(f"{path}: holds no sound")
            rate = int(container.streams.audio[0].rate or 0)
            _check_size(path, 0, rate, max_seconds)
            count = 0
            frames = decodable_frames(path, container, container.streams.audio[0])
            for mono in _mono_chunks(path, frames, rate):
                chunks.append(mono)
                count += len(mono)
                if count > min(max_seconds * rate, MAX_SAMPLES):
                    raise UserError(f"{path}: longer than {min(max_seconds, MAX_SAMPLES / rate):g} seconds")
    except UserError:
        raise
    except Exception as error:  # a decoder may raise anything on damaged data
        raise unreadable(path, "sound", error) from error
    return np.concatenate(chunks) if chunks else np.empty(0, np.float32), rate


def _mono_chunks(path: Path, frames: Iterator[Any], rate: int) -> Iterator[np.ndarray]:
    """Decoded frames, mixed to mono."""
    weights: dict[str, np.ndarray] = {}
    for frame in frames:
        if frame.sample_rate != rate:
            raise UserError(f"{path}: its sample rate changes from {rate} to {frame.sample_rate} hertz")
        positions = [channel.name for channel in frame.layout.channels]
        mix = weights.setdefault(",".join(positions), channel_weights(positions))
        samples = frame.to_ndarray()
        if not frame.format.is_planar:
            samples = samples.reshape(-1, len(positions)).T
        yield mix @ _as_float32(samples)


def _as_float32(samples: np.ndarray) -> np.ndarray:
    """Integer samples scaled to [-1, 1)."""
    if samples.dtype.kind == "f":
        return samples.astype(np.float32)
    half = 2.0 ** (8 * samples.dtype.itemsize - 1)
    return ((samples.astype(np.float64) - (half if samples.dtype.kind == "u" else 0)) / half).astype(np.float32)
