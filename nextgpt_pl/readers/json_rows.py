"""Rows of JSON Lines, JSON lists and JSON objects."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nextgpt_pl.errors import UserError
from nextgpt_pl.readers.opened import not_utf8, open_bytes

_BLOCK = 1 << 22  # bytes that are decoded at a time
_READ_AHEAD = 1 << 16  # bytes behind the first line of a file that may be one object
# what bounds a JSON value: strings, and brackets outside of them; or the next separator
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_SCALAR = re.compile(r"[^,\]]*")

_DECODE = json.JSONDecoder().decode


def _value(path: Path, text: str | bytes, where: str) -> Any:
    try:
        return _DECODE(text if isinstance(text, str) else text.decode())
    except UnicodeDecodeError as error:
        return UserError(f"{where}: {not_utf8(path, error)}")
    except (ValueError, RecursionError) as error:  # numbers of 5,000 digits and deep nesting are refused too
        return UserError(f"{where}: unreadable JSON ({error})")


def json_lines(path: Path) -> Iterator[Any]:
    r"""The values of the lines that are not blank; lines end with ``\n`` alone."""
    with open_bytes(path) as file:
        for number, line in enumerate(file, 1):
            text = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            if text.strip():
                yield _value(path, text, f"line {number}")


def json_list(path: Path) -> Iterator[Any]:
    """The elements of a JSON list; at most some megabytes of it are in memory."""
    decode = json.JSONDecoder().raw_decode
    with open_bytes(path) as binary:
        file = codecs.getreader("utf-8-sig")(binary)
        text = file.read(_BLOCK).lstrip()
        position, number = 1, 0
        while True:
            position = _skip(text, position, " \t\r\n,")
            if position < len(text) and text[position] == "]":
                return
            try:
                value, end = decode(text, position)
                # a number at the end of the block may go on in the next one
                if end == len(text):
                    raise _UnfinishedError("the list has no end")
            except (ValueError, RecursionError) as error:
                whole = None if isinstance(error, _UnfinishedError) else _behind(text, position)
                if whole is not None and not isinstance(error, json.JSONDecodeError):
                    # valid, but nested too deeply or with a number of too many digits
                    yield UserError(f"row {number}: unreadable JSON ({error})")
                    position, number = whole, number + 1
                    continue
                more = file.read(max(_BLOCK, len(text) - position))
                if not more:
                    yield UserError(f"row {number}: unreadable JSON ({error}); the rest of the list is not read")
                    return
                text, position = text[position:] + more, 0
                continue
            yield value
            position, number = end, number + 1


class _UnfinishedError(ValueError):
    """A JSON text ends too early."""


def _behind(text: str, start: int) -> int | None:
    """Position behind the JSON value at ``start``, by its brackets and strings alone; ``None`` if it has no end."""
    if text[start : start + 1] not in ("[", "{"):
        match = _SCALAR.match(text, start)
        return match.end() if match and match.end() < len(text) else None
    depth = 0
    for match in _BRACKETS.finditer(text, start):
        if not match[0].startswith('"'):
            depth += 1 if match[0] in "[{" else -1
        if depth == 0:
            return match.end()
    return None


def _skip(text: str, position: int, characters: str) -> int:
    while position < len(text) and text[position] in characters:
        position += 1
    return position


def json_object(path: Path) -> Iterator[Any]:
    """The object of a file, as one row; of lines, if the first one was too long to recognise the format."""
    with open_bytes(path) as file:
        first, more = file.readline(), file.read(_READ_AHEAD)
        lines = first.rstrip().endswith(b"}") and more.lstrip().startswith(b"{")
        text = b"" if lines else first + more + file.read()
    if lines:
        yield from json_lines(path)
    else:
        yield _value(path, text.removeprefix(codecs.BOM_UTF8), "the file")
