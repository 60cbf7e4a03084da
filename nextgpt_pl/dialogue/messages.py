"""Convert chat messages to dialogues and validate them.

Messages are those of transformers' any-to-any pipeline: ``{"role": "user", "content": [parts]}``, where a part is
``{"type": "text", "text": ...}``, or ``{"type": "image" | "video" | "audio", TYPE: ...}`` with a path, the bytes of a
file, a PIL image, an array (with its ``rate``), a rate and an array, or a :class:`Media`. A :class:`ReplyPart` is a
part too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from nextgpt_pl.errors import UserError, nearest
from nextgpt_pl.media.files import is_file
from nextgpt_pl.media.reading import as_array
from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import Dialogue, Media, MediaPart, Message, Part, ReplyPart, TextPart

Messages = Sequence[Mapping[str, Any]]
_TYPES = ("text", *(m.value for m in Modality))


def dialogue_of(messages: Messages) -> Dialogue:
    """Convert chat messages to a dialogue that ends with the user.

    Raises:
        UserError: a message or part has another format; the error names its position.

    """
    turns = []
    for number, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise UserError(f"message {number}: {type(message).__name__}, not {{'role': ..., 'content': ...}}")
        role = message.get("role")
        if role not in ("system", "user", "assistant"):
            raise UserError(f"message {number}: role={role!r}; known are system, user, assistant")
        content = message.get("content")
        if not isinstance(content, (str, list, tuple)):
            raise UserError(f"message {number}: its content is a text or a list of parts, not {content!r:.60}")
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        turns.append(Message(role, tuple(_part(p, f"message {number}, part {i}") for i, p in enumerate(parts))))
    if not turns or turns[-1].role != "user":
        raise UserError("messages must end with one of the user")
    return Dialogue("chat", tuple(turns))


def _part(part: Any, where: str) -> Part:
    if isinstance(part, ReplyPart):
        if part.step is not None:
            raise UserError(
                f"{where}: a preview of {part.type}, step {part.step[0]} of {part.step[1]}; give the medium"
            )
        extra = {"rate": part.rate, "caption": part.caption}
        part = {"type": part.type, part.type: part.text if part.type == "text" else part.array, **extra}
    if not isinstance(part, Mapping) or part.get("type") not in _TYPES:
        kind = part.get("type") if isinstance(part, Mapping) else part
        raise UserError(f"{where}: type={kind!r:.60}; known are {', '.join(_TYPES)}{nearest(str(kind), _TYPES)}")
    kind = part["type"]
    if part.get(kind) is None:
        raise UserError(f"{where}: no {kind!r} in it")
    if kind == "text":
        if not isinstance(part["text"], str):
            raise UserError(f"{where}: its text is a string, not {part['text']!r:.60}")
        return TextPart(part["text"])
    modality = Modality(kind)
    source: Any = part[kind]
    caption = str(part.get("caption") or "")
    if isinstance(source, Media):
        return MediaPart(modality, source, caption=caption)
    if isinstance(source, (str, Path)):
        if not is_file(source):
            raise UserError(f"{where}: no such file: {_printable(source)}")
        return MediaPart(modality, Media(modality, Path(source)), caption=caption)
    rate = part.get("rate")
    if isinstance(source, tuple) and len(source) == 2 and modality in (Modality.AUDIO, Modality.VIDEO):
        rate, source = source  # the order of scipy and gradio
    array, own_rate = as_array(source, modality, where)
    if rate is not None:
        _check_rate(rate, where)
    rate = own_rate or rate
    sample_rate = int(rate) if rate and modality is Modality.AUDIO else None
    fps = float(rate) if rate and modality is Modality.VIDEO else None
    return MediaPart(modality, Media(modality, _ArraySource(array), sample_rate, fps), caption=caption)


def _printable(path: str | Path) -> str:
    """A path for a message: escaped, and shortened if no file can have such a name."""
    return repr(str(path))[1:-1][:300]


def _check_rate(rate: Any, where: str) -> None:
    number = isinstance(rate, Real) and not isinstance(rate, bool)
    if not number or not 0 < rate < math.inf:
        raise UserError(f"{where}: rate={rate!r:.60}; a number above 0, in hertz or frames per second")


class _ArraySource:
    """An array as a source of media; compared by identity, not by value."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __call__(self) -> np.ndarray:
        return self.array
