"""Read media files. Sizes are bounded, and every error names the file.

Arrays: image ``(H, W, 3)`` uint8, video ``(T, H, W, 3)`` uint8, audio ``(samples,)`` float32 mono; depth and thermal
``(H, W)`` and IMU ``(6, n)`` float32, from ``.npy`` files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from nextgpt_pl.errors import UserError
from nextgpt_pl.media.arrays import ARRAYS, finite, readings
from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import Media

VERSION = 1  # raise it when a file is read differently or other files are refused; see nextgpt_pl.features.keys
MAX_PIXELS = 64_000_000  # of an image, or of one video frame
MAX_SECONDS = 600.0


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: the file is empty")
    return path


def _unreadable(path: Path, what: str, error: Exception) -> UserError:
    return UserError(f"{path}: not a readable {what} ({error or type(error).__name__})")


def load_image(path: Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read an image as RGB: rotated by its EXIF orientation, transparent pixels composited on white.

    Raises:
        UserError: the file is missing, unreadable or larger than ``max_pixels``, which is checked before decoding, or a
            floating-point pixel is not finite.

    """
    try:
        with Image.open(_existing(path)) as image:
            if image.width * image.height > max_pixels:
                raise UserError(f"{path}: {image.width} x {image.height} pixels, at most {max_pixels:,} are read")
            if image.mode == "F":
                finite(np.asarray(image), Modality.IMAGE, str(path))
            upright = ImageOps.exif_transpose(image)
            if "A" in upright.getbands() or "transparency" in upright.info:
                layer = upright.convert("RGBA")
                upright = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
            return np.asarray(upright.convert("RGB"))
    except UserError:
        raise
    except Exception as error:  # a decoder may raise anything on damaged data
        raise _unreadable(path, "image", error) from error


def load_video(
    path: Path,
    frame_indices: Sequence[int] | None = None,
    max_pixels: int = MAX_PIXELS,
    max_seconds: float = MAX_SECONDS,
) -> tuple[np.ndarray, float]:
    """Read a video's frames ``(T, H, W, 3)`` and its frames per second.

    Args:
        path: the file.
        frame_indices: ascending numbers of the frames to return; by default all.
        max_pixels: maximum number of pixels per frame.
        max_seconds: maximum duration.

    Raises:
        UserError: the file is missing, unreadable or too large, or has fewer frames than ``frame_indices`` needs.

    """
    import av

    requested = None if frame_indices is None else set(frame_indices)
    try:
        with av.open(str(_existing(path))) as container:
            if not container.streams.video:
                raise UserError(f"{path}: holds no video")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            if stream.width * stream.height > max_pixels:
                raise UserError(
                    f"{path}: frames of {stream.width} x {stream.height}, at most {max_pixels:,} pixels are read"
                )
            fps = float(stream.average_rate or 0) or 1.0
            frames = []
            for number, frame in enumerate(container.decode(stream)):
                if number / fps > max_seconds:
                    raise UserError(f"{path}: longer than {max_seconds:g} seconds")
                if requested is None or number in requested:
                    frames.append(frame.to_ndarray(format="rgb24"))
                if requested is not None and number >= max(requested):
                    break
    except UserError:
        raise
    except Exception as error:  # a decoder may raise anything on damaged data
        raise _unreadable(path, "video", error) from error
    if not frames or (requested is not None and len(frames) < len(requested)):
        raise UserError(
            f"{path}: {len(frames)} frames were read, {len(requested) if requested else 'at least 1'} were wanted"
        )
    return np.stack(frames), fps


def load_audio(path: Path, max_seconds: float = MAX_SECONDS) -> tuple[np.ndarray, int]:
    """Read audio samples ``(n,)`` float32, averaged over channels, and the sample rate in hertz.

    Raises:
        UserError: the file is missing, unreadable, empty or too long, or a sample is not finite.

    """
    import soundfile

    try:
        with soundfile.SoundFile(str(_existing(path))) as file:
            if len(file) == 0:
                raise UserError(f"{path}: holds no samples")
            if len(file) / file.samplerate > max_seconds:
                raise UserError(f"{path}: {len(file) / file.samplerate:.0f} seconds, at most {max_seconds:g} are read")
            samples = file.read(dtype="float32", always_2d=True).mean(axis=1)
            return finite(samples, Modality.AUDIO, str(path)), int(file.samplerate)
    except soundfile.LibsndfileError:
        return _load_audio_stream(path, max_seconds)


