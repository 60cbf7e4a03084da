"""One command at a time works in a folder, and ends what it began."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path) -> Iterator[tuple[int, ...]]:
    """Hold ``path`` locked, where the system can (not on Windows); wait for whoever holds it.

    Yields:
        File descriptors for processes to inherit. The lock lasts as long as any of them: were this process killed,
        another would wait for what it began.

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
            print(f"{path.parent}: another command does these runs, or one of them still goes on; waiting", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield (file.fileno(),)


@contextmanager
def terminable() -> Iterator[None]:
    """A polite kill ends the runs too, as Ctrl-C does."""
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
