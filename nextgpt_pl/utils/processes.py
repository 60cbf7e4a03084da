"""Lock of a folder that commands write to, and SIGTERM that is handled like Ctrl-C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path) -> Iterator[tuple[int, ...]]:
    """Lock ``path``, and wait while another process holds the lock; no lock on Windows.

    Yields:
        File descriptors that child processes inherit. The lock is held while any of them is open: if this process is
        killed, another one waits for its child processes.

    """
    try:
        import fcntl
    except ImportError:
        yield ()
        return
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print(
                f"{path.parent}: another command, or a run that it started, works in this folder; waiting", flush=True
            )
            fcntl.flock(file, fcntl.LOCK_EX)
        yield (file.fileno(),)


@contextmanager
def terminable() -> Iterator[None]:
    """Handle SIGTERM like Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
