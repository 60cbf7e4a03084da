"""Rows of data files in all formats, which are recognised by content; compressed files are decompressed on the way.

A reader yields one object per row. Where a row or the rest of a file cannot be read, it yields a :class:`UserError`
instead, so that the caller can count and name it.
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from nextgpt_pl.errors import UserError
from nextgpt_pl.readers import columns, tars

VERSION = 1  # raise it when the same file gives other rows
_BLOCK = 1 << 22  # bytes that are decoded at a time
_HEAD = 1 << 16  # bytes by which a format is recognised
_MAX_FIELD = 1 << 24  # characters of one field of a table

_COMPRESSIONS = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd", b"\x04\x22\x4d\x18": "lz4"}
_ENCODINGS = {codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}


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


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file for reading, decompressed where its first bytes say that it is compressed."""
    with path.open("rb") as file:
        start = file.read(6)
    for magic, codec in _COMPRESSIONS.items():
        if start.startswith(magic):
            import pyarrow

            return io.BufferedReader(pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), codec))
    if start == b"\xfd7zXZ\x00":
        import lzma

        return lzma.open(path)
    return path.open("rb")


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


def not_utf8(path: Path, error: UnicodeDecodeError) -> str:
    """The message for a text that is not UTF-8: its encoding, as far as it can be told, and how to convert it."""
    with open_bytes(path) as file:
        start = file.read(2)
    encoding = _ENCODINGS.get(start, "")
    what = f"the file is {encoding}" if encoding else f"byte 0x{error.object[error.start]:02x} is not UTF-8"
    source = encoding or "latin1"
    return f"{what}; texts are UTF-8: iconv -f {source} -t utf-8 {path.name}"


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
                    raise ValueError("the list has no end")
            except (ValueError, RecursionError) as error:
                more = file.read(max(_BLOCK, len(text) - position))
                if not more:
                    yield UserError(f"row {number}: unreadable JSON ({error}); the rest of the list is not read")
                    return
                text, position = text[position:] + more, 0
                continue
            yield value
            position, number = end, number + 1


def _skip(text: str, position: int, characters: str) -> int:
    while position < len(text) and text[position] in characters:
        position += 1
    return position


def json_object(path: Path) -> Iterator[Any]:
    """The object of a file, as one row."""
    with open_bytes(path) as file:
        yield _value(path, file.read().decode("utf-8-sig"), "the file")


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
        for values in reader:
            if not values:
                continue
            if len(values) != len(names):
                yield UserError(f"line {reader.line_num}: {len(values)} fields, {len(names)} columns are expected")
                continue
            yield dict(zip(names, values, strict=True))


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
