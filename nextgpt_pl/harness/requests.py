"""Requests of lmms-eval as messages and options of :class:`~nextgpt_pl.pipeline.AnyToAny`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import GENERATED, MODALITIES, Modality

_NO_MEDIA = "text"
_TOKENS = ("max_new_tokens", "max_gen_toks", "max_tokens")
_KNOWN = {*_TOKENS, "until", "temperature", "top_p", "do_sample", "num_beams", "modalities"}
#: of a video: part of it in seconds, by the names of lmms-eval
_CLIP = {"start_time": "start", "end_time": "end", "video_start": "start", "video_end": "end"}


class Options(NamedTuple):
    """How requests are answered.

    Attributes:
        decoding: options of :meth:`~nextgpt_pl.pipeline.AnyToAny.batch`.
        until: texts at which a reply's text ends.
        ignored: names and values of arguments that the pipeline does not have.

    """

    decoding: dict[str, Any]
    until: tuple[str, ...]
    ignored: tuple[str, ...]


def options_of(generation_kwargs: Mapping[str, Any], modalities: Sequence[str] | None) -> Options:
    """The options of a task's ``generation_kwargs``.

    Args:
        generation_kwargs: of the task. ``modalities`` in it precedes the argument.
        modalities: media that replies contain; see :func:`modalities_of`.

    Raises:
        UserError: ``until`` is no text or list of texts.

    """
    given = {key: value for key, value in generation_kwargs.items() if value is not None}
    decoding: dict[str, Any] = {
        "modalities": modalities_of(given["modalities"]) if "modalities" in given else modalities
    }
    tokens = next((given[name] for name in _TOKENS if name in given), None)
    if tokens is not None:
        decoding["max_new_tokens"] = tokens
    if given.get("do_sample", given.get("temperature", 0) > 0):
        decoding |= {"temperature": given.get("temperature", 1.0), "top_p": given.get("top_p", 1.0)}
    until = given.get("until", ())
    until = (until,) if isinstance(until, str) else until
    if not isinstance(until, Sequence) or not all(isinstance(stop, str) for stop in until):
        raise UserError(f"generation_kwargs.until={until!r:.80}: a text or a list of texts is expected")
    ignored = [f"{key}={given[key]!r:.40}" for key in given if key not in _KNOWN]
    ignored += [f"num_beams={given['num_beams']}"] if given.get("num_beams", 1) != 1 else []
    return Options(decoding, tuple(filter(None, until)), tuple(ignored))


def modalities_of(value: Any) -> list[str] | None:
    """Modalities of replies: ``image+audio`` or a list of names; ``text``: no media; ``None``: the model decides.

    Raises:
        UserError: a name is no modality with a decoder.

    """
    if value is None:
        return None
    names = re.split(r"\s*\+\s*", value) if isinstance(value, str) else list(value)
    names = [name for name in names if name != _NO_MEDIA]
    known = [modality.value for modality in GENERATED]
    for name in names:
        if name not in known:
            raise UserError(f"modalities={value!r}: {name!r} is not one of {', '.join(known)}, or text for none")
    return names


def conversation(messages: Any) -> list[dict[str, Any]]:
    """Messages of ``doc_to_messages`` as those of the pipeline.

    Args:
        messages: mappings with ``role`` and ``content``, a text or a list of parts: ``{"type": "text", "text": ...}``
            or ``{"type": "image", "url": ...}`` with a path, a PIL image, the bytes of a file, or of a sound
            ``{"array": ..., "sampling_rate": ...}``; or the model ``ChatMessages``.

    Raises:
        UserError: a part has another format; the error names its position.

    """
    if hasattr(messages, "model_dump"):
        messages = messages.model_dump()["messages"]
    return [
        {"role": message["role"], "content": _content(message["content"], f"message {number}")}
        for number, message in enumerate(messages)
    ]


def _content(content: Any, where: str) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [_part(part, f"{where}, part {number}") for number, part in enumerate(content)]


def _part(part: Mapping[str, Any], where: str) -> dict[str, Any]:
    kind = part.get("type")
    if kind == "text":
        return {"type": "text", "text": part["text"]}
    if kind not in [modality.value for modality in MODALITIES]:
        raise UserError(f"{where}: type={kind!r}: text, {', '.join(m.value for m in GENERATED)} are expected")
    medium, about = part.get("url", part.get(kind)), dict(part)
    if isinstance(medium, Mapping) and "array" not in medium:
        about |= medium
        medium = next((medium[key] for key in ("bytes", "path", "url") if medium.get(key) is not None), None)
    if medium is None:
        raise UserError(f"{where}: no medium in its 'url'")
    clip = {ours: about[theirs] for theirs, ours in _CLIP.items() if about.get(theirs) is not None}
    if isinstance(medium, str):
        return {"type": kind, "path": medium.removeprefix("file://"), **clip}
    return {"type": kind, kind: _sound(medium) if kind == Modality.AUDIO.value else medium, **clip}


def _sound(medium: Any) -> Any:
    """A sound of the datasets library as its rate and one channel of floats."""
    if not isinstance(medium, Mapping):
        return medium
    array = np.asarray(medium["array"], dtype=np.float32)
    return int(medium["sampling_rate"]), array.mean(0) if array.ndim == 2 else array
