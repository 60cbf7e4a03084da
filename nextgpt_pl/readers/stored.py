"""Media inside data files: members of tar shards, cells of Parquet and Arrow files, and base64 texts.

A row refers to such a medium by ``{"$stored": [...]}``, positions within the row's own file. Only readers of these
formats write references; in rows of other formats the key is refused like any unknown key.
"""

from __future__ import annotations

import base64
import binascii
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nextgpt_pl.errors import UserError
from nextgpt_pl.samples import StoredMedia

KEY = "$stored"
MAX_BYTES = 1 << 30  # of one medium


@dataclass(frozen=True)
class FilePart(StoredMedia):
    """A byte range of a file, such as a member of a tar shard.

    Attributes:
        path: the file.
        offset: first byte.
        size: number of bytes.
        name: name of the medium within the file.

    """

    path: Path
    offset: int
    size: int
    name: str

    def __str__(self) -> str:
        return f"{self.path}: {self.name}"

    def read(self) -> bytes:
        """The bytes.

        Raises:
            UserError: the file is missing, or ends before the range does.

        """
        try:
            with self.path.open("rb") as file:
                data = os.pread(file.fileno(), self.size, self.offset)
        except OSError as error:
            raise UserError(f"{self}: {error.strerror}") from error
        if len(data) != self.size:
            raise UserError(f"{self}: the file ends within it")
        return data


@dataclass(frozen=True)
class Cell(StoredMedia):
    """The bytes in a cell of a Parquet or Arrow file.

    Attributes:
        path: the file.
        group: number of the row group or record batch.
        row: number of the row within it.
        place: name of the column, then names of fields and positions in lists.
        name: name of the medium.

    """

    path: Path
    group: int
    row: int
    place: tuple[str | int, ...]
    name: str

    def __str__(self) -> str:
        return f"{self.path}: {self.name}"

    def read(self) -> bytes:
        """The bytes.

        Raises:
            UserError: the file is missing, or has changed.

        """
        from nextgpt_pl.readers.columns import cell

        try:
            data = cell(self.path, self.group, self.row, self.place)
        except (OSError, ValueError, LookupError) as error:
            raise UserError(f"{self}: {error}") from error
        if not isinstance(data, bytes):
            raise UserError(f"{self}: bytes are expected, got {type(data).__name__}")
        return data


@dataclass(frozen=True)
class Inline(StoredMedia):
    """A medium within a row, as base64 text.

    Attributes:
        text: the base64 text.
        name: name of the medium.
        path: always ``None``.

    """

    text: str
    name: str
    path: Path | None = None

    def __str__(self) -> str:
        return self.name

    def read(self) -> bytes:
        """The bytes.

        Raises:
            UserError: the text is not base64.

        """
        try:
            return base64.b64decode(self.text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise UserError(f"{self.name}: not base64 ({error})") from error


def reference(kind: str, *values: Any) -> dict[str, Any]:
    """A reference of a row to a medium in the row's own file."""
    return {KEY: [kind, *values]}


def is_reference(value: Any) -> bool:
    """Whether a value of a row is such a reference."""
    return isinstance(value, dict) and set(value) == {KEY}


def stored(file: Path, value: dict[str, Any], name: str) -> StoredMedia:
    """The medium that a reference in a row of ``file`` means.

    Raises:
        UserError: the reference is malformed.

    """
    match value[KEY]:
        case ["part", int(offset), int(size)] if offset >= 0 and 0 < size <= MAX_BYTES:
            return FilePart(file, offset, size, name)
        case ["cell", int(group), int(row), [str(column), *steps]] if group >= 0 and row >= 0:
            return Cell(file, group, row, (column, *steps), name)
    raise UserError(f"{name}: a medium of at most {MAX_BYTES} bytes is expected, got {value[KEY]!r:.80}")
