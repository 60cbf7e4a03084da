"""The one thread that runs the model: batches of waiting requests, and streams that take turns."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from nextgpt_pl.generation.stopping import StoppedError
from nextgpt_pl.pipeline import AnyToAny
from nextgpt_pl.samples import ReplyPart
from nextgpt_pl.serving.errors import internal
from nextgpt_pl.serving.jobs import Job
from nextgpt_pl.serving.metrics import Metrics

_log = logging.getLogger("nextgpt_pl.serving")


@dataclass(frozen=True)
class _Stream:
    job: Job
    parts: Iterator[ReplyPart]


class Engine:
    """Answers jobs.

    Jobs that wait and have the same options are answered as one batch. Streams are written part by part in turns. After
    a batch, streams have as much time as the batch has taken before the next batch begins.

    Args:
        model: the model; used by this thread only.
        batch_size: highest number of jobs in a batch, and of streams that take turns.
        metrics: counts what is done.

    """

    def __init__(self, model: AnyToAny, batch_size: int, metrics: Metrics) -> None:
        self._model, self._batch_size, self._metrics = model, batch_size, metrics
        self._inbox: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._waiting: deque[Job] = deque()
        self._waiting_streams: deque[Job] = deque()
        self._streams: list[_Stream] = []
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="nextgpt_pl model", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def submit(self, job: Job) -> None:
        """Add a job; it ends when its ``end`` is called."""
        self._inbox.put(job)

    def close(self) -> None:
        """Answer the jobs that are there, and end the thread."""
        self._inbox.put(None)
        self._thread.join()

    def _run(self) -> None:
        streams_until = 0.0
        while self._collect():
            if self._waiting and (not self._streams or time.monotonic() >= streams_until):
                began = time.monotonic()
                if batch := self._next_batch():
                    self._answer(batch)
                streams_until = 2 * time.monotonic() - began
            self._advance()

    def _collect(self) -> bool:
        """Take new jobs, waiting for one if there is nothing to do; false when the engine is closed and idle."""
        while True:
            idle = not (self._waiting or self._waiting_streams or self._streams)
            if idle and self._closing:
                return False
            try:
                job = self._inbox.get(block=idle)
            except queue.Empty:
                return True
            if job is None:
                self._closing = True
            else:
                (self._waiting_streams if job.streamed else self._waiting).append(job)

    def _next_batch(self) -> list[Job]:
        """The oldest job, and those that can be answered with it, after those that are given up have ended."""
        for job in [job for job in self._waiting if job.stopped()]:
            self._waiting.remove(job)
            job.end()
        if not self._waiting:
            return []
        group = self._waiting[0].group
        batch = [job for job in self._waiting if job.group == group][: self._batch_size]
        for job in batch:
            self._waiting.remove(job)
        return batch

    def _answer(self, jobs: list[Job]) -> None:
        try:
            replies = self._model.batch(
                [job.prompt for job in jobs],
                stop=lambda: all(job.stopped() for job in jobs),
                seed=jobs[0].seed,
                seeds=[job.seed for job in jobs],
                **jobs[0].options,
            )
        except StoppedError:
            for job in jobs:
                job.end()
            return
        except Exception:
            _log.exception("a batch of %d requests has failed", len(jobs))
            self._after_failure(jobs)
            return
        self._metrics.batch_size.observe(len(jobs))
        for job, reply in zip(jobs, replies, strict=True):
            for part in reply:
                job.put(part)
            job.end()

    def _after_failure(self, jobs: list[Job]) -> None:
        """Answer the jobs of a failed batch one by one, since one of them may be the cause, or memory was too small."""
        if len(jobs) == 1:
            jobs[0].end(internal())
            return
        for job in jobs:
            if job.stopped():
                job.end()
            else:
                self._answer([job])

    def _advance(self) -> None:
        """Start streams up to the highest number, and let each write its next part."""
        while self._waiting_streams and len(self._streams) < self._batch_size:
            job = self._waiting_streams.popleft()
            parts = self._model.stream(job.prompt, stop=job.stopped, seed=job.seed, **job.options)
            self._streams.append(_Stream(job, parts))
        self._streams = [stream for stream in self._streams if self._step(stream)]

    def _step(self, stream: _Stream) -> bool:
        """Write a stream's next part; whether there may be more."""
        try:
            part = None if stream.job.stopped() else next(stream.parts, None)
        except Exception:
            _log.exception("a stream has failed")
            stream.job.end(internal())
            return False
        if part is None:
            stream.parts.close()  # type: ignore[attr-defined]  # a generator
            stream.job.end()
            return False
        stream.job.put(part)
        return True
