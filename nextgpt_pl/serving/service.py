"""What all routes share: intake, engine, limits and counts of one server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from fastapi import Request

from nextgpt_pl.pipeline import AnyToAny
from nextgpt_pl.samples import ReplyPart
from nextgpt_pl.serving.engine import Engine
from nextgpt_pl.serving.errors import RequestError
from nextgpt_pl.serving.gate import Admission
from nextgpt_pl.serving.intake import Intake
from nextgpt_pl.serving.jobs import Job
from nextgpt_pl.serving.metrics import Metrics
from nextgpt_pl.serving.options import ServerOptions

T = TypeVar("T")
_GONE = 499  # nobody reads it


class Service:
    """One server.

    Args:
        model: the model.
        name: its name in requests.
        options: limits.

    """

    def __init__(self, model: AnyToAny, name: str, options: ServerOptions) -> None:
        self.name, self.options = name, options
        self.metrics = Metrics()
        self.admission = Admission(options.queue, self.metrics)
        self.engine = Engine(model, options.batch_size, self.metrics)
        self._threads = ThreadPoolExecutor(options.readers, "nextgpt_pl reader")
        self.intake = Intake(model, name, options, self._threads)

    async def in_thread(self, function: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """Call a function in a thread, since the event loop must not wait."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(function, *arguments, **named))

    async def answered(self, request: Request, jobs: Sequence[Job]) -> list[list[ReplyPart]]:
        """The replies to jobs; they are cancelled when the client disconnects.

        Raises:
            RequestError: the time is over, the model has failed, or the client is gone.

        """
        for job in jobs:
            self.engine.submit(job)
        answers = asyncio.ensure_future(_all_collected(jobs))
        watch = asyncio.ensure_future(_disconnected(request))
        try:
            await asyncio.wait([answers, watch], return_when=asyncio.FIRST_COMPLETED)
            if not answers.done():
                raise RequestError(_GONE, "the client has disconnected")
            return answers.result()
        finally:
            watch.cancel()
            answers.cancel()
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
        self._threads.shutdown()


async def _all_collected(jobs: Sequence[Job]) -> list[list[ReplyPart]]:
    return [await _collected(job) for job in jobs]


async def _collected(job: Job) -> list[ReplyPart]:
    return [part async for part in job.parts()]


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
