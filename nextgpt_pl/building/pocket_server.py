"""A server that speaks the chat completions protocol and writes dialogues of the pocket world, without any model.

A prompt has to contain the lines ``Dialogue: 17``, ``Kinds: image, audio`` and ``Exchanges: 3``, as that of
``experiments/build/pocket.yaml``. The number determines the dialogue.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import Any

from nextgpt_pl.building.answers import encoded
from nextgpt_pl.modality import GENERATED, Modality
from nextgpt_pl.pocket.world import grammar
from nextgpt_pl.pocket.world.dialogues import ROUTES
from nextgpt_pl.pocket.world.scenes import pick
from nextgpt_pl.pocket.world.turns import SceneRenderer
from nextgpt_pl.samples import MediaPart, Message

_PATH = "/v1/chat/completions"
_REQUEST = re.compile(r"Dialogue: (\d+)\b.*Kinds: ([a-z, ]+)\n.*Exchanges: (\d+)", re.DOTALL)
# routes of one exchange, and the media that occur in them
_KINDS: dict[str, frozenset[Modality]] = {
    **{f"{m}->text": frozenset({m}) for m in GENERATED},
    **{f"text->{m}": frozenset({m}) for m in GENERATED},
    "image+text->image": frozenset({Modality.IMAGE}),
    "image->video": frozenset({Modality.IMAGE, Modality.VIDEO}),
    "audio->image": frozenset({Modality.AUDIO, Modality.IMAGE}),
    "text->image+audio": frozenset({Modality.IMAGE, Modality.AUDIO}),
}


@dataclass(frozen=True)
class Asked:
    """What a prompt asks for: the number of a dialogue, its kinds of media, and its number of exchanges."""

    number: int
    kinds: frozenset[Modality]
    exchanges: int


@dataclass(frozen=True)
class Response:
    """Status, body and further headers of a response."""

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


Respond = Callable[[Mapping[str, Any]], Response | None]


def asked(request: Mapping[str, Any]) -> Asked | None:
    """What a request's last message asks for; ``None`` if it is no request for a dialogue of the pocket world."""
    try:
        match = _REQUEST.search(request["messages"][-1]["content"])
        kinds = frozenset(map(Modality, match[2].split(", "))) if match else frozenset()
    except (KeyError, IndexError, TypeError, ValueError):
        return None
    return Asked(int(match[1]), kinds, int(match[3])) if match and kinds <= set(GENERATED) else None


def written(request: Asked) -> tuple[Message, ...]:
    """The dialogue: every requested kind of media occurs, if there are as many exchanges as kinds."""
    rng, messages, missing = Random(f"pocket server/{request.number}"), list[Message](), set(request.kinds)
    fitting = tuple(route for route, kinds in _KINDS.items() if kinds <= request.kinds)
    for _ in range(request.exchanges):
        needed = tuple(route for route in fitting if _KINDS[route] & missing)
        route = pick(rng, needed or fitting)
        turns, _ = ROUTES[route](rng, "train")
        messages += [Message(turn.role, tuple(_described(part) for part in turn.parts)) for turn in turns]
        missing -= _KINDS[route]
    return tuple(messages)


def _described(part: Any) -> Any:
    """A part, whose medium has a caption: that of the scene which it shows."""
    if isinstance(part, MediaPart) and part.media is not None and isinstance(part.media.source, SceneRenderer):
        return MediaPart(part.modality, caption=grammar.plain_caption(part.media.source.scene))
    return part


def completion(text: str, prompt: str, end: str = "stop") -> dict[str, Any]:
    """The body of a response with a text; tokens are counted as words."""
    tokens = {"prompt_tokens": len(prompt.split()), "completion_tokens": len(text.split())}
    return {
        "id": "pocket",
        "object": "chat.completion",
        "created": 0,
        "model": "pocket",
        "choices": [{"index": 0, "finish_reason": end, "message": {"role": "assistant", "content": text}}],
        "usage": {**tokens, "total_tokens": sum(tokens.values())},
    }


def respond(request: Mapping[str, Any]) -> Response:
    """The response to a request."""
    wanted = asked(request)
    if wanted is None:
        message = "the prompt has no lines 'Dialogue: 17', 'Kinds: image, audio' and 'Exchanges: 3'"
        return Response(400, {"error": {"message": message, "type": "invalid_request_error"}})
    text = json.dumps({"messages": encoded(written(wanted))})
    return Response(200, completion(text, str(request["messages"])))


@contextmanager
def serving(answer: Respond = respond) -> Iterator[str]:
    """Run the server in a thread of this process, reachable from this machine only; yields its ``base_url``.

    Args:
        answer: gives the response to a request's body; ``None`` closes the connection without one.

    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(answer))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


def _handler(answer: Respond) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
            response = answer(request) if self.path == _PATH else Response(404, {"error": {"message": self.path}})
            if response is None:
                self.close_connection = True
                return
            body = json.dumps(response.body).encode()
            self.send_response(response.status)
            headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **response.headers}
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    return Handler
