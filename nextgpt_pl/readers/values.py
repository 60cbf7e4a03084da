"""Values of a row."""

from __future__ import annotations

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
