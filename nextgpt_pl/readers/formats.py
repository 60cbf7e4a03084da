"""Rows of data files in all formats, which are recognised by content; compressed files are decompressed on the way.

A reader yields one object per row. Where a row or the rest of a file cannot be read, it yields a :class:`UserError`
instead, so that the caller can count and name it.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nextgpt_pl.errors import UserError
from nextgpt_pl.readers import columns, tars
from nextgpt_pl.readers.json_rows import json_lines, json_list, json_object
from nextgpt_pl.readers.opened import not_utf8, open_bytes

VERSION = 2  # raise it when the same file gives other rows
_HEAD = 1 << 16  # bytes by which a format is recognised
_MAX_FIELD = 1 << 24  # characters of one field of a table


@dataclass(frozen=True)
class Format:
    """One format of data files.

    Attributes:
        name: its name in messages.
        matches: whether a file is of this format, from its first bytes.
        rows: the rows of a file.

    """

    name: str
    matches: Callable[[bytes], bool]
    rows: Callable[[Path], Iterator[Any]]


def format_of(path: Path) -> Format:
    """The format of a file, by its content.

    Raises:
        UserError: the file is missing, unreadable or empty.

    """
    try:
        with open_bytes(path) as file:
            head = file.read(_HEAD)
    except Exception as error:  # a decoder may raise anything on damaged data
        raise UserError(f"cannot be read ({str(error) or type(error).__name__})") from error
    if not head.strip():
        raise UserError("the file is empty")
    return next(known for known in FORMATS if known.matches(head))


def rows_of(path: Path) -> Iterator[Any]:
    """The rows of a data file of any format; a :class:`UserError` for what cannot be read.

    JSON Lines, JSON lists, CSV and TSV give objects; a table without a header has the keys ``0``, ``1``, and so on. A
    JSON object is one row. Parquet and Arrow give objects of their columns, tar shards one object per sample; their
    media are references, see :mod:`nextgpt_pl.readers.stored`.
    """
    try:
        yield from format_of(path).rows(path)
    except UserError as error:
        yield error
    except UnicodeDecodeError as error:
        yield UserError(not_utf8(path, error))
    except Exception as error:  # a decoder may raise anything on damaged data
        yield UserError(f"unreadable ({str(error) or type(error).__name__})")


def _text(head: bytes) -> str:
    return head.decode("utf-8", "ignore").lstrip("\ufeff \t\r\n")


def _is_json_list(head: bytes) -> bool:
    return _text(head).startswith("[")


def _is_json_lines(head: bytes) -> bool:
    """Whether the first line is a whole object, and another line follows it."""
    first, newline, rest = _text(head).partition("\n")
    if not first.startswith("{"):
        return False
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        # a damaged first line among others is one broken row
        return first.rstrip().endswith("}") and rest.lstrip().startswith("{")
    return bool(newline)


def _is_json_object(head: bytes) -> bool:
    return _text(head).startswith("{")


def _delimiter(header: str) -> str:
    """The separator that is most frequent in a header."""
    return max("\t,|;", key=header.count)


def table(path: Path) -> Iterator[Any]:
    """The rows of a CSV or TSV file; without a header the columns have the names ``0``, ``1``, ..."""
    csv.field_size_limit(min(_MAX_FIELD, sys.maxsize))
    with open_bytes(path) as binary:
        lines = io.TextIOWrapper(binary, encoding="utf-8-sig", newline="")
        first = lines.readline()
        delimiter = _delimiter(first)
        # the TSV files of captions have no quoting: a quote is a character of the caption
        dialect: dict[str, Any] = {"delimiter": delimiter, "skipinitialspace": delimiter != "\t"}
        if delimiter == "\t":
            dialect["quoting"] = csv.QUOTE_NONE
        reader = csv.reader(itertools.chain([first], lines), **dialect)
        names = [name.strip() for name in next(reader)]
        if not is_header(names):
            yield {str(i): value for i, value in enumerate(names)}
            names = [str(i) for i in range(len(names))]
        names = [name.strip() for name in names]
        for values in _fields(reader):
            if isinstance(values, UserError):
                yield values
            elif len(values) != len(names):
                yield UserError(f"line {reader.line_num}: {len(values)} fields, {len(names)} columns are expected")
            else:
                yield dict(zip(names, values, strict=True))


def _fields(reader: Any) -> Iterator[list[str] | UserError]:
    """The fields of each line of a ``csv.reader`` that is not blank; an error for a line with too long a field."""
    while True:
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield UserError(f"line {reader.line_num}: {error}")
            continue
        if values:
            yield values


def is_header(names: list[str]) -> bool:
    """Whether the fields of a table's first line are names of columns: identifiers without a space."""
    bare = [name.strip().replace("_", "").replace("-", "") for name in names]
    return all(name.isalnum() and not name[0].isdigit() for name in bare if name)


#: the table of formats; the first that matches reads a file
FORMATS = (
    Format("Parquet", lambda head: head.startswith(b"PAR1"), columns.parquet),
    Format("Arrow", lambda head: head.startswith(b"ARROW1"), columns.arrow_file),
    Format("Arrow stream", lambda head: head.startswith(b"\xff\xff\xff\xff"), columns.arrow_stream),
    Format("tar", tars.is_tar, tars.samples),
    Format("JSON list", _is_json_list, json_list),
    Format("JSON Lines", _is_json_lines, json_lines),
    Format("JSON object", _is_json_object, json_object),
    Format("table", lambda head: True, table),
)
