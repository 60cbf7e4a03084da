"""The application: all routes of one server behind its gate."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from nextgpt_pl import __version__
from nextgpt_pl.pipeline import AnyToAny
from nextgpt_pl.serving.chat import chat_routes
from nextgpt_pl.serving.errors import ErrorBody, RequestError, handle_errors
from nextgpt_pl.serving.gate import Gate
from nextgpt_pl.serving.media import media_routes
from nextgpt_pl.serving.options import ServerOptions
from nextgpt_pl.serving.service import Service

_ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorBody, "description": "The request is refused"},
    "5XX": {"model": ErrorBody, "description": "The server has failed, or the time is over"},
}


def application(model: AnyToAny, name: str, options: ServerOptions | None = None, token: str | None = None) -> FastAPI:
    """An ASGI application that serves a model; its lifespan runs the model's thread.

    Args:
        model: the model; nothing else may use it.
        name: its name in requests.
        options: limits.
        token: bearer token that requests need; ``None``: none.

    """
    options = options or ServerOptions()
    service = Service(model, name, options)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        service.engine.start()
        yield
        service.close()

    app = FastAPI(title="nextgpt_pl", version=__version__, lifespan=lifespan, responses=_ERRORS, docs_url=None)
    app.add_middleware(Gate, options=options, admission=service.admission, metrics=service.metrics, token=token)
    handle_errors(app)
    app.include_router(chat_routes(service))
    app.include_router(media_routes(service))
    _add_information(app, service)
    return app


def _add_information(app: FastAPI, service: Service) -> None:
    card = {"id": service.name, "object": "model", "created": int(time.time()), "owned_by": "nextgpt_pl"}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        """The model that is served."""
        return {"object": "list", "data": [card]}

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        """The model of a name."""
        if name != service.name:
            raise RequestError(404, f"no model {name!r:.80}; there is {service.name!r}", "model", "model_not_found")
        return card

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Whether the model's thread runs; needs no token."""
        if not service.engine.alive:
            raise RequestError(503, "the model's thread has ended", code="unhealthy")
        return {"status": "ok"}

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Counts for Prometheus."""
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)
