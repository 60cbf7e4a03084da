"""Reading media. Everything read is bounded, and every failure names the file.

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
from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import Media

VERSION = 1  # raised when a file is read differently, or another one is refused; see nextgpt_pl.features.keys
MAX_PIXELS = 64_000_000  # of an image, or of one video frame
MAX_SECONDS = 600.0
#: media that come as plain arrays
ARRAYS = (Modality.DEPTH, Modality.THERMAL, Modality.IMU)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: the file is empty")
    return path


def _unreadable(path: Path, what: str, error: Exception) -> UserError:
    return UserError(f"{path}: not a readable {what} ({error or type(error).__name__})")


def load_image(path: Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """An image upright in RGB; transparency is laid on white.

    Raises:
        UserError: missing, unreadable, with floating-point pixels that are not finite, or more than ``max_pixels``; the
            size is read before anything is decoded.

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
    """Frames ``(T, H, W, 3)`` and frames per second; all of them, or those with the given ascending numbers.

    Raises:
        UserError: missing, unreadable, too large, or without the frames asked for.

    """
    import av

    wanted = None if frame_indices is None else set(frame_indices)
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
                if wanted is None or number in wanted:
                    frames.append(frame.to_ndarray(format="rgb24"))
                if wanted is not None and number >= max(wanted):
                    break
    except UserError:
        raise
    except Exception as error:  # a decoder may raise anything on damaged data
        raise _unreadable(path, "video", error) from error
    if not frames or (wanted is not None and len(frames) < len(wanted)):
        raise UserError(
            f"{path}: {len(frames)} frames were read, {len(wanted) if wanted else 'at least 1'} were wanted"
        )
    return np.stack(frames), fps


def load_audio(path: Path, max_seconds: float = MAX_SECONDS) -> tuple[np.ndarray, int]:
    """Samples ``(n,)`` float32, channels averaged, and the sample rate in hertz.

    Raises:
        UserError: missing, unreadable, too long, of no length, or with samples that are not finite.

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
    """The sound of containers that libsndfile does not know (m4a, mp4)."""
    import av

    pieces, seconds = [], 0.0
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise UserError(f"{path}: holds no sound")
            rate = int(container.streams.audio[0].rate)
            resampler = av.AudioResampler(format="fltp", layout="mono", rate=rate)
            for frame in container.decode(audio=0):
                for part in resampler.resample(frame):
                    pieces.append(part.to_ndarray()[0])
                    seconds += part.samples / rate
                if seconds > max_seconds:
                    raise UserError(f"{path}: longer than {max_seconds:g} seconds")
    except UserError:
        raise
    except Exception as error:  # a decoder may raise anything on damaged data
        raise _unreadable(path, "sound", error) from error
    if not pieces:
        raise UserError(f"{path}: holds no samples")
    return finite(np.concatenate(pieces).astype(np.float32), Modality.AUDIO, str(path)), rate


def finite(array: np.ndarray, modality: Modality, where: str) -> np.ndarray:
    """Return the array if all of its values are finite.

    Raises:
        UserError: values are not finite; the message names ``where``, their number and the first one's position.

    """
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = np.argwhere(~np.isfinite(array))
        place = ", ".join(map(str, bad[0].tolist()))
        raise UserError(
            f"{where}: {len(bad)} of {array.size} values of this {modality} are not finite, the first at [{place}]"
        )
    return array


def load_array(path: Path, modality: Modality) -> np.ndarray:
    """Depth, thermal or IMU readings of a ``.npy`` file, float32; never an array of objects.

    Raises:
        UserError: missing, unreadable, or of another shape.

    """
    try:
        array = np.load(_existing(path), allow_pickle=False)
    except UserError:
        raise
    except Exception as error:  # a decoder may raise anything on damaged data
        raise _unreadable(path, ".npy file", error) from error
    return readings(np.asarray(array), modality, str(path))


def readings(array: np.ndarray, modality: Modality, where: str) -> np.ndarray:
    """A depth, thermal or IMU array as float32.

    Raises:
        UserError: of another shape, without end, or thermal values beyond 0 to 1.

    """
    if modality is Modality.THERMAL and array.dtype == np.uint8:
        array = array.astype(np.float32) / 255
    wanted = "(6, n)" if modality is Modality.IMU else "(H, W)"
    right = array.ndim == 2 and array.size and (modality is not Modality.IMU or array.shape[0] == 6)
    if not right or array.dtype.kind != "f":
        raise UserError(f"{where}: {modality} arrays are floating-point {wanted}, this is {array.dtype} {array.shape}")
    array = finite(array.astype(np.float32), modality, where)
    if modality is Modality.THERMAL and (array.min() < 0 or array.max() > 1):
        raise UserError(f"{where}: thermal values from 0 to 1, or uint8; these are {array.min():g} to {array.max():g}")
    return array


def array_of(media: Media) -> tuple[np.ndarray, float | None]:
    """A medium's array and its rate in frames per second or hertz; ``None`` for images and if it is unknown.

    Raises:
        UserError: its file is missing, unreadable or too large, or its values are not finite.

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
    """A medium given as bytes of a file, a PIL image, or an array, and its rate where the bytes say one.

    Raises:
        UserError: it is none of these, an array of another shape, or has values that are not finite.

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
            raise UserError(f"{where}: a sound is floating-point samples (n,), this is {array.dtype} {array.shape}")
        return finite(array.astype(np.float32), modality, where), None
    dimensions = 4 if modality is Modality.VIDEO else 3
    if array.ndim != dimensions or array.shape[-1] != 3 or array.dtype != np.uint8 or not array.size:
        shape = "(T, H, W, 3)" if modality is Modality.VIDEO else "(H, W, 3)"
        raise UserError(f"{where}: {modality} arrays are uint8 {shape}, this is {array.dtype} {array.shape}")
    return array, None


def _from_bytes(data: bytes, modality: Modality, where: str) -> tuple[np.ndarray, float | None]:
    import tempfile

    # libraries for video and sound read files; the name's ending says nothing to them
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        try:
            return array_of(Media(modality, Path(file.name)))
        except UserError as error:  # the temporary file's name means nothing to the user
            raise UserError(str(error).replace(file.name, where or f"bytes of {modality}")) from None
