"""The table of modalities: all properties of a modality that are not networks.

A new modality is a new row here and an encoder or decoder that supports it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import PurePath


class Modality(str, Enum):
    """A medium other than text. The value is the name used in YAML, file formats and logs."""

    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"
    DEPTH = "depth"
    THERMAL = "thermal"
    IMU = "imu"
    SPEECH = "speech"

    @property
    def form(self) -> Modality:
        """The modality that has the same files and arrays: of speech, audio; of all others, itself."""
        return MODALITIES[self].form or self

    # those of enum are written in Python, and a row of a data set needs several
    __str__ = str.__str__
    __format__ = str.__format__  # type: ignore[assignment]  # the same, but for the name of an argument


@dataclass(frozen=True)
class ArrayFormat:
    """How the media of a modality look that are plain arrays, in ``.npy`` files or read by a function.

    Attributes:
        shapes: allowed shapes; a letter is any size of at least 1: ``("(n, 3)", "(n, 6)")``.
        kind: ``f`` for floating-point numbers, which become float32, or ``U`` for texts; numpy's letter.
        unit: whether numbers must be from 0 to 1; then uint8 from 0 to 255 is accepted too.
        reader: dotted name of a function ``(path) -> array`` for files that are not ``.npy``; ``None``: there are none.

    """

    shapes: tuple[str, ...]
    kind: str = "f"
    unit: bool = False
    reader: str | None = None


@dataclass(frozen=True)
class ModalitySpec:
    """One row of the table.

    Attributes:
        modality: the medium.
        signal_prefix: prefix of its signal tokens, ``IMG`` in ``[IMG0]``.
        num_signal_tokens: number of signal tokens per generated medium (paper, section 4.2); 0 for modalities that
            are inputs only. Those of speech enclose its words.
        placeholder: text that marks the medium's position in dialogue files and prompts.
        suffixes: lower-case file extensions of this modality; empty if the extension does not determine it.
        sample_suffix: file extension of generated samples.
        array: format of media that are plain arrays; ``None``: the package has own readers.
        form: another modality with the same files and arrays; ``None``: it has its own.
        optional: whether its signal tokens exist only in networks that have a decoder for it. Those of other generated
            modalities exist in every network.

    """

    modality: Modality
    signal_prefix: str
    num_signal_tokens: int
    placeholder: str
    suffixes: tuple[str, ...]
    sample_suffix: str
    array: ArrayFormat | None = None
    form: Modality | None = None
    optional: bool = False

    def signal_tokens(self, count: int | None = None) -> list[str]:
        """The signal tokens in order, ``count`` of them (default: the paper's number).

        >>> MODALITIES[Modality.IMAGE].signal_tokens()
        ['[IMG0]', '[IMG1]', '[IMG2]', '[IMG3]']

        """
        return [f"[{self.signal_prefix}{i}]" for i in range(self.num_signal_tokens if count is None else count)]


_IMAGES = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".jp2", ".heic", ".heif")
_VIDEOS = (
    *(".mp4", ".webm", ".mkv", ".avi", ".mov", ".m4v", ".gif"),
    *(".mpg", ".mpeg", ".flv", ".ts", ".wmv", ".3gp"),
)
_SOUNDS = (".wav", ".flac", ".mp3", ".ogg", ".m4a", ".opus", ".aac", ".aif", ".aiff", ".wma")

MODALITIES: dict[Modality, ModalitySpec] = {
    spec.modality: spec
    for spec in (
        ModalitySpec(Modality.IMAGE, "IMG", 4, "<image>", _IMAGES, ".png"),
        ModalitySpec(Modality.VIDEO, "VID", 24, "<video>", _VIDEOS, ".mp4"),
        ModalitySpec(Modality.AUDIO, "AUD", 8, "<audio>", _SOUNDS, ".wav"),
        ModalitySpec(Modality.DEPTH, "", 0, "<depth>", (), ".npy", ArrayFormat(("(H, W)",))),
        ModalitySpec(Modality.THERMAL, "", 0, "<thermal>", (), ".npy", ArrayFormat(("(H, W)",), unit=True)),
        ModalitySpec(Modality.IMU, "", 0, "<imu>", (), ".npy", ArrayFormat(("(6, n)",))),
        # a sound file is audio, unless a key or a placeholder says that it is speech
        ModalitySpec(Modality.SPEECH, "SPC", 2, "<speech>", (), ".wav", form=Modality.AUDIO, optional=True),
    )
}

_BY_SUFFIX = {suffix: spec.modality for spec in MODALITIES.values() for suffix in spec.suffixes}

#: modalities that a decoder can make
DECODABLE = tuple(modality for modality, spec in MODALITIES.items() if spec.num_signal_tokens)

#: those of the paper, whose signal tokens exist in every network
GENERATED = tuple(modality for modality in DECODABLE if not MODALITIES[modality].optional)


def ids_behind(first: int, counts: Mapping[Modality, int]) -> dict[Modality, list[int]]:
    """Token ids of each modality's signal tokens, one modality after the other from ``first`` on.

    >>> ids_behind(100, {Modality.IMAGE: 2, Modality.AUDIO: 1})[Modality.AUDIO]
    [102]

    """
    ids = {}
    for modality, count in counts.items():
        ids[modality] = list(range(first, first + count))
        first += count
    return ids


def is_metadata(name: str) -> bool:
    """Whether a file is one that macOS adds beside a medium, of the same extension (AppleDouble).

    >>> is_metadata("photos/._cat.jpg"), is_metadata("__MACOSX/cat.jpg"), is_metadata("photos/cat.jpg")
    (True, True, False)

    """
    if "._" not in name and "__MACOSX" not in name:  # the usual case, fast
        return False
    parts = PurePath(name).parts
    return "__MACOSX" in parts or (bool(parts) and parts[-1].startswith("._"))


def has_media_ending(name: str) -> bool:
    """Whether a file is a medium by its extension; not if it is metadata of one.

    >>> has_media_ending("clip.MP4"), has_media_ending("._clip.mp4")
    (True, False)

    """
    endings = tuple(suffix for spec in MODALITIES.values() for suffix in spec.suffixes)
    return name.lower().endswith(endings) and not is_metadata(name)


def modality_of_file(name: str) -> Modality:
    """The modality of a file, by its extension.

    Raises:
        ValueError: no modality has that extension, or the file is metadata of a medium.

    >>> str(modality_of_file("clip.MP4"))
    'video'

    """
    if is_metadata(name):
        raise ValueError(f"{name!r}: not a medium, but metadata that macOS adds beside it")
    modality = _BY_SUFFIX.get(f".{name.rpartition('.')[2].lower()}")
    if modality is not None:
        return modality
    known = " ".join(suffix for spec in MODALITIES.values() for suffix in spec.suffixes)
    raise ValueError(f"{name!r}: the file ending is of no known medium; known endings: {known}")
