"""Writers of shards: tar in WebDataset's form, and Parquet as the package ``datasets`` writes it."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

from nextgpt_pl.converting.media import Blob
from nextgpt_pl.converting.samples import Row, blobs_of
from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import MODALITIES
from nextgpt_pl.readers.layouts.pairs import TEXTS
from nextgpt_pl.readers.tars import MAX_TEXT

_BLOCK = 512  # bytes that a tar's members are padded to
_END = 10_240  # bytes at the end of a tar, at most
_GROUP_BYTES, _GROUP_ROWS, _TEXT_ROWS = 1 << 25, 100, 5000  # of a Parquet file's row group, with and without media
_MOST = (1 << 31) - (1 << 26)  # bytes of a Parquet file's row, with the rows before it in its group
_DICTIONARY = 1 << 27  # bytes of different values of a column and row group up to which equal ones are stored once


class ShardWriter(ABC):
    """Writes one shard; a context manager, whose end completes the file.

    Args:
        path: the file.
        columns: what :func:`columns_of` gives for the source.

    Attributes:
        size: bytes that were added; a bound of the file's size.

    """

    suffix: str
    package: str

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path, self.columns, self.size = path, columns, 0

    @staticmethod
    @abstractmethod
    def encoded(key: str, row: Row) -> tuple[Any, int]:
        """What :meth:`add` takes for a row, and how many bytes it adds.

        Raises:
            UserError: readers would refuse the row.

        """

    @abstractmethod
    def add(self, encoded: Any) -> None:
        """Write a row."""

    @abstractmethod
    def close(self) -> None:
        """Complete the file."""

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()


class TarShard(ShardWriter):
    """Members ``KEY.jpg``, ``KEY.txt`` and ``KEY.json`` of a pair, ``KEY.0.jpg`` and ``KEY.json`` of a dialogue."""

    suffix, package = ".tar", "webdataset"

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        super().__init__(path, columns)
        from webdataset import TarWriter

        self._file = path.open("wb")
        self._writer, self.size = TarWriter(self._file, encoder=False, mtime=0), _END

    @staticmethod
    def encoded(key: str, row: Row) -> tuple[dict[str, Any], int]:
        """The members of a sample, by their endings; equal files of a dialogue are one member."""
        members: dict[str, Any] = {}
        if "messages" in row:
            names: dict[Blob, str] = {}
            for blob in blobs_of(row):
                ending = names.setdefault(blob, f"{len(names)}.{blob.ending}")
                members[ending] = blob.content
            text = _replaced(row, {blob: f"{key}.{ending}" for blob, ending in names.items()})
        else:
            members = {blob.ending: blob.content for blob in blobs_of(row)}
            members["txt"] = row["caption"].encode()
            text = {k: v for k, v in row.items() if k != "caption" and not isinstance(v, Blob)}
        members["json"] = json.dumps(text, ensure_ascii=False).encode()
        for ending in ("txt", "json"):
            if len(members.get(ending, b"")) > MAX_TEXT:
                raise UserError(f"{len(members[ending]):,} bytes of text; readers take at most {MAX_TEXT:,}")
        size = sum(_BLOCK + -(-len(content) // _BLOCK) * _BLOCK for content in members.values())
        return {"__key__": key, **members}, size

    def add(self, encoded: Any) -> None:
        """Write a sample."""
        self._writer.write(encoded)

    def close(self) -> None:
        """Write the end of the archive."""
        self._writer.close()
        self._file.close()


def _replaced(value: Any, names: Mapping[Blob, Any]) -> Any:
    """A row, or a value in it, with something else in the place of its files."""
    if isinstance(value, Blob):
        return names[value]
    if isinstance(value, dict):
        return {key: _replaced(inner, names) for key, inner in value.items()}
    return [_replaced(inner, names) for inner in value] if isinstance(value, list) else value


class ParquetShard(ShardWriter):
    """One row per sample; files are structs of ``bytes`` and ``path``."""

    suffix, package = ".parquet", "datasets"

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        super().__init__(path, columns)
        import pyarrow.parquet as pq

        self._schema = _schema(columns)
        self._writer = pq.ParquetWriter(path, self._schema, dictionary_pagesize_limit=_DICTIONARY)
        self._rows: list[Row] = []
        self._bytes, self._media = 0, False

    @staticmethod
    def encoded(key: str, row: Row) -> tuple[tuple[Row, int, bool], int]:
        """The row, its bytes, and whether it has files."""
        blobs = blobs_of(row)
        held = {blob: {"bytes": blob.content, "path": blob.name or f"{key}.{blob.ending}"} for blob in blobs}
        text = json.dumps(_replaced(row, dict.fromkeys(blobs, "")), ensure_ascii=False)
        size = len(text.encode()) + sum(len(blob.content) for blob in blobs)
        if size > _MOST:
            raise UserError(f"{size:,} bytes in one row; Parquet files hold at most {_MOST:,}")
        return (_replaced(row, held), size, bool(blobs)), size

    def add(self, encoded: Any) -> None:
        """Add a row to the row group."""
        row, size, media = encoded
        self._rows.append(row)
        self._bytes, self._media = self._bytes + size, self._media or media
        if self._bytes >= _GROUP_BYTES or len(self._rows) >= (_GROUP_ROWS if self._media else _TEXT_ROWS):
            self._write()

    def _write(self) -> None:
        import pyarrow as pa

        self._writer.write_table(pa.Table.from_pylist(self._rows, self._schema))
        self._rows, self._bytes, self._media = [], 0, False

    def close(self) -> None:
        """Write the last row group and the footer."""
        if self._rows:
            self._write()
        self._writer.close()


def columns_of(kinds: Sequence[Any]) -> list[str]:
    """The columns of a source's rows, from the kinds of its items; Parquet files of one source have the same ones.

    Raises:
        UserError: the source has pairs and dialogues.

    """
    if len({kind.pair for kind in kinds}) > 1:
        raise UserError("pairs and dialogues in one source have no common columns: convert it with --to=tar")
    return [kind.medium for kind in kinds] if kinds[0].pair else ["messages"]


def _schema(columns: Sequence[str]) -> Any:
    """The Arrow schema, with the types of ``datasets`` in its metadata."""
    from datasets import Audio, Features, Image, Value, Video

    text, seconds = Value("string"), Value("float64")
    file = {"bytes": Value("binary"), "path": text}
    known: dict[str, Any] = {"image": Image(), "video": Video(), "audio": Audio()}
    media = {m.value: known.get(m.value, file) for m in MODALITIES}
    of_medium = {"start": seconds, "end": seconds, "caption_embedding": file}
    if "messages" in columns:
        part = {"type": text, "text": text, **media, "caption": text, **of_medium}
        message = {"role": text, "content": [part], "weight": Value("int8")}
        return Features({"messages": [message], "split": text}).arrow_schema
    texts = {"modality": text, "caption": text, "captions": [text], **dict.fromkeys(TEXTS, text)}
    present = {name: media[name] for name in media if name in columns}
    return Features({**present, **texts, **of_medium, "split": text}).arrow_schema


#: by the value of ``--to``
WRITERS: dict[str, type[ShardWriter]] = {"tar": TarShard, "parquet": ParquetShard}


def check_installed(to: str) -> None:
    """Refuse a format whose package is missing.

    Raises:
        UserError: it is; the message says how it is installed.

    """
    package = WRITERS[to].package
    if find_spec(package) is None:
        raise UserError(f"--to={to} needs {package}: pip install 'nextgpt-pl[convert]'")
