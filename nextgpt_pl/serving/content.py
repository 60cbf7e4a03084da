"""Parts of replies in OpenAI's format. They are valid parts of later messages."""

from __future__ import annotations

import base64
import mimetypes
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nextgpt_pl.media.writing import save
from nextgpt_pl.modality import MODALITIES, Modality
from nextgpt_pl.samples import ReplyPart


def file_of(part: ReplyPart, suffix: str | None = None) -> bytes:
    """The bytes of a medium's file.

    Args:
        part: the medium.
        suffix: file ending; by default PNG, MP4 or WAV.

    """
    modality = Modality(part.type)
    assert part.array is not None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"medium{suffix or MODALITIES[modality].sample_suffix}"
        save(part.array, modality, path, part.rate)
        return path.read_bytes()


def data_url(part: ReplyPart) -> str:
    """A medium as a ``data:`` URL."""
    kind, _ = mimetypes.guess_type(f"medium{MODALITIES[Modality(part.type)].sample_suffix}")
    return f"data:{kind};base64,{base64_of(part)}"


def base64_of(part: ReplyPart) -> str:
    """A medium's file as base64."""
    return base64.b64encode(file_of(part)).decode("ascii")


def content_part(part: ReplyPart) -> dict[str, Any]:
    """A part of a message: ``text``, ``image_url``, ``video_url``, ``input_audio`` or ``input_speech``."""
    if part.type == "text":
        return {"type": "text", "text": part.text}
    about: dict[str, Any] = {"caption": part.caption} if part.caption else {}
    about |= {"origin": part.origin.as_dict()} if part.origin else {}
    if Modality(part.type).form is Modality.AUDIO:
        sound = {"data": base64_of(part), "format": "wav"}
        return {"type": f"input_{part.type}", f"input_{part.type}": sound, **about}
    return {"type": f"{part.type}_url", f"{part.type}_url": {"url": data_url(part)}, **about}


def content(parts: Sequence[ReplyPart], *, plain: bool) -> str | list[dict[str, Any]]:
    """The content of a message.

    Args:
        parts: the whole reply.
        plain: whether the client asks for text alone, whose content is a string.

    """
    if plain:
        return " ".join(part.text or "" for part in parts if part.type == "text")
    return [content_part(part) for part in parts]
