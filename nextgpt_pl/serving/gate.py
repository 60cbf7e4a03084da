"""What a request must pass before it is read: the token, the number of requests in work, the size of its body."""

from __future__ import annotations

import asyncio
import hmac
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nextgpt_pl.serving.deadline import Deadline
from nextgpt_pl.serving.errors import RequestError
from nextgpt_pl.serving.metrics import Metrics
from nextgpt_pl.serving.options import ServerOptions

_OPEN = ("/health",)  # paths without a token
_LONGEST_WAIT = 60


class Admission:
    """The number of replies that wait or are written; used on the event loop only.

    Args:
        limit: highest number.
        metrics: shows the number.

    """

    def __init__(self, limit: int, metrics: Metrics) -> None:
        self._limit, self._metrics = limit, metrics
        self._count, self._seconds = 0, 1.0  # mean duration of recent requests

    @contextmanager
    def admitted(self, count: int = 1) -> Iterator[None]:
        """Admit a number of replies until the block ends.

        Raises:
            RequestError: there are too many.

        """
        if self._count + count > self._limit:
            wait = min(_LONGEST_WAIT, max(1, math.ceil(self._seconds)))
            message = f"{self._count} requests are in work or wait; try again in {wait} s"
            raise RequestError(429, message, code="queue_full", headers={"Retry-After": str(wait)})
        began = time.monotonic()
        self._add(count)
        try:
            yield
        finally:
            self._seconds += 0.1 * (time.monotonic() - began - self._seconds)
            self._add(-count)

    def _add(self, number: int) -> None:
        self._count += number
        self._metrics.in_work.set(self._count)


class Gate:
    """ASGI middleware that refuses requests before their body is read.

    Args:
        app: the application.
        options: limits.
        admission: counts requests with a body.
        metrics: counts finished requests.
        token: bearer token that requests need; ``None``: none.

    """

    def __init__(
        self, app: ASGIApp, options: ServerOptions, admission: Admission, metrics: Metrics, token: str | None
    ) -> None:
        self._app, self._options, self._admission, self._metrics, self._token = app, options, admission, metrics, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), 500

        async def counted(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        deadline = Deadline(self._options.timeout)
        scope.setdefault("state", {})["deadline"] = deadline
        body = _Body(receive, self._options.max_body, deadline)
        try:
            await self._passed(scope, body, counted)
        except RequestError as error:
            await body.discard()
            await error.response()(scope, body, counted)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(time.monotonic() - began)

    async def _passed(self, scope: Scope, body: _Body, send: Send) -> None:
        headers = dict(scope["headers"])
        if self._token is not None and scope["path"] not in _OPEN:
            given = headers.get(b"authorization", b"")
            if not hmac.compare_digest(given, f"Bearer {self._token}".encode()):
                message = "this server needs a token: Authorization: Bearer TOKEN"
                raise RequestError(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})
        if scope["method"] != "POST":
            await self._app(scope, body, send)
            return
        with self._admission.admitted():
            body.check(headers.get(b"content-length", b""))
            await self._app(scope, body, send)


class _Body:
    """The body of a request, up to a size and a time."""

    def __init__(self, receive: Receive, max_bytes: int, deadline: Deadline) -> None:
        self._receive, self._max_bytes, self._deadline = receive, max_bytes, deadline
        self._size, self._complete = 0, False

    async def __call__(self) -> Message:
        """The next part of the body, or the end of the connection."""
        if self._complete:
            return await self._receive()
        message = await self._next()
        self._size += len(message.get("body", b""))
        if self._size > self._max_bytes:
            raise self._too_large()
        return message

    def check(self, length: bytes) -> None:
        """Refuse a body whose header says that it is too large."""
        if length.isdigit() and int(length) > self._max_bytes:
            raise self._too_large()

    async def discard(self) -> None:
        """Read the rest, up to the maximum size, since many clients read no response before they have sent all."""
        size = 0
        try:
            while not self._complete and size <= self._max_bytes:
                size += len((await self._next()).get("body", b""))
        except RequestError:
            self._complete = True

    async def _next(self) -> Message:
        try:
            message: Any = await asyncio.wait_for(self._receive(), self._deadline.remaining)
        except asyncio.TimeoutError:
            raise self._deadline.error() from None
        self._complete = not message.get("more_body", False)
        return message

    def _too_large(self) -> RequestError:
        return RequestError(413, f"the request is larger than {self._max_bytes:,} bytes", code="request_too_large")
