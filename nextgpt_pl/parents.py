"""Processes that end with the one that started them, however it ends."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from multiprocessing import parent_process
from pathlib import Path

_VARIABLE = "NEXTGPT_PARENT_PROCESS"
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux's prctl
_POLL = 1.0  # seconds, where the system cannot tell


def child_environment() -> dict[str, str]:
    """What a process that is to end with this one finds in its environment, beside the rest of it."""
    return {_VARIABLE: str(os.getpid())}


def forget_children() -> None:
    """Remove it from this process's own environment."""
    os.environ.pop(_VARIABLE, None)


def end_with_starter() -> None:
    """End when the process ends whose :func:`child_environment` this one was given; without one, do nothing.

    To be called first of all: a starter that ended in between ends this process at once.
    """
    starter = os.environ.pop(_VARIABLE, "")
    if starter.isdigit() and (os.getppid() == int(starter) or not _exists(int(starter))):
        end_with(int(starter))


def start_worker(_worker: int = 0) -> None:
    """For a data loader's workers (``worker_init_fn``): end with the process that started them, and on its word alone.

    Schedulers send SIGTERM, and terminals Ctrl-C, to all processes; the first of them still needs its batches until its
    optimizer step is done.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None and parent.pid is not None:
        _obey_alone(parent.pid)
        # with forkserver, the system's parent is a server, which ends with the process that asked for the worker
        served = os.getppid() != parent.pid and _exists(parent.pid)
        end_with(os.getppid() if served else parent.pid)


def _obey_alone(parent: int) -> None:
    """End on SIGTERM if the parent sent it, as multiprocessing does at its end; ignore it from others."""
    if not hasattr(signal, "sigwaitinfo"):  # nobody says who sent it: ending is the safe side
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # in the threads begun from here on, too

    def wait() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
            pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


def end_with(parent: int) -> None:
    """Be killed when the parent process ends. Its death is no moment to talk to other processes: nothing is saved."""
    if not _ask_kernel():
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:  # it had ended before
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
    """Whether a process runs; one that has ended, but was not waited for yet, does not."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    try:
        status = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:  # another system than Linux
        return True
    return status.rpartition(")")[2].split()[0] not in ("Z", "X")
