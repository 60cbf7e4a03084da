"""Database of the media files that ``data check`` has opened, so that an interrupted check can be continued."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from nextgpt_pl.errors import UserError
from nextgpt_pl.media import reading
from nextgpt_pl.media.clips import clip_name
from nextgpt_pl.media.reading import check_readable
from nextgpt_pl.samples import Media, StoredMedia

_SECONDS = 60.0  # timeout of a reader that waits for the writer


@dataclass(frozen=True)
class OpenedFile:
    """Result of opening a media file.

    Attributes:
        path: path of the file.
        kind: modality as which it was read, and the part of the file if it was not the whole.
        size: size in bytes; -1 if the file is missing or the medium is within a row.
        changed: modification time in nanoseconds.
        fault: why it cannot be read; ``None`` if it can.
        anew: whether the file was opened in this call; otherwise the result is from the database.

    """

    path: str
    kind: str
    size: int
    changed: int
    fault: str | None
    anew: bool = True


class CheckedMedia:
    """The database; one process writes, others read. Each process opens its own connection.

    Args:
        file: the database file; created if it is missing.

    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.version = str(reading.VERSION)  # results of another version of the reading code are ignored
        self._connection: sqlite3.Connection | None = None
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self._open() as database:
                database.execute(
                    "CREATE TABLE IF NOT EXISTS opened (path TEXT, kind TEXT, version TEXT, size INTEGER,"
                    " changed INTEGER, fault TEXT, PRIMARY KEY (path, kind))"
                )
        except sqlite3.DatabaseError as error:
            raise UserError(
                f"{file}: not a database of checked media ({error}); delete it, or choose another folder with --checked"
            ) from error
        self.close()

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = sqlite3.connect(self.file, timeout=_SECONDS)
        return self._connection

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def open(self, medium: Media) -> OpenedFile:
        """Open a media file, unless the database has a result for the same size and modification time."""
        kind = " ".join(filter(None, (medium.modality.value, clip_name(medium))))
        file = medium.source.path if isinstance(medium.source, StoredMedia) else medium.source
        if not isinstance(file, Path):  # it is within a row, and nothing tells it from others
            return OpenedFile(str(medium.source), kind, -1, 0, _fault(medium))
        # media within a file may have one name; the representation has their place
        path = str(file) if file is medium.source else repr(medium.source)
        try:
            status = file.stat()
            size, changed = status.st_size, status.st_mtime_ns
        except OSError as error:
            return OpenedFile(path, kind, -1, 0, f"{path}: {error.strerror}")
        row = (
            self._open()
            .execute(
                "SELECT fault FROM opened WHERE path=? AND kind=? AND version=? AND size=? AND changed=?",
                (path, kind, self.version, size, changed),
            )
            .fetchone()
        )
        if row is not None:
            return OpenedFile(path, kind, size, changed, row[0], anew=False)
        return OpenedFile(path, kind, size, changed, _fault(medium))

    def add(self, files: Iterable[OpenedFile]) -> None:
        """Add the results of files that were opened, and commit."""
        rows = [(f.path, f.kind, self.version, f.size, f.changed, f.fault) for f in files if f.anew and f.size >= 0]
        if rows:
            with self._open() as database:
                database.executemany("INSERT OR REPLACE INTO opened VALUES (?, ?, ?, ?, ?, ?)", rows)


def _fault(medium: Media) -> str | None:
    """Why a medium cannot be read; ``None`` if it can."""
    try:
        check_readable(medium)
    except UserError as error:
        return str(error)
    return None
