"""Write media files, and figures that compare media."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from nextgpt_pl.modality import MODALITIES, Modality

_SCALE = 2  # enlargement of small videos, for viewing
_REPRODUCIBLE = {"fflags": "+bitexact"}  # without random identities and versions, so that equal media are equal files


def save(array: np.ndarray, modality: Modality, path: Path, rate: float | None = None) -> None:
    """Write a medium; ``rate`` is a video's frames per second or a sound's sample rate."""
    if modality is Modality.IMAGE:
        save_image(array, path)
        return
    if not rate:
        raise ValueError(f"{path}: {modality} needs a rate to be written")
    if modality is Modality.VIDEO:
        save_video(array, path, rate)
    else:
        save_audio(array, path, int(rate))


def save_image(array: np.ndarray, path: Path) -> None:
    """Write ``(H, W, 3)`` uint8."""
    Image.fromarray(array).save(path)


def save_video(frames: np.ndarray, path: Path, fps: float) -> None:
    """Write ``(T, H, W, 3)`` uint8 as GIF or, for any other extension, as H.264; small frames are enlarged."""
    if max(frames.shape[1:3]) < 256:
        frames = frames.repeat(_SCALE, axis=1).repeat(_SCALE, axis=2)
    if path.suffix == ".gif":
        first, *rest = [Image.fromarray(f) for f in frames]
        first.save(path, save_all=True, append_images=rest, duration=int(1000 / fps), loop=0)
        return
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        # yuv420p requires even sides
        stream.height, stream.width = (side - side % 2 for side in frames.shape[1:3])
        stream.pix_fmt, stream.options = "yuv420p", {"crf": "12"}
        for frame in frames[:, : stream.height, : stream.width]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())


def save_video_exactly(frames: np.ndarray, path: Path, fps: float) -> None:
    """Write ``(T, H, W, 3)`` uint8 without loss (FFV1 in a ``.mkv``): for files that metrics read."""
    import av

    with av.open(str(path), "w", container_options=_REPRODUCIBLE) as container:
        stream = container.add_stream("ffv1", rate=Fraction(fps).limit_denominator(1000))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "bgr0"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())


def save_exactly(array: np.ndarray, modality: Modality, stem: Path, rate: float | None = None) -> Path:
    """Write a medium without loss (images PNG, videos FFV1, audio 16-bit samples) to ``stem`` with a file ending.

    Returns:
        Path of the file.

    """
    video = modality is Modality.VIDEO
    path = stem.with_name(f"{stem.name}{'.mkv' if video else MODALITIES[modality].sample_suffix}")
    path.parent.mkdir(parents=True, exist_ok=True)
    if video:
        save_video_exactly(array, path, rate or 1.0)
    else:
        save(array, modality, path, rate)
    return path


def save_samples_exactly(samples: np.ndarray, modality: Modality, stem: Path, rate: float | None = None) -> Path:
    """Write a sound ``(n,)`` float32 as floating-point samples to ``stem.wav``; returns the path."""
    if not rate:
        raise ValueError(f"{stem}: {modality} needs a rate to be written")
    import av

    path = stem.with_name(f"{stem.name}.wav")
    # soundfile would write the time into such a file
    with av.open(str(path), "w", container_options=_REPRODUCIBLE) as container:
        stream = container.add_stream("pcm_f32le", rate=int(rate), layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), format="flt", layout="mono")
        frame.sample_rate = int(rate)
        container.mux([*stream.encode(frame), *stream.encode()])
    return path


def save_audio(samples: np.ndarray, path: Path, sample_rate: int) -> None:
    """Write ``(n,)`` float32 in [-1, 1] as 16-bit samples, or as MP3 for that extension."""
    import soundfile

    soundfile.write(str(path), samples, sample_rate, subtype=None if path.suffix == ".mp3" else "PCM_16")


def save_comparison(
    folder: Path,
    modality: Modality,
    captions: Sequence[str],
    theirs: Sequence[np.ndarray],
    ours: Sequence[np.ndarray],
    rate: float | None,
) -> list[Path]:
    """Write a figure that compares two series of media under their captions, and each medium as a file.

    Args:
        folder: output folder.
        modality: modality of the media.
        captions: one per column or row.
        theirs: generated from the true caption embedding (files ``..._text``).
        ours: generated from the projected signal tokens (files ``..._signal``).
        rate: a video's frames per second or a sound's sample rate.

    Returns:
        The files that were written, the figure first.

    """
    from nextgpt_pl.media.plots import compare

    files = [folder / f"{modality}.png"]
    compare(files[0], modality, captions, {"text encoder": theirs, "signal tokens": ours})
    suffix = MODALITIES[modality].sample_suffix
    for index in range(len(captions)):
        for name, array in (("text", theirs[index]), ("signal", ours[index])):
            path = folder / f"{modality}_{index}_{name}{suffix}"
            files.append(path)
            save(array, modality, path, rate)
            if modality is Modality.VIDEO:
                save(array, modality, path.with_suffix(".gif"), rate)
    return files
