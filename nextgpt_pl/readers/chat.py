"""Convert chat messages to dialogues and validate them.

Messages are those of transformers' any-to-any pipeline and of OpenAI: ``{"role": "user", "content": [parts]}``, where a
part is one of :func:`~nextgpt_pl.readers.layouts.parts.part_of`. The key of a medium may also hold an object: the bytes
of a file, a PIL image, an array (with its ``rate``), a rate and an array, or a :class:`Media`. A text and a
:class:`ReplyPart` are parts too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from nextgpt_pl.errors import UserError
from nextgpt_pl.media.files import is_file
from nextgpt_pl.media.reading import as_array
from nextgpt_pl.modality import Modality
from nextgpt_pl.readers.files import located
from nextgpt_pl.readers.layouts.base import keys, without_unknown_keys
from nextgpt_pl.readers.layouts.clips import clipped
from nextgpt_pl.readers.layouts.parts import GivenMedium, named_media, part_of
from nextgpt_pl.readers.place import Place
from nextgpt_pl.readers.turns import role_of
from nextgpt_pl.samples import Dialogue, Media, MediaPart, Message, Part, ReplyPart, StoredMedia, TextPart

Messages = Sequence[Mapping[str, Any]]

_MESSAGE = keys("role content name")
_ABOUT = keys("rate origin")  # what a part of a reply says about its medium
_EMPTY: tuple[Any, ...] = (None, "", [], {})


@dataclass(frozen=True)
class MediaAccess:
    """What the media of messages may be read from, besides the messages themselves.

    Attributes:
        folders: folders with the files that messages may name; empty: no files; ``None``: any file.
        max_bytes: maximum size of a medium in a ``data:`` URL, or in base64.

    """

    folders: tuple[Path, ...] | None = None
    max_bytes: int = 64 * 2**20


@dataclass(frozen=True)
class _ChatPlace(Place):
    """Resolves what messages name, as far as it is allowed."""

    access: MediaAccess = field(default_factory=MediaAccess)

    def path(self, modality: Modality, name: str, *, needed: bool | None = None) -> Path:
        """An existing file, in one of the allowed folders."""
        if self.access.folders is None:
            if not is_file(name):
                raise UserError(f"no such file: {_printable(name)}")
            return Path(name)
        if not self.access.folders:
            raise UserError(f"files are not read here; give {modality} as a data: URL")
        folders = tuple(str(folder) for folder in self.access.folders)
        for folder in folders:
            try:
                path, exists = located(folder, name, folders)
            except UserError:  # it leaves the folder
                continue
            if exists:
                return Path(path)
        raise UserError(f"no such file in the folders that may be read: {_printable(name)}")

    def _of_url(self, modality: Modality | None, value: str, needed: bool | None) -> Media:
        if not value.startswith(("http://", "https://")):
            return super()._of_url(modality, value, needed)
        raise UserError(f"{value!r:.80}: http and https URLs are not fetched here; give {modality} as a data: URL")


def user_message(text: str | None, media: Mapping[Modality, Any]) -> dict[str, Any]:
    """A message of the user: the media, then the text.

    Args:
        text: the text; ``None``: there is none.
        media: of each modality a medium or a list of media, as in ``{"type": "image", "image": IMAGE}``; ``None``: no
            medium.

    """
    content: list[dict[str, Any]] = [
        {"type": modality.value, modality.value: medium}
        for modality, given in media.items()
        for medium in (given if isinstance(given, list) else [] if given is None else [given])
    ]
    if text is not None:
        content.append({"type": "text", "text": text})
    return {"role": "user", "content": content}


def dialogue_of(messages: Messages, access: MediaAccess | None = None) -> Dialogue:
    """Convert chat messages to a dialogue that ends with the user.

    Media are read at once, except files: these are read when they are shown to the model.

    Args:
        messages: the messages.
        access: what media may be read from; by default any file, and no URL.

    Raises:
        UserError: a message or part has another format, or its medium may not be read; the error names its position.

    """
    if isinstance(messages, Mapping):
        raise UserError("a conversation is a list of messages, not a mapping")
    access = access or MediaAccess()
    place = _ChatPlace(Path("chat"), Path(), ignore=None, max_inline=access.max_bytes, access=access)
    turns = [_message(message, place, f"message {number}") for number, message in enumerate(messages)]
    if not turns or turns[-1].role != "user":
        raise UserError("messages must end with one of the user")
    return Dialogue("chat", tuple(turns))


def _message(message: Any, place: _ChatPlace, where: str) -> Message:
    if not isinstance(message, Mapping):
        raise UserError(f"{where}: {type(message).__name__}, not {{'role': ..., 'content': ...}}")
    try:
        role = role_of(message, "role")
        filled = {key: value for key, value in message.items() if key == "content" or value not in _EMPTY}
        without_unknown_keys(filled, _MESSAGE, None, "a message's ")
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    content = message.get("content")
    if not isinstance(content, (str, list, tuple)):
        raise UserError(f"{where}: its content is a text or a list of parts, not {content!r:.60}")
    if isinstance(content, str):
        return Message(role, (TextPart(content),))
    return Message(role, tuple(_part(part, place, f"{where}, part {i}") for i, part in enumerate(content)))


def _part(part: Any, place: _ChatPlace, where: str) -> Part:
    if isinstance(part, str):
        return TextPart(part)
    if isinstance(part, ReplyPart):
        if part.step is not None:
            step, steps = part.step
            raise UserError(f"{where}: a preview of {part.type}, step {step} of {steps}; give the medium")
        about = {} if part.type == "text" else {"rate": part.rate, "caption": part.caption}
        part = {"type": part.type, part.type: part.text if part.type == "text" else part.array, **about}
    try:
        found = part_of(dict(part) if isinstance(part, Mapping) else part, None, _ABOUT)
        if isinstance(found, str):
            return TextPart(found)
        if found.key is None:
            raise UserError(f"no {found.modality.value!r} in it")
        media = clipped(_medium(found, place, where), found.part)
    except UserError as error:
        text = str(error)
        raise UserError(text if text.startswith(where) else f"{where}: {text}") from error
    return MediaPart(found.modality, media, caption=str(found.part.get("caption") or ""))


def _medium(found: GivenMedium, place: _ChatPlace, where: str) -> Media:
    value, rate = found.value, found.part.get("rate")
    if isinstance(value, Mapping) and isinstance(value.get("bytes"), bytes):  # as rows of the datasets library
        value = value["bytes"]
    if isinstance(value, Path):
        value = str(value)
    if isinstance(value, (str, Mapping)):
        media = named_media(found._replace(value=value), place)
        if not isinstance(media.source, StoredMedia):
            return media
        value = media.source.read()
    if isinstance(value, Media):
        return value
    if isinstance(value, tuple) and len(value) == 2 and found.modality.form in (Modality.AUDIO, Modality.VIDEO):
        rate, value = value  # the order of scipy and gradio
    array, own_rate = as_array(value, found.modality, where)
    if rate is not None:
        _check_rate(rate, where)
    rate = own_rate or rate
    sample_rate = int(rate) if rate and found.modality.form is Modality.AUDIO else None
    fps = float(rate) if rate and found.modality is Modality.VIDEO else None
    return Media(found.modality, _ArraySource(array), sample_rate, fps)


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
