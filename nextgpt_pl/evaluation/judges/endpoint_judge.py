"""A multimodal LLM behind OpenAI's chat completions protocol as judge."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Event
from typing import Any

from PIL import Image
from tqdm import tqdm

from nextgpt_pl.building.connection import Connection, Request
from nextgpt_pl.building.endpoint import Endpoint
from nextgpt_pl.errors import UserError
from nextgpt_pl.evaluation.judges.base import Inquiry, Judge, Judgement, Scale
from nextgpt_pl.media.reading import array_of
from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import Media
from nextgpt_pl.utils.distributed import rank

_VERSION = 1  # raise it when the wording of requests changes
_SYSTEM = (
    "You judge the output of a generative model. Judge strictly what is there, not what was probably meant. "
    "Reply with one JSON object and nothing else. It has a text 'reason' of one sentence, and these numbers:\n{}"
)


class EndpointJudge(Judge):
    """An LLM that sees images. The wording of its questions is that of this package, not of the benchmarks.

    Scores by other models or wordings, such as published ones, are therefore not comparable. A folder of predictions
    from a third party names this class only if it is trusted, since the environment's API key is sent to the endpoint.

    Args:
        endpoint: address and settings of the LLM; ``temperature: 0`` gives the most stable answers.
        seed: seed of the requests.

    """

    def __init__(self, endpoint: Endpoint, seed: int = 0) -> None:
        self.endpoint, self.seed = endpoint, seed

    @property
    def identity(self) -> str:
        """Model, address and temperature, and the version of the wording."""
        temperature = "default" if self.endpoint.temperature is None else f"{self.endpoint.temperature:g}"
        return f"{self.endpoint.model} at {self.endpoint.base_url}, temperature {temperature}, wording {_VERSION}"

    def judge(self, inquiries: Sequence[Inquiry]) -> list[Judgement]:
        """One answer per question; after a failed request no further ones are sent."""
        if not inquiries:
            return []
        stop = Event()
        with self.endpoint.connected() as connection, ThreadPoolExecutor(self.endpoint.concurrency) as pool:
            answers = pool.map(partial(self._judgement, connection, stop), inquiries)
            return list(tqdm(answers, self.endpoint.model, len(inquiries), delay=2, disable=rank() != 0))

    def _judgement(self, connection: Connection, stop: Event, inquiry: Inquiry) -> Judgement:
        if stop.is_set():
            return Judgement(None, failed="an earlier request failed")
        try:
            reply = connection.send(_request(inquiry), self.seed)
        except UserError as error:
            stop.set()
            return Judgement(None, failed=str(error))
        return Judgement(None if reply.fault else values_of(reply.text, inquiry.scales), reply.fault or reply.text)


def values_of(text: str, scales: Sequence[Scale]) -> dict[str, float] | None:
    """The numbers of a reply's JSON object; ``None`` if one is missing or out of bounds. Text around it is ignored."""
    try:
        found = json.loads(text[text.find("{") : text.rfind("}") + 1])
        values = {scale.name: float(found[scale.name]) for scale in scales}
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    right = all(math.isfinite(values[s.name]) and s.low <= values[s.name] <= s.high for s in scales)
    return values if right else None


def _request(inquiry: Inquiry) -> Request:
    lines = "\n".join(f"- '{s.name}', from {s.low:g} to {s.high:g}: {s.meaning}." for s in inquiry.scales)
    content = [{"type": "text", "text": inquiry.text}, *map(_image, inquiry.images)]
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": _SYSTEM.format(lines)},
        {"role": "user", "content": content},
    ]
    properties = {"reason": {"type": "string"}, **{s.name: {"type": "number"} for s in inquiry.scales}}
    schema = {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}
    return Request(messages, "judgement", schema)


def _image(path: Any) -> dict[str, Any]:
    """An image as PNG, whatever format its file has."""
    file = io.BytesIO()
    Image.fromarray(array_of(Media(Modality.IMAGE, path))[0]).save(file, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}
