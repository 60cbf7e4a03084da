"""Turns of the conversations in data files: roles, texts and placeholders of media."""

from __future__ import annotations

from typing import Any, get_args

from nextgpt_pl.errors import UserError, nearest
from nextgpt_pl.modality import MODALITIES, Modality
from nextgpt_pl.samples import MediaPart, Role

_ROLES: dict[str, Role] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}
assert set(_ROLES.values()) == set(get_args(Role))


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


def role_of(turn: Any) -> Role:
    """The role of a turn's ``from``.

    Raises:
        UserError: the speaker is unknown.

    """
    name = turn.get("from") if isinstance(turn, dict) else None
    if not isinstance(name, str) or name not in _ROLES:
        raise UserError(f"a turn from {name!r:.80}: known are {', '.join(_ROLES)}")
    return _ROLES[name]


def text_of(turn: dict[str, Any]) -> str:
    """The text of a turn's ``value``.

    Raises:
        UserError: the value is not a text.

    """
    value = turn.get("value")
    if not isinstance(value, str):
        raise UserError(f"a turn's value is {value!r:.80}: a text is expected")
    return value


def placeholders(text: str) -> list[Modality]:
    """The modalities of a text's placeholders, in order."""
    positions = [(i, m) for m, spec in MODALITIES.items() for i in _positions(text, spec.placeholder)]
    return [m for _, m in sorted(positions)]


def _positions(text: str, needle: str) -> list[int]:
    return [i for i in range(len(text)) if text.startswith(needle, i)]


def in_order(parts: list[MediaPart], row: dict[str, Any], role: Role) -> list[MediaPart]:
    """Sort media, which a row lists by modality, into the order of the placeholders in the role's turns."""
    remaining = list(parts)
    ordered = []
    for turn in turns_of(row, "conversations"):
        if role_of(turn) != role:
            continue
        for modality in placeholders(text_of(turn)):
            match = next((p for p in remaining if p.modality is modality), None)
            if match is None:
                raise UserError(f"a turn has {MODALITIES[modality].placeholder}, but the row gives no such medium")
            remaining.remove(match)
            ordered.append(match)
    return ordered + remaining


def with_placeholder(
    turns: list[tuple[Role, str]], role: Role, media: list[MediaPart], *, first: bool
) -> list[tuple[Role, str]]:
    """Insert the placeholder of a single medium if the role's turns have none."""
    role_turns = [i for i, (r, _) in enumerate(turns) if r == role]
    if len(media) != 1 or not role_turns or any(placeholders(turns[i][1]) for i in role_turns):
        return turns
    index = role_turns[0] if first else role_turns[-1]
    text, placeholder = turns[index][1], MODALITIES[media[0].modality].placeholder
    changed = f"{placeholder}\n{text}" if first else f"{text} {placeholder}"
    return [*turns[:index], (role, changed), *turns[index + 1 :]]
