"""Parallel work on dialogues in daemon threads, which never delay the end of the program."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Generic, TypeVar

T = TypeVar("T")


class Stopped(Exception):  # noqa: N818 (no error)
    """The work was not begun, or not continued, because :meth:`Workers.stop` was called."""


class Workers(Generic[T]):
    """Threads that call a function for numbers.

    Args:
        work: the function.
        count: number of threads.

    """

    def __init__(self, work: Callable[[int], T], count: int) -> None:
        self._work, self._count = work, count
        self._jobs: queue.SimpleQueue[tuple[int, Future[T]] | None] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self.pending: dict[int, Future[T]] = {}
        for _ in range(count):
            threading.Thread(target=self._run, daemon=True).start()

    @property
    def stopped(self) -> bool:
        """Whether :meth:`stop` was called."""
        return self._stopped.is_set()

    def begin(self, number: int) -> None:
        """Call the function for a number as soon as a thread is free."""
        self.pending[number] = Future()
        self._jobs.put((number, self.pending[number]))

    def result(self, number: int) -> T:
        """Wait for the result for a number that was begun; raises what the function raised."""
        result = self.pending[number].result()
        del self.pending[number]
        return result

    def stop(self) -> None:
        """Begin nothing more, and wait until the calls under way have ended."""
        self._stopped.set()
        for _ in range(self._count):
            self._jobs.put(None)
        wait(self.pending.values())

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            number, future = job
            try:
                if self.stopped:
                    raise Stopped
                future.set_result(self._work(number))
            except BaseException as error:
                future.set_exception(error)
