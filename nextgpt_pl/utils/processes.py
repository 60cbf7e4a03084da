"""Lock of a folder that commands write to; SIGTERM that is handled like Ctrl-C; interruptions between steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


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


@contextmanager
def noted_interrupts() -> Iterator[threading.Event]:
    """Yield an event that the first Ctrl-C or SIGTERM sets; a second one has its usual effect."""
    event = threading.Event()
    before: dict[int, Any] = {}

    def note(*_: object) -> None:
        event.set()
        restore()

    def restore() -> None:
        while before:
            signal.signal(*before.popitem())

    if threading.current_thread() is threading.main_thread():
        before.update({number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)})
    try:
        yield event
    finally:
        restore()
