"""Bodies of requests as JSON, parsed in threads: a large one would hold up the event loop."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json

from nextgpt_pl.serving.errors import RequestError
from nextgpt_pl.serving.threads import in_thread

_SMALL = 2**16  # bytes that are parsed at once
_MAX_ITEMS = 100_000  # a thread cannot be interrupted while it parses, so that millions of items would hold up all


def json_route(threads: Executor) -> type[APIRoute]:
    """A class of routes whose JSON bodies are parsed in threads."""

    class JSONRequest(Request):
        """Its body is bounded JSON."""

        async def json(self) -> Any:
            """The parsed body.

            Raises:
                RequestError: it is not JSON, or has too many items.

            """
            data = await self.body()
            return _parsed(data) if len(data) <= _SMALL else await in_thread(threads, _parsed, data)

    class JSONRoute(APIRoute):
        """Its requests are of :class:`JSONRequest`."""

        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            """The handler, which gets requests of that class."""
            handler = super().get_route_handler()

            async def handle(request: Request) -> Response:
                return await handler(JSONRequest(request.scope, request.receive))

            return handle

    return JSONRoute


def _parsed(data: bytes) -> Any:
    items = sum(data.count(mark) for mark in (b",", b"[", b"{"))
    if items > _MAX_ITEMS:
        message = f"the body has {items:,} commas and opening brackets, at most {_MAX_ITEMS:,} are read"
        raise RequestError(400, message, code="request_too_complex")
    try:
        return from_json(data, allow_inf_nan=False)
    except ValueError as error:
        raise RequestError(400, f"the body is not valid JSON: {error}", code="invalid_json") from error
