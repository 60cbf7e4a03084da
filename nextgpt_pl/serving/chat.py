"""``/v1/chat/completions``: the reply as one object, or streamed by server-sent events."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from nextgpt_pl.generation.streaming import joined
from nextgpt_pl.samples import ReplyPart
from nextgpt_pl.serving.bodies import json_route
from nextgpt_pl.serving.content import content, content_part
from nextgpt_pl.serving.errors import RequestError, internal
from nextgpt_pl.serving.jobs import Job
from nextgpt_pl.serving.schema import Chat
from nextgpt_pl.serving.service import Service

_KEEP_ALIVE = ": the reply is in work\n\n"  # a comment, which clients ignore


def chat_routes(service: Service) -> APIRouter:
    """The route of chats."""
    router = APIRouter(route_class=json_route(service.threads))

    @router.post("/v1/chat/completions", responses={200: {"content": {"text/event-stream": {}}}})
    async def chat_completions(body: Chat, request: Request) -> Response:
        """Answer a conversation with text and media in order."""
        began = time.monotonic()
        job = await service.awaited(request, service.intake.chat(body, request.state.deadline))
        reply = _Reply(service, body, job)
        if body.stream:
            return StreamingResponse(reply.events(began), media_type="text/event-stream")
        return JSONResponse(await service.awaited(request, reply.whole()))

    return router


class _Reply:
    """The reply to one chat in OpenAI's format."""

    def __init__(self, service: Service, body: Chat, job: Job) -> None:
        self._service, self._body, self._job = service, body, job
        self._plain = body.modalities == ["text"]
        self._head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": service.name}

    async def whole(self) -> dict[str, Any]:
        """The body of a response that is not streamed."""
        (parts,) = await self._service.answered([self._job])
        given = await self._service.in_thread(content, parts, plain=self._plain)
        usage, reason = self._service.usage(self._job, parts)
        choice = {"index": 0, "message": {"role": "assistant", "content": given}, "finish_reason": reason}
        return {**self._head, "object": "chat.completion", "choices": [choice], "usage": usage}

    async def events(self, began: float) -> AsyncIterator[str]:
        """Server-sent events: text as ``delta.content``, each other part as the only one of ``delta.parts``."""
        parts: list[ReplyPart] = []
        self._service.engine.submit(self._job)
        try:
            yield self._chunk({"role": "assistant", "content": ""})
            async for part in self._job.parts(self._service.options.keep_alive):
                if part is None:
                    yield _KEEP_ALIVE
                    continue
                if part.type == "text" and not any(p.type == "text" for p in parts):
                    self._service.metrics.first_text.observe(time.monotonic() - began)
                parts.append(part)
                if part.type == "text":
                    delta: dict[str, Any] = {"content": part.text}
                else:
                    delta = {"parts": [await self._service.in_thread(content_part, part)]}
                yield self._chunk(delta)
            usage, reason = self._service.usage(self._job, joined(parts))
            yield self._chunk({}, reason)
            if self._body.stream_options is not None and self._body.stream_options.include_usage:
                yield _event({**self._head, "object": "chat.completion.chunk", "choices": [], "usage": usage})
        except RequestError as error:
            yield _event(error.body)
        except Exception:
            yield _event(internal().body)
            raise
        finally:
            self._job.cancel()
        yield "data: [DONE]\n\n"

    def _chunk(self, delta: Mapping[str, Any], reason: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return _event({**self._head, "object": "chat.completion.chunk", "choices": [choice]})


def _event(data: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(data)}\n\n"
