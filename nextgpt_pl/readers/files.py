"""Names of data files and media: patterns, and paths that stay inside their folders."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath

from nextgpt_pl.errors import MissingFileError, UserError, nearest
from nextgpt_pl.modality import is_metadata
from nextgpt_pl.readers.listings import Listings

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_CHOICE = re.compile(r"\{([^{}]*,[^{}]*)\}")
_MAX_FILES = 1_000_000
_MAX_NAME = 255  # characters of a file name, on all usual file systems
_HIDDEN_FOLDERS = {".ipynb_checkpoints", ".git", "@eaDir"}


def is_hidden(name: str) -> bool:
    """Whether a path of a folder or archive is no row: AppleDouble files (``._x.jpg``), editors' folders."""
    parts = PurePosixPath(name).parts
    hidden = bool(parts) and (parts[-1].startswith(".") or not _HIDDEN_FOLDERS.isdisjoint(parts))
    return hidden or is_metadata(name)


def braces(pattern: str) -> list[str]:
    """Expand ``{00000..00331}`` and ``{a,b}`` in a file name.

    >>> braces("{08..10}.tar")
    ['08.tar', '09.tar', '10.tar']

    Raises:
        UserError: the range is descending, or gives too many names.

    """
    match = min(filter(None, (_RANGE.search(pattern), _CHOICE.search(pattern))), key=lambda m: m.start(), default=None)
    if match is None:
        return [pattern]
    if match.re is _RANGE:
        first, last = match[1], match[2]
        if not 0 <= int(last) - int(first) < _MAX_FILES:
            raise UserError(f"files: {pattern!r}: an ascending range of at most {_MAX_FILES:,} numbers is expected")
        names = [str(n).zfill(len(first)) for n in range(int(first), int(last) + 1)]
    else:
        names = match[1].split(",")
    start, rest = pattern[: match.start()], pattern[match.end() :]
    return [expanded_name for name in names for expanded_name in braces(f"{start}{name}{rest}")]


def expanded(root: Path, patterns: Sequence[str]) -> list[Path]:
    """The files below ``root`` that names, globs and ranges mean; sorted within a glob.

    Raises:
        MissingFileError: a named file does not exist, or a glob matches nothing.
        UserError: a name leaves the folder.

    """
    files: list[Path] = []
    for pattern in patterns:
        for name in braces(pattern):
            files += _globbed(root, name) if re.search(r"[*?\[]", name) else [_named(root, name)]
    return list(dict.fromkeys(files))


def leaves(name: str) -> bool:
    """Whether a path is absolute or goes up, and so may leave the folder that it is to be in."""
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts


def _globbed(root: Path, pattern: str) -> list[Path]:
    if leaves(pattern):
        raise UserError(f"files: {pattern!r} leaves its folder {root}")
    matches = sorted(p for p in root.glob(pattern) if p.is_file() and not is_hidden(str(p.relative_to(root))))
    if not matches:
        raise MissingFileError(f"files: {pattern!r} matches no file below {root}", str(root / pattern))
    return [inside(root, str(p.relative_to(root))) for p in matches]


def _named(root: Path, name: str) -> Path:
    path = inside(root, name)
    if not path.exists():
        # not recursive: the folder may be a whole disk
        known = [str(p.relative_to(root)) for p in path.parent.glob("*") if p.is_file()] if path.parent.is_dir() else []
        raise MissingFileError(f"files: {name}: no such file{nearest(name, known)}", str(path))
    return path


@lru_cache(4096)
def _real(folder: str) -> str:
    return os.path.realpath(folder)


@lru_cache(4096)
def _parent(folder: str, head: str, roots: tuple[str, ...]) -> tuple[str, bool]:
    """The real folder of names that begin with ``head``, ending with a slash, and whether it is inside the folders."""
    real = _real(head if head.startswith("/") else f"{folder}/{head}").rstrip("/") + "/"
    return real, _is_inside(real, (folder, *roots))


def _is_inside(path: str, folders: Sequence[str]) -> bool:
    return any(f"{path}/".startswith(f"{_real(folder).rstrip('/')}/") for folder in folders)


def inside(folder: Path, name: str, roots: Sequence[Path] = ()) -> Path:
    """``folder/name``; the path must not leave the folder by ``..``, an absolute path or a link.

    Args:
        folder: the folder; relative names start here.
        name: of the file.
        roots: further folders that the path may lie in, also by a link or as an absolute path.

    Raises:
        UserError: the path leaves the folders.

    """
    return Path(located(str(folder), name, tuple(map(str, roots)))[0])


def located(folder: str, name: str, roots: tuple[str, ...] = (), listings: Listings | None = None) -> tuple[str, bool]:
    """The real path of :func:`inside`, and whether it is a file; fast, since it runs for every row of a data set.

    Args:
        folder, name, roots: see :func:`inside`.
        listings: tell of most files that they exist; without them, each file is looked for.

    Raises:
        UserError: the path leaves the folders.

    """
    head, slash, last = name.rpartition("/")
    try:
        if len(last) > _MAX_NAME or "\0" in name:
            raise ValueError(f"a zero byte, or more than {_MAX_NAME} characters")
        # links are resolved for the parent once, and for the file only if it is one
        parent, is_inside = _parent(folder, head + slash, roots)
        real = parent + last
        if is_inside and listings is not None and listings.has(parent, last):
            return real, True
        mode = _mode(real)
        if stat.S_ISLNK(mode) or last in {"", ".", ".."}:
            real, is_inside = os.path.realpath(real), False
            mode = _mode(real)
    except (OSError, ValueError) as error:  # the name is too long or contains a zero byte
        raise UserError(f"{name!r:.80} is not a file name ({error})") from error
    if is_inside or _is_inside(real, (folder, *roots)):
        return real, stat.S_ISREG(mode)
    more = "; media_roots may name further folders" if not roots else f" and media_roots {list(roots)}"
    raise UserError(f"{name!r} leaves its folder {folder}{more}")


def _mode(path: str) -> int:
    """Kind of what is at a path, 0 if nothing is there."""
    try:
        return os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0
