"""What all routes share: intake, engine, limits and counts of one server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from fastapi import Request

from nextgpt_pl.pipeline import AnyToAny
from nextgpt_pl.samples import ReplyPart
from nextgpt_pl.serving.deadline import Deadline
from nextgpt_pl.serving.engine import Engine
from nextgpt_pl.serving.errors import RequestError
from nextgpt_pl.serving.gate import Admission
from nextgpt_pl.serving.intake import Intake
from nextgpt_pl.serving.jobs import Job
from nextgpt_pl.serving.metrics import Metrics
from nextgpt_pl.serving.options import ServerOptions
from nextgpt_pl.serving.threads import in_thread

T = TypeVar("T")
_GONE = 499  # nobody reads it


class Service:
    """One server.

    Args:
        model: the model.
        name: its name in requests.
        options: limits.

    Attributes:
        made: modalities that the model makes.

    """

    def __init__(self, model: AnyToAny, name: str, options: ServerOptions) -> None:
        self.name, self.options = name, options
        self.made = frozenset(model.network.decoders)
        self.metrics = Metrics()
        self.admission = Admission(options.queue, self.metrics)
        self.engine = Engine(model, options.batch_size, self.metrics)
        self.threads = ThreadPoolExecutor(options.readers, "nextgpt_pl reader")
        self.intake = Intake(model, name, options, self.threads)

    async def in_thread(self, function: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """Call a function in a thread; see :func:`~nextgpt_pl.serving.threads.in_thread`."""
        return await in_thread(self.threads, function, *arguments, **named)

    async def awaited(self, request: Request, work: Coroutine[Any, Any, T]) -> T:
        """The result of work for a request; it is cancelled when the client disconnects or the time is over.

        Raises:
            RequestError: the time is over, or the client is gone.

        """
        task, watch = asyncio.ensure_future(work), asyncio.ensure_future(_disconnected(request))
        deadline: Deadline = request.state.deadline
        try:
            await asyncio.wait([task, watch], timeout=deadline.remaining + 1, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise RequestError(_GONE, "the client has disconnected") if watch.done() else deadline.error()
        finally:
            watch.cancel()
            task.cancel()

    async def answered(self, jobs: Sequence[Job]) -> list[list[ReplyPart]]:
        """The replies to jobs; these are cancelled when the waiting task is.

        Raises:
            RequestError: the time is over, or the model has failed.

        """
        for job in jobs:
            self.engine.submit(job)
        try:
            return [await job.reply() for job in jobs]
        finally:
            for job in jobs:
                job.cancel()

    def usage(self, job: Job, reply: Sequence[ReplyPart]) -> tuple[dict[str, int], str]:
        """Counts of tokens of a reply, and why it has ended: ``stop`` or ``length``."""
        read, written = len(job.prompt.input_ids), sum(part.tokens for part in reply)
        self.metrics.tokens.labels("prompt").inc(read)
        self.metrics.tokens.labels("reply").inc(written)
        for part in reply:
            if part.type != "text":
                self.metrics.media.labels(part.type).inc()
        counts = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
        return counts, "length" if written >= job.options["max_new_tokens"] else "stop"

    def close(self) -> None:
        """Answer what is waiting, and end all threads."""
        self.engine.close()
        self.threads.shutdown(cancel_futures=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
