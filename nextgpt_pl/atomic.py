"""Files that are whole or not there, whenever the process dies."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nextgpt_pl.storage import DiskFullError, is_disk_full

_SUFFIX = ".partial"
_ABANDONED_AFTER = 24 * 3600.0  # seconds; a file that is being written is younger


def scratch_name(path: Path) -> Path:
    """A hidden name beside ``path``; unique over processes and machines that share the folder."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:16]}{_SUFFIX}")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A name to write to, in the same folder; the file takes the wanted one when it is complete.

    Raises:
        DiskFullError: there is no room; nothing is left behind, and a file that had the name before is as it was.

    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = scratch_name(path)
    try:
        yield scratch
        scratch.replace(path)
    except Exception as error:
        if is_disk_full(error):
            raise DiskFullError(path) from error
        raise
    finally:
        scratch.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Write a text file in UTF-8; it appears whole or not at all."""
    with whole_file(path) as scratch:
        scratch.write_text(text, encoding="utf-8")


def clear_abandoned(folder: Path) -> int:
    """Delete what killed processes left half-written in a folder and those below, once it is a day old.

    Returns:
        How many files were deleted.

    """
    deleted = 0
    for partial in folder.rglob(f".*{_SUFFIX}"):
        try:
            if time.time() - partial.lstat().st_mtime > _ABANDONED_AFTER:
                partial.unlink()
                deleted += 1
        except FileNotFoundError:  # another process was faster
            continue
    return deleted
