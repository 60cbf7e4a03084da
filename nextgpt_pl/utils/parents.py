"""Child processes that end when their parent ends, also if the parent is killed."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing import parent_process, resource_tracker
from pathlib import Path

_VARIABLE = "NEXTGPT_PARENT_PROCESS"
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux's prctl
_POLL = 1.0  # seconds between looks at the parent's id where prctl is missing


def child_environment() -> dict[str, str]:
    """Environment variables for a child process that shall end with this one, to be added to its environment."""
    return {_VARIABLE: str(os.getpid())}


def forget_children() -> None:
    """Remove the variable of :func:`child_environment` from this process's environment."""
    os.environ.pop(_VARIABLE, None)


def end_with_starter() -> None:
    """End this process when the one ends whose :func:`child_environment` it has; without the variable do nothing.

    Call this first in a program. If the parent has already ended, this process ends immediately.
    """
    starter = os.environ.pop(_VARIABLE, "")
    if starter.isdigit() and (os.getppid() == int(starter) or not _exists(int(starter))):
        end_with(int(starter))


@contextlib.contextmanager
def starting_workers(start_method: str) -> Iterator[None]:
    """Block SIGTERM in this thread while workers are started that call :func:`start_worker`.

    They inherit the mask, and so do the threads that NumPy starts when a worker imports it (start methods ``spawn`` and
    ``forkserver``). A thread without the mask would end the worker at any SIGTERM.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    if start_method != "fork":
        resource_tracker.ensure_running()  # it unblocks SIGTERM after its own start
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start_worker(_worker: int = 0) -> None:
    """Set up a data-loader worker (``worker_init_fn``): it ends with its parent and ignores signals of other processes.

    Schedulers send SIGTERM or SIGUSR1, and terminals SIGINT or SIGHUP, to all processes of a job; a training process
    still needs batches until its optimizer step is done. Start workers under :func:`starting_workers`.
    """
    for name in ("SIGINT", "SIGHUP", "SIGUSR1"):
        if hasattr(signal, name):  # Windows has SIGINT only
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    # a worker tokenises one row at a time: threads of the tokenizer would only wait for each other
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    parent = parent_process()
    if parent is not None and parent.pid is not None:
        _obey_alone(parent.pid)
        # with forkserver, the system's parent is a server, which ends with the process that asked for the worker
        served = os.getppid() != parent.pid and _exists(parent.pid)
        end_with(os.getppid() if served else parent.pid)


def _obey_alone(parent: int) -> None:
    """End on a SIGTERM of the parent, which multiprocessing sends at shutdown; ignore that of other processes."""
    if not hasattr(signal, "sigwaitinfo"):  # without it the sender is unknown: keep the default, which ends the worker
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def wait() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
            pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


def end_with(parent: int) -> None:
    """Kill this process when its parent ends. Nothing is saved: other ranks may not answer a collective any more."""
    if not _ask_kernel():
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:  # the parent ended before prctl was called
        _end()


def _ask_kernel() -> bool:
    if sys.platform != "linux":
        return False
    try:
        return ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, int(signal.SIGKILL), 0, 0, 0) == 0
    except (OSError, AttributeError):
        return False


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL)
    _end()


def _end() -> None:
    os.kill(os.getpid(), signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)


def _exists(process: int) -> bool:
    """Whether a process is running; a zombie is not."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    try:
        status = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not on Linux
        return True
    return status.rpartition(")")[2].split()[0] not in ("Z", "X")
