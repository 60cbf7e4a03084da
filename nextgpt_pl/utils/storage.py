"""Full disks: recognise the errors that libraries raise for them, and report them in one sentence."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from pathlib import Path

from nextgpt_pl.errors import UserError

_CODES = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}
# safetensors and torch report the system's error as text only; torch's archive writer reports only that it failed
_TEXTS = re.compile(
    r"No space left on device|File too large|Disk quota exceeded|os error (28|27|122)\b"
    r"|PytorchStreamWriter failed writing|inline_container\.cc.*(unexpected pos|write)",
    re.DOTALL,
)


class DiskFullError(UserError):
    """A file could not be written because the disk is full or a quota is exceeded.

    Args:
        path: the file that could not be written.
        more: appended to the message; says how to continue.

    """

    def __init__(self, path: Path, more: str = "") -> None:
        super().__init__(f"{path}: the disk is full or a quota is exceeded; files written before are complete{more}")
        self.path = path


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and its chain of causes and contexts."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        current = waiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        waiting += [e for e in (current.__cause__, current.__context__) if e is not None]


def _says_full(error: BaseException) -> bool:
    if isinstance(error, DiskFullError) or (isinstance(error, OSError) and error.errno in _CODES):
        return True
    reports_text = isinstance(error, (RuntimeError, OSError)) or type(error).__name__ == "SafetensorError"
    return reports_text and bool(_TEXTS.search(str(error)))


def is_disk_full(error: BaseException) -> bool:
    """Whether an error or one of its causes reports a full disk."""
    return any(_says_full(e) for e in _chain(error))


def full_path(error: BaseException) -> Path | None:
    """The file that could not be written, if the error names it."""
    for e in _chain(error):
        if isinstance(e, DiskFullError):
            return e.path
        if isinstance(e, OSError) and e.filename:
            return Path(str(e.filename))
    return None
