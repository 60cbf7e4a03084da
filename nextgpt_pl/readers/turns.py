"""Turns of the conversations in data files: roles, texts and placeholders of media."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeGuard, get_args

from nextgpt_pl.errors import UserError, nearest
from nextgpt_pl.modality import MODALITIES, Modality
from nextgpt_pl.readers.values import exact_captions_of
from nextgpt_pl.samples import MediaPart, Role

_ROLES: dict[str, Role] = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bing", "bard", "model"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
}
assert set(_ROLES.values()) == set(get_args(Role))

_PLACEHOLDER = re.compile("(" + "|".join(re.escape(spec.placeholder) for spec in MODALITIES.values()) + ")")
_BY_PLACEHOLDER = {spec.placeholder: spec.modality for spec in MODALITIES.values()}

#: a text, the place of a medium that the row lists, or a medium that the turn itself gives
Piece = str | Modality | MediaPart


class Turn(NamedTuple):
    """One turn of a conversation.

    Attributes:
        role: who speaks.
        content: texts and media in order.
        captions: of the media that the turn places, for media of the assistant.
        learned: whether training has a loss on it, if it is the assistant's.

    """

    role: Role
    content: tuple[Piece, ...]
    captions: tuple[str, ...] = ()
    learned: bool = True

    @property
    def modalities(self) -> list[Modality]:
        """The modalities of its media, in order."""
        return [piece if isinstance(piece, Modality) else piece.modality for piece in self.content if is_medium(piece)]


def captions_in(turn: Mapping[str, Any]) -> tuple[str, ...]:
    """The captions of a turn's media; none without the key ``caption``, or with ``null``.

    Raises:
        UserError: the key holds something else than a text or a list of texts.

    """
    return exact_captions_of(turn, ["caption"]) if turn.get("caption") is not None else ()


#: keys that say whether training has a loss on a turn: OpenAI's, and ms-swift's
LOSS_KEYS = ("weight", "loss")


def learned_in(turn: Mapping[str, Any]) -> bool:
    """Whether training has a loss on a turn, by its ``weight`` or ``loss``: 0 or 1, ``false`` or ``true``.

    Raises:
        UserError: a key holds another value.

    """
    for key in LOSS_KEYS:
        value = turn.get(key)
        if value is not None:
            if value not in (0, 1):
                raise UserError(f"a turn's {key} is {value!r:.80}: 0 or 1 is expected")
            return bool(value)
    return True


def is_medium(piece: Piece) -> TypeGuard[Modality | MediaPart]:
    """Whether a piece is no text; a :class:`Modality` is a ``str`` too."""
    return type(piece) is not str


def turns_of(row: Any, key: str) -> list[Any]:
    """The list of turns under a key of a row.

    Raises:
        UserError: the row is not an object, or the key holds no turns.

    """
    if not isinstance(row, dict):
        raise UserError(f"an object is expected, got {row!r:.80}")
    turns = row.get(key)
    if not isinstance(turns, list) or not turns:
        raise UserError(f"{key}={turns!r:.80}: a list of turns is expected{'' if key in row else nearest(key, row)}")
    return turns


def role_of(turn: Any, key: str) -> Role:
    """The role of a turn, from the name of its speaker.

    Args:
        turn: an object.
        key: of the name, ``from`` or ``role``.

    Raises:
        UserError: the turn is no object, or the speaker is unknown.

    """
    name = turn.get(key) if isinstance(turn, dict) else None
    role = _ROLES.get(name) if isinstance(name, str) else None
    if role is None:
        what = f"a turn from {name!r:.80}" if isinstance(turn, dict) else f"a turn is {turn!r:.80}"
        raise UserError(f"{what}: an object with the key {key!r} is expected; known speakers are {', '.join(_ROLES)}")
    return role


def pieces(text: str) -> tuple[str | Modality, ...]:
    """Split a text at its placeholders, such as ``<image>``.

    >>> [str(piece) for piece in pieces("<image> What is it?")]
    ['image', ' What is it?']

    """
    if "<" not in text:
        return (text,) if text else ()
    return tuple(_BY_PLACEHOLDER.get(piece, piece) for piece in _PLACEHOLDER.split(text) if piece)
