"""Threads that write media and predictions while the model answers the next items."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

from nextgpt_pl.evaluation.records import Prediction

S = TypeVar("S")
T = TypeVar("T")
_THREADS = min(8, os.cpu_count() or 1)


class Background:
    """Threads that read and write media, and one that records predictions in order as soon as their media are written.

    At most one call of :meth:`record` is unfinished, so that few media are in memory. Leaving the context waits for it,
    whatever the reason: an interrupted run has all predictions that were recorded.

    Args:
        write: writes a prediction; called in the order of :meth:`record`.

    """

    def __init__(self, write: Callable[[Prediction], None]) -> None:
        self._write = write
        self._writers = ThreadPoolExecutor(_THREADS, "nextgpt_pl writer")
        self._readers = ThreadPoolExecutor(_THREADS, "nextgpt_pl reader")
        self._recorder = ThreadPoolExecutor(1, "nextgpt_pl recorder")
        self._unfinished: Future[None] | None = None

    def submit(self, function: Callable[..., T], *args: Any) -> Future[T]:
        """Start a function that writes media in a thread."""
        return self._writers.submit(function, *args)

    def read(self, function: Callable[[S], T], items: Iterable[S]) -> list[T]:
        """The results of a function that reads media, in threads that do not wait for those that write."""
        return list(self._readers.map(function, items))

    def record(self, predictions: Sequence[Future[Prediction]]) -> None:
        """Write predictions when they are there.

        Raises:
            Exception: of the call before; of its predictions, those in front of the failed one are written.

        """
        self.wait()
        self._unfinished = self._recorder.submit(self._record, predictions)

    def _record(self, predictions: Sequence[Future[Prediction]]) -> None:
        for prediction in predictions:
            self._write(prediction.result())

    def wait(self) -> None:
        """Wait for the last call of :meth:`record`, and raise its error."""
        if self._unfinished is not None:
            self._unfinished.result()
            self._unfinished = None

    def __enter__(self) -> Background:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.wait()
        finally:
            for threads in (self._readers, self._writers, self._recorder):
                threads.shutdown()
        if error is not None and self._unfinished is not None:
            failure = self._unfinished.exception()
            if failure is not None and failure is not error:
                warnings.warn(f"predictions could not be written: {failure!r}", stacklevel=2)
