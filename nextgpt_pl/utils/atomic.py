"""Atomic file writes: a killed process never leaves a partial file under the final name."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nextgpt_pl.utils.storage import DiskFullError, is_disk_full

_SUFFIX = ".partial"
_TAIL = 2**16  # bytes that are read at once from the end of a file
_ABANDONED_AFTER = 24 * 3600.0  # seconds without a change; a file that is still being written changes more often


def scratch_name(path: Path) -> Path:
    """A hidden file name in the folder of ``path``; unique across processes and machines that share the folder."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:16]}{_SUFFIX}")


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success the file is renamed to ``path``.

    The file gets the usual mode of new files, also if its writer gives it another one, as safetensors does.

    Raises:
        DiskFullError: the disk is full. The temporary file is deleted and an existing file at ``path`` is unchanged.

    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = scratch_name(path)
    try:
        scratch.touch()
        mode = scratch.stat().st_mode
        yield scratch
        scratch.chmod(mode)
        scratch.replace(path)
    except Exception as error:
        if is_disk_full(error):
            raise DiskFullError(path) from error
        raise
    finally:
        scratch.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; on success it is renamed to ``path`` and replaces a folder there.

    Raises:
        DiskFullError: the disk is full. The temporary folder is deleted and an existing folder is unchanged.

    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch, replaced = scratch_name(path), scratch_name(path)
    try:
        scratch.mkdir()
        yield scratch
        if path.exists():
            path.rename(replaced)
        scratch.rename(path)
    except Exception as error:
        if is_disk_full(error):
            raise DiskFullError(path) from error
        raise
    finally:
        for folder in (scratch, replaced):
            shutil.rmtree(folder, ignore_errors=True)


def write_atomic(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic_file(path) as scratch:
        scratch.write_text(text, encoding="utf-8")


def drop_truncated_line(file: Path) -> None:
    """Remove the last line of a file if an interrupted process wrote it without its end; the file may be missing."""
    if not file.is_file():
        return
    with file.open("r+b") as handle:
        end = handle.seek(0, os.SEEK_END)
        place = end
        tail = b""
        while place and b"\n" not in tail:
            step = min(place, _TAIL)
            place -= step
            handle.seek(place)
            tail = handle.read(step) + tail
        complete = place + tail.rfind(b"\n") + 1
        if complete < end:
            handle.truncate(complete)


def delete_abandoned(folder: Path, after: float = _ABANDONED_AFTER) -> int:
    """Delete the temporary files and folders of killed processes in a folder and its subfolders.

    Args:
        folder: where to look.
        after: seconds without a change; by default a day, since other processes may be writing.

    Returns:
        How many were deleted.

    """
    deleted = 0
    for partial in list(folder.rglob(f".*{_SUFFIX}")):
        try:
            if time.time() - partial.lstat().st_mtime >= after:
                shutil.rmtree(partial) if partial.is_dir() and not partial.is_symlink() else partial.unlink()
                deleted += 1
        except FileNotFoundError:  # another process deleted it first
            continue
    return deleted
