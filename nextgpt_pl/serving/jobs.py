"""A request on its way through the engine: what is asked, and its parts on their way back to the event loop."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Hashable, Mapping
from typing import Any

from nextgpt_pl.batches import Rendered
from nextgpt_pl.samples import ReplyPart
from nextgpt_pl.serving.deadline import Deadline

_END = None
_GRACE = 1.0  # seconds in which the model's thread notices that the time is over
Event = ReplyPart | BaseException | None


class Job:
    """One reply to be made. Created on the event loop; the model's thread calls :meth:`put` and :meth:`end`.

    Args:
        prompt: the prompt, with its media read.
        options: options of :meth:`~nextgpt_pl.pipeline.AnyToAny.batch` without seeds.
        seed: seed of the media, and of sampling.
        deadline: when the job is given up.
        seeded: whether the client has given the seed.
        streamed: whether parts are sent while the reply is written.

    """

    def __init__(
        self,
        prompt: Rendered,
        options: Mapping[str, Any],
        seed: int,
        deadline: Deadline,
        *,
        seeded: bool = True,
        streamed: bool = False,
    ) -> None:
        self.prompt, self.options, self.seed, self.streamed = prompt, dict(options), seed, streamed
        self._deadline = deadline
        self._sampled = bool(options.get("temperature")) and seeded
        self._cancelled = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue()

    @property
    def group(self) -> Hashable:
        """Jobs of equal groups can be answered together.

        The sampling of a batch has one seed for all rows. A sampled job whose client has given a seed is answered
        alone, so that the seed determines its reply.
        """
        options = ((k, tuple(v) if isinstance(v, list) else v) for k, v in sorted(self.options.items()))
        return (*options, id(self) if self._sampled else None)

    def cancel(self) -> None:
        """Give the job up; the model stops within a token or a denoising step."""
        self._cancelled.set()

    def stopped(self) -> bool:
        """Whether the job is cancelled, or its time is over."""
        return self._cancelled.is_set() or self._deadline.over

    def put(self, part: ReplyPart) -> None:
        """Send a part to the event loop."""
        self._send(part)

    def end(self, error: BaseException | None = None) -> None:
        """Send the end, or the error that has ended the job."""
        if error is None and self.stopped():
            error = self._deadline.error()
        self._send(error)

    def _send(self, event: Event) -> None:
        try:
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)
        except RuntimeError:  # the event loop is closed, and nobody waits
            self.cancel()

    async def parts(self, idle: float = math.inf) -> AsyncIterator[ReplyPart | None]:
        """The parts as they come; leaving the iteration cancels the job.

        Args:
            idle: seconds without a part after which ``None`` is yielded.

        Raises:
            RequestError: the time is over.

        """
        try:
            while True:
                wait = min(idle, self._deadline.remaining + _GRACE)
                try:
                    event = await asyncio.wait_for(self._events.get(), wait)
                except asyncio.TimeoutError:
                    if self._deadline.over:  # the model is at work on others
                        raise self._deadline.error() from None
                    yield None
                    continue
                if event is _END:
                    return
                if isinstance(event, BaseException):
                    raise event
                yield event
        finally:
            self.cancel()

    async def reply(self) -> list[ReplyPart]:
        """All parts; see :meth:`parts`."""
        return [part async for part in self.parts() if part is not None]
