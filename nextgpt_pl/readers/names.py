"""Names of media that are made of a row's columns, such as ``{page_dir}/{videoid}.mp4``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from string import Formatter
from typing import Any

from nextgpt_pl.errors import UserError, nearest

_NUMBER = re.compile(r"0?[1-9]\d?d|")


class NamePattern:
    """A pattern with names of columns in braces; a number may be padded, as in ``{image_id:012d}``.

    Args:
        text: the pattern.
        key: the YAML's key, for messages.

    Raises:
        UserError: the text is no such pattern.

    """

    def __init__(self, text: str, key: str = "media_name") -> None:
        self.text, self.key = text, key
        try:
            self._parts = list(Formatter().parse(text))
        except ValueError as error:
            raise UserError(f"{key}={text!r}: {error}") from error
        for _, column, width, conversion in self._parts:
            if column is not None and (not column or conversion or not _NUMBER.fullmatch(width or "")):
                raise UserError(f"{key}={text!r}: {{COLUMN}} or {{COLUMN:012d}} is expected in braces")
        self.columns = tuple(column for _, column, _, _ in self._parts if column is not None)

    def __repr__(self) -> str:
        return f"NamePattern({self.text!r})"

    def fill(self, row: Mapping[str, Any]) -> str:
        """The name for a row.

        >>> NamePattern("val2014/{image_id:012d}.jpg").fill({"image_id": 42})
        'val2014/000000000042.jpg'

        Raises:
            UserError: the row lacks a column, or its value is neither a text nor a number.

        """
        pieces = []
        for literal, column, width, _ in self._parts:
            pieces.append(literal)
            if column is not None:
                pieces.append(self._value(row, column, width or ""))
        return "".join(pieces)

    def _value(self, row: Mapping[str, Any], column: str, width: str) -> str:
        value = row.get(column)
        if value is None:
            raise UserError(f"{self.key}={self.text!r}: the row has no {column!r}{nearest(column, map(str, row))}")
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise UserError(f"{self.key}={self.text!r}: {column}={value!r:.80}: a text or a number is expected")
        try:
            return format(int(value), width) if width else str(value)
        except ValueError as error:
            raise UserError(f"{self.key}={self.text!r}: {column}={value!r:.80} is no whole number") from error
