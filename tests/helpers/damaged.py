"""A data set of images, sounds and videos, some of which are damaged; its manifests have broken rows.

Everything that the set is made of is small: a file is one of a few whole ones, or one of them with a damage.
"""

import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image
from video_files import numbered_frames, write_video

from nextgpt_pl.modality import Modality

_CODECS = {".mp4": "libx264", ".mkv": "libx264", ".webm": "libvpx", ".avi": "mpeg4"}
ENDINGS = {
    Modality.IMAGE: (".png", ".jpg", ".webp", ".tif"),
    Modality.AUDIO: (".wav", ".flac", ".ogg", ".mp3"),
    Modality.VIDEO: tuple(_CODECS),
}


@dataclass(frozen=True)
class Damaged:
    """What was written.

    Attributes:
        manifests: file of the rows of each modality, with ``file`` and ``captions``.
        files: names of the files that cannot be read.
        rows: number of rows of each manifest that cannot be used whatever their files are.

    """

    manifests: dict[Modality, str]
    files: frozenset[str]
    rows: int


def whole(folder: Path, ending: str) -> bytes:
    """A file that can be read."""
    path = folder / f"whole{ending}"
    if not path.exists():
        frames = numbered_frames(6, 24, 32)
        if ending in ENDINGS[Modality.IMAGE]:
            Image.fromarray(frames[0]).save(path)
        elif ending in ENDINGS[Modality.AUDIO]:
            soundfile.write(path, np.sin(np.arange(4000) / 9).astype(np.float32), 16_000)
        else:
            write_video(path, frames, _CODECS[ending])
    return path.read_bytes()


def _cut(folder: Path, ending: str) -> bytes:
    """Cut where the header ends; of other sounds and videos, what precedes the cut can be read."""
    data = whole(folder, ending)
    return data[: len(data) // 2] if ending in (".png", ".jpg", ".webp", ".mp4") else data[:12]


def _another_type(folder: Path, ending: str) -> bytes:
    """A text for an image, an image for a sound, a sound for a video."""
    if ending in ENDINGS[Modality.IMAGE]:
        return b"<html><body>404: not found</body></html>"
    return whole(folder, ".jpg" if ending in ENDINGS[Modality.AUDIO] else ".wav")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _huge(folder: Path, ending: str) -> bytes:
    """An image of 10 gigapixels, a sound of 2 GHz, a video that lasts 20 minutes."""
    if ending in ENDINGS[Modality.IMAGE]:
        header = _chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0))
        return b"\x89PNG\r\n\x1a\n" + header + _chunk(b"IDAT", zlib.compress(bytes(999))) + _chunk(b"IEND", b"")
    if ending in ENDINGS[Modality.AUDIO]:
        data = whole(folder, ".wav")
        return data[:24] + struct.pack("<I", 2**31 - 1) + data[28:]
    path = folder / "long.mkv"
    if not path.exists():
        write_video(path, numbered_frames(3, 24, 32), milliseconds=[0, 100, 1_200_000])
    return path.read_bytes()


def _not_finite(folder: Path, ending: str) -> bytes:
    """A sound with a sample, or an image with a pixel, that is no number; a video whose data are no frames."""
    if ending in ENDINGS[Modality.VIDEO]:
        data = whole(folder, ".avi")
        start = data.index(b"movi")
        return data[:start] + bytes(len(data) - start)
    path = folder / ("nan.tif" if ending in ENDINGS[Modality.IMAGE] else "nan.wav")
    if not path.exists():
        values = np.full((20, 200), 0.5, np.float32)
        values[3, 7] = np.inf if path.suffix == ".wav" else np.nan
        if path.suffix == ".wav":
            soundfile.write(path, values.ravel(), 16_000, subtype="FLOAT")
        else:
            Image.fromarray(values).save(path)
    return path.read_bytes()


_DAMAGES: tuple[Callable[[Path, str], bytes], ...] = (
    lambda folder, ending: b"",
    lambda folder, ending: bytes(len(whole(folder, ending))),
    _cut,
    _another_type,
    _huge,
    _not_finite,
)
_BROKEN_ROWS: tuple[Callable[[str], bytes], ...] = (
    lambda name: b'{"file": "' + name.encode(),
    lambda name: b'{"file": "' + name.encode() + b'", "captions": ["bleut\xe9e"]}',
    lambda name: json.dumps({"file": name, "captions": [None]}).encode(),
    lambda name: json.dumps({"file": name}).encode(),
    lambda name: json.dumps([name, "a caption"]).encode(),
)


def write(folder: Path, count: int, damaged: int, broken_rows: int = 0) -> Damaged:
    """Write a set of ``count`` files, of which ``damaged`` cannot be read; each manifest has some broken rows more.

    The damaged ones are spread evenly over the set. Each kind of damage occurs for each ending, if there are enough.
    """
    made = folder / "made"
    made.mkdir()
    endings = {m: cycle((ending, damage) for ending in e for damage in _DAMAGES) for m, e in ENDINGS.items()}
    lines: dict[Modality, list[bytes]] = {modality: [] for modality in ENDINGS}
    spoiled = set(np.linspace(0, count - 1, damaged).round().astype(int).tolist())
    files = set()
    for number, modality in zip(range(count), cycle(ENDINGS)):
        ending, content = next(endings[modality]) if number in spoiled else (_ending(modality, number), whole)
        name = f"{number}{ending}"
        (folder / name).write_bytes(content(made, ending))
        if number in spoiled:
            files.add(name)
        lines[modality].append(json.dumps({"file": name, "captions": [f"a red circle {number}"]}).encode())
    for of_modality in lines.values():
        broken = cycle(_BROKEN_ROWS)
        for place in np.linspace(1, len(of_modality), broken_rows).astype(int).tolist():
            of_modality.insert(place, next(broken)(f"0{ENDINGS[Modality.IMAGE][0]}"))
    for modality, of_modality in lines.items():
        (folder / f"{modality}.jsonl").write_bytes(b"\n".join(of_modality) + b"\n")
    return Damaged({m: f"{m}.jsonl" for m in lines}, frozenset(files), broken_rows)


def _ending(modality: Modality, number: int) -> str:
    return ENDINGS[modality][number // len(ENDINGS) % len(ENDINGS[modality])]