def _load_audio_stream(path: Path, max_seconds: float) -> tuple[np.ndarray, int]:
    """Read audio from containers that libsndfile does not support (m4a, mp4)."""
    import av

    chunks, seconds = [], 0.0
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise UserError(f"{path}: holds no sound")
            rate = int(container.streams.audio[0].rate)
            resampler = av.AudioResampler(format="fltp", layout="mono", rate=rate)
            for frame in container.decode(audio=0):
                for chunk in resampler.resample(frame):
                    chunks.append(chunk.to_ndarray()[0])
                    seconds += chunk.samples / rate
                if seconds > max_seconds:
                    raise UserError(f"{path}: longer than {max_seconds:g} seconds")
    except UserError:
        raise
    except Exception as error:  # a decoder may raise anything on damaged data
        raise _unreadable(path, "sound", error) from error
    if not chunks:
        raise UserError(f"{path}: holds no samples")
    return finite(np.concatenate(chunks).astype(np.float32), Modality.AUDIO, str(path)), rate


def load_array(path: Path, modality: Modality) -> np.ndarray:
    """Read a depth, thermal or IMU array from a ``.npy`` file as float32; arrays of objects are refused.

    Raises:
        UserError: the file is missing or unreadable, or the array is not valid, see :func:`readings`.

    """
    try:
        array = np.load(_existing(path), allow_pickle=False)
    except UserError:
        raise
    except Exception as error:  # a decoder may raise anything on damaged data
        raise _unreadable(path, ".npy file", error) from error
    return readings(np.asarray(array), modality, str(path))


def array_of(media: Media) -> tuple[np.ndarray, float | None]:
    """Read a medium's array and its rate in frames per second or hertz; ``None`` if it has no rate.

    Raises:
        UserError: the file is missing, unreadable or too large, or a value is not finite.

    """
    if not isinstance(media.source, Path):
        where = f"{media.modality} made by {getattr(media.source, '__qualname__', media.source)}"
        return finite(media.source(), media.modality, where), media.sample_rate or media.fps
    if media.modality is Modality.IMAGE:
        return load_image(media.source), None
    if media.modality in ARRAYS:
        return load_array(media.source, media.modality), None
    return load_video(media.source) if media.modality is Modality.VIDEO else load_audio(media.source)


def as_array(source: Any, modality: Modality, where: str = "") -> tuple[np.ndarray, float | None]:
    """Convert the bytes of a file, a PIL image or an array to a medium's array, and its rate if the bytes hold one.

    Raises:
        UserError: the source is none of these, the array has another shape or dtype, or a value is not finite.

    """
    if isinstance(source, (bytes, bytearray)):
        return _from_bytes(bytes(source), modality, where)
    try:
        if isinstance(source, Image.Image) and modality not in ARRAYS:
            if source.mode == "F":
                finite(np.asarray(source), modality, where)
            source = np.asarray(source.convert("RGB"))
        array = np.asarray(source)
    except UserError:
        raise
    except Exception as error:  # Pillow decodes lazily, and numpy refuses nested lists of unequal lengths
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{where}: {type(source).__name__} cannot be read as {modality} ({reason})") from error
    if modality in ARRAYS:
        return readings(array, modality, where), None
    if modality is Modality.AUDIO:
        if array.ndim != 1 or array.dtype.kind != "f" or not array.size:
            raise UserError(f"{where}: audio arrays are floating-point (n,), got {array.dtype} {array.shape}")
        return finite(array.astype(np.float32), modality, where), None
    dimensions = 4 if modality is Modality.VIDEO else 3
    if array.ndim != dimensions or array.shape[-1] != 3 or array.dtype != np.uint8 or not array.size:
        shape = "(T, H, W, 3)" if modality is Modality.VIDEO else "(H, W, 3)"
        raise UserError(f"{where}: {modality} arrays are uint8 {shape}, got {array.dtype} {array.shape}")
    return array, None


def _from_bytes(data: bytes, modality: Modality, where: str) -> tuple[np.ndarray, float | None]:
    import tempfile

    # video and audio libraries read files and ignore the file name's extension
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        try:
            return array_of(Media(modality, Path(file.name)))
        except UserError as error:  # name the argument instead of the temporary file
            raise UserError(str(error).replace(file.name, where or f"bytes of {modality}")) from None
