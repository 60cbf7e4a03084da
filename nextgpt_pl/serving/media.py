"""Routes that generate one kind of medium from a prompt.

The prompt is a message of the user, and the reply must contain the medium, as with ``modalities`` of a chat. What else
is in the reply is left out.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response

from nextgpt_pl.modality import DECODABLE, Modality
from nextgpt_pl.samples import ReplyPart
from nextgpt_pl.serving.bodies import json_route
from nextgpt_pl.serving.content import base64_of, file_of
from nextgpt_pl.serving.errors import RequestError
from nextgpt_pl.serving.schema import GeneratedFile, GeneratedFiles, Generations, Speech
from nextgpt_pl.serving.service import Service

#: OpenAI's paths; other media have /v1/MODALITYs
_PATHS = {
    Modality.IMAGE: "/v1/images/generations",
    Modality.AUDIO: "/v1/audio/speech",
    Modality.SPEECH: "/v1/speech",
}
_SOUND_TYPES = {"wav": "audio/wav", "flac": "audio/flac", "mp3": "audio/mpeg"}
Endpoint = Callable[..., Coroutine[Any, Any, Any]]


def media_routes(service: Service) -> APIRouter:
    """The routes of all media that are generated."""
    router = APIRouter(route_class=json_route(service.threads))
    for modality in DECODABLE:
        path = _PATHS.get(modality, f"/v1/{modality}s")
        about: dict[str, Any] = {"methods": ["POST"], "name": f"generate_{modality}"}
        if modality is Modality.AUDIO:
            files: dict[int | str, dict[str, Any]] = {200: {"content": {kind: {} for kind in _SOUND_TYPES.values()}}}
            router.add_api_route(path, _sound(service), response_class=Response, responses=files, **about)
        else:
            router.add_api_route(path, _files(service, modality), response_model=GeneratedFiles, **about)
    return router


def _files(service: Service, modality: Modality) -> Endpoint:
    async def generations(body: Generations, request: Request) -> GeneratedFiles:
        """Generate media from a prompt, as files in base64."""
        work = _media(service, request, modality, "prompt", body, body.n or 1)
        media = await service.awaited(request, work)
        texts = await service.in_thread(lambda: [base64_of(medium) for medium in media])
        pairs = zip(texts, media, strict=True)
        return GeneratedFiles(created=int(time.time()), data=[_file(text, medium) for text, medium in pairs])

    return generations


def _file(text: str, medium: ReplyPart) -> GeneratedFile:
    origin = None if medium.origin is None else medium.origin.as_dict()
    return GeneratedFile(b64_json=text, revised_prompt=medium.caption, origin=origin)


def _sound(service: Service) -> Endpoint:
    speaks = Modality.SPEECH in service.made and Modality.AUDIO not in service.made
    modality = Modality.SPEECH if speaks else Modality.AUDIO

    async def speech(body: Speech, request: Request) -> Response:
        """Generate a sound from a prompt, as a file; speech if the model makes no other sounds."""
        (sound,) = await service.awaited(request, _media(service, request, modality, "input", body))
        data = await service.in_thread(file_of, sound, f".{body.response_format}")
        headers = {"X-Origin": json.dumps(sound.origin.as_dict())} if sound.origin else None
        return Response(data, headers=headers, media_type=_SOUND_TYPES[body.response_format])

    return speech


async def _media(
    service: Service, request: Request, modality: Modality, field: str, body: Generations | Speech, n: int = 1
) -> list[ReplyPart]:
    """The first medium of each of ``n`` replies to the prompt, which is a field of the body."""
    deadline, prompt = request.state.deadline, getattr(body, field)
    jobs = await service.intake.media(modality, prompt, field, n, body.seed, body.model, deadline)
    with service.admission.admitted(n - 1):  # the gate has admitted one
        replies = await service.answered(jobs)
    for job, reply in zip(jobs, replies, strict=True):
        service.usage(job, reply)
    return [_first(reply, modality, field) for reply in replies]


def _first(reply: Sequence[ReplyPart], modality: Modality, field: str) -> ReplyPart:
    for part in reply:
        if part.type == modality:
            return part
    text = " ".join(part.text or f"({part.type})" for part in reply)
    # no status above 500: clients would repeat the request, whose reply would be the same
    raise RequestError(422, f"the model has replied without {modality}: {text!r:.500}", field, "no_medium")
