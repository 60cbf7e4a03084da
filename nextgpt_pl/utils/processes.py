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
def terminable() -> Iterator[threading.Event]:
    """Handle SIGTERM like Ctrl-C.

    Yields:
        An event that either of them sets. Python drops an exception that is raised in a finalizer or in a callback of
        a library, so long loops ask the event too.

    """
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return

    def interrupt(*_: object) -> None:
        interrupted.set()
        raise KeyboardInterrupt

    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, interrupt)}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else Ctrl-C is handled or ignored already
        before[signal.SIGINT] = signal.signal(signal.SIGINT, interrupt)
    try:
        yield interrupted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
