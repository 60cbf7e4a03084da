"""Values of a row."""

from __future__ import annotations

from collections.abc import Mapping
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
    if value is None or (optional and value == []):
        if optional:
            return []
        raise UserError(f"key {key!r} is missing{nearest(key, row)}")
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(v, str) and v for v in values):
        raise UserError(f"{key}={value!r:.80}: a text or a list of texts is expected")
    return values


def text(row: Mapping[str, Any], key: str, *, optional: bool = False) -> str:
    """A row's value as one text, which may be empty.

    Args:
        row: the row, or an object in it.
        key: the key.
        optional: a missing key and ``null`` give an empty text.

    Raises:
        UserError: the key is missing (unless optional) or holds something else.

    """
    value = row.get(key)
    if isinstance(value, str):
        return value
    if value is not None:
        raise UserError(f"{key}={value!r:.80}: a text is expected")
    if optional:
        return ""
    raise UserError(f"key {key!r} is missing{nearest(key, map(str, row))}")
