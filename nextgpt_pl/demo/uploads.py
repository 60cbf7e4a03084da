"""Uploaded files as parts of a message; number, size and duration are bounded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nextgpt_pl.errors import UserError, at_least
from nextgpt_pl.media.headers import read_header
from nextgpt_pl.modality import Modality, modality_of_file
from nextgpt_pl.samples import Media


@dataclass(frozen=True)
class Limits:
    """Bounds on one message.

    Attributes:
        megabytes: size of a file.
        seconds: duration of a video or sound.
        files: number of files.
        characters: length of the text.

    """

    megabytes: float = 50.0
    seconds: float = 60.0
    files: int = 8
    characters: int = 20_000

    def __post_init__(self) -> None:
        at_least(1, megabytes=self.megabytes, seconds=self.seconds)

    @property
    def bytes(self) -> int:
        """Size of a file in bytes."""
        return int(self.megabytes * 2**20)


def content_of(text: str, files: Sequence[str], limits: Limits) -> list[dict[str, str]]:
    """The parts of a message: its media, then its text, as in training data.

    Raises:
        UserError: the message is empty, or a file is no medium, cannot be read, or exceeds a limit.

    """
    if not text.strip() and not files:
        raise UserError("the message is empty: write a text, or add an image, a video or a sound")
    if len(text) > limits.characters:
        raise UserError(f"the text has {len(text):,} characters, at most {limits.characters:,} are read")
    if len(files) > limits.files:
        raise UserError(f"{len(files)} files in one message, at most {limits.files} are read")
    parts = []
    for file in map(Path, files):
        modality = _checked(file, limits)
        parts.append({"type": modality.value, modality.value: str(file)})
    if text.strip():
        parts.append({"type": "text", "text": text.strip()})
    return parts


def _checked(file: Path, limits: Limits) -> Modality:
    """The modality of a file within the limits; messages have the file's name alone, not the server's folder."""
    try:
        modality = modality_of_file(file.name)
    except ValueError as error:
        raise UserError(str(error)) from None
    size = file.stat().st_size
    if size > limits.bytes:
        raise UserError(f"{file.name}: {size / 2**20:.1f} MB, at most {limits.megabytes:g} MB are read")
    try:
        header = read_header(Media(modality, file))
    except UserError as error:
        raise UserError(str(error).replace(str(file), file.name)) from None
    if header.seconds is not None and header.seconds > limits.seconds:
        raise UserError(f"{file.name}: {header.seconds:.1f} seconds, at most {limits.seconds:g} are read")
    return modality
