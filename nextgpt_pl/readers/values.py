"""Values of a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nextgpt_pl.errors import UserError, nearest


def take(row: dict[str, Any], key: str, *, optional: bool = False) -> list[str]:
    """A row's value as a list of strings; the official format allows single values and lists.

    Args:
        row: the row.
        key: the key.
        optional: a missing key, ``null`` and an empty list give ``[]``.

    Raises:
        UserError: the key is missing (unless optional) or holds something else.

    """
    value = row.get(key)
    if value and isinstance(value, str):
        return [value]
    if optional and (value is None or value == []):
        return []
    if key not in row:
        raise _missing(row, key)
    values: list[Any] = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(v, str) and v for v in values):
        raise UserError(f"{key}={value!r:.80}: a text or a list of texts is expected")
    return values


def text(row: Mapping[str, Any], key: str, *, optional: bool = False) -> str:
    """A row's value as one text, which may be empty; ``null`` is an empty text.

    Args:
        row: the row, or an object in it.
        key: the key.
        optional: a missing key gives an empty text.

    Raises:
        UserError: the key is missing (unless optional) or holds something else.

    """
    if key not in row and not optional:
        raise _missing(row, key)
    return _text(row.get(key), key)


def captions_of(row: Mapping[str, Any], names: Sequence[str]) -> tuple[str, ...]:
    """The captions of :func:`exact_captions_of`, without white space around them."""
    return tuple(caption.strip() for caption in exact_captions_of(row, names))


def exact_captions_of(row: Mapping[str, Any], names: Sequence[str]) -> tuple[str, ...]:
    """The captions under the first of some keys: a text, or a list of texts; ``null`` is an empty caption.

    Empty captions are returned: they are refused with all other empty answers when the row's items are checked.

    Raises:
        UserError: the row has no such key, or it holds something else.

    """
    for name in names:
        if name in row:
            break
    else:
        if len(names) == 1:
            raise _missing(row, names[0])
        raise UserError(f"no caption: one of the keys {', '.join(names)} is expected")
    value = row[name]
    return tuple(_text(caption, name) for caption in (value if isinstance(value, list) and value else [value]))


def _text(value: Any, key: str) -> str:
    if isinstance(value, str):
        return value
    if value is not None:
        raise UserError(f"{key}={value!r:.80}: a text is expected")
    return ""


def _missing(row: Mapping[str, Any], key: str) -> UserError:
    return UserError(f"key {key!r} is missing{nearest(key, map(str, row))}")
