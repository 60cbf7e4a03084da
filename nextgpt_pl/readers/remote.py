"""Shards by path or URL. Shards behind URLs are fetched when needed and kept in a folder of bounded size."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nextgpt_pl.errors import UserError
from nextgpt_pl.readers.files import braces
from nextgpt_pl.utils.atomic import atomic_file
from nextgpt_pl.utils.storage import DiskFullError

log = logging.getLogger(__name__)

_TRIES = 3  # of a fetch
_PAUSE = 1.0  # seconds before the second try; doubled before each further one
_IN_USE = 120.0  # seconds for which a shard is not deleted after its last use


def is_url(name: str) -> bool:
    """Whether a name is a URL such as ``https://...`` or ``s3://...``."""
    return "://" in name


def shard_names(patterns: Sequence[str]) -> list[str]:
    """The paths and URLs that patterns mean: ranges such as ``{00000..00331}`` anywhere, globs in paths.

    Raises:
        UserError: a glob matches no file.

    """
    names: list[str] = []
    for pattern in patterns:
        for name in braces(pattern):
            if is_url(name) or not any(sign in name for sign in "*?["):
                names.append(name)
                continue
            anchor = Path(Path(name).anchor)
            found = sorted(str(p) for p in anchor.glob(str(Path(name).relative_to(anchor))) if p.is_file())
            if not found:
                raise UserError(f"shards: {name!r} matches no file")
            names += found
    return list(dict.fromkeys(names))


@dataclass(frozen=True)
class ShardFolder:
    """Local files of shards; shared by all processes of a machine.

    Attributes:
        folder: folder of the fetched shards.
        limit: bytes of fetched shards above which the least recently used ones are deleted. Shards that were used in
            the last two minutes are kept even so.

    """

    folder: Path
    limit: int

    def state(self, name: str) -> str:
        """What changes when a local shard is written; empty for a URL and a missing file."""
        if is_url(name) or not Path(name).is_file():
            return ""
        status = Path(name).stat()
        return f"{status.st_size}:{status.st_mtime_ns}"

    def local(self, name: str) -> Path:
        """The file of a shard; one process fetches it while the others wait.

        Raises:
            DiskFullError: there is no space for it.
            UserError: the shard does not exist, or cannot be fetched.

        """
        if not is_url(name):
            if not Path(name).is_file():
                raise UserError(f"{name}: no such shard")
            return Path(name).resolve()
        file = self.folder.resolve() / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}-{name.rpartition('/')[2]}"
        if not _touched(file):
            from filelock import FileLock

            file.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(file.with_name(f"{file.name}.lock")):
                if not _touched(file):
                    _fetch(name, file)
                    self._shrink()
        return file

    def _shrink(self) -> None:
        """Delete the least recently used shards until all together are within the limit."""
        files = []
        for file in self.folder.glob("*-*"):
            if file.suffix not in (".lock", ".partial"):
                try:
                    status = file.stat()
                except FileNotFoundError:  # another process deleted it
                    continue
                files.append((status.st_mtime, status.st_size, file))
        total = sum(size for _, size, _ in files)
        for used, size, file in sorted(files):
            if total <= self.limit:
                return
            if time.time() - used < _IN_USE:
                sizes = f"{total / 1e9:.3g} GB, the limit is {self.limit / 1e9:.3g} GB"
                log.warning(f"{self.folder}: the shards in use have {sizes}")
                return
            file.unlink(missing_ok=True)
            total -= size


def _touched(file: Path) -> bool:
    """Mark a file as used now; whether it exists."""
    try:
        os.utime(file)
    except FileNotFoundError:
        return False
    return True


def _fetch(url: str, file: Path) -> None:
    try:
        from fsspec.core import url_to_fs

        system, path = url_to_fs(url)
    except (ImportError, ValueError) as error:  # no package for the protocol, or no such protocol
        raise UserError(f"{url}: {error}; shards by URL need: pip install 'nextgpt-pl[streaming]'") from error
    for attempt in range(_TRIES):
        try:
            with atomic_file(file) as scratch:
                system.get_file(path, str(scratch))
            return
        except DiskFullError:
            raise
        except Exception as error:  # each protocol has errors of its own
            if isinstance(error, FileNotFoundError) or attempt == _TRIES - 1:
                raise UserError(f"{url}: cannot be fetched ({type(error).__name__}: {error})") from error
        time.sleep(_PAUSE * 2**attempt)
