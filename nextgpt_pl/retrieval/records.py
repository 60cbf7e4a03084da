"""Records of a gallery's items in Arrow, memory-mapped: captions, and the names and hashes of their media."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from nextgpt_pl.errors import UserError
from nextgpt_pl.utils.atomic import atomic_file

_VECTOR, _SKIPPED = "vector", b"skipped"


@dataclass(frozen=True)
class Record:
    """An item of a gallery.

    Attributes:
        key: key of the item in its source.
        caption: its caption.
        media: name of the medium's file, below the gallery's folder.
        sha256: hash of the file, see :func:`~nextgpt_pl.features.keys.content_sha256`.
        start: seconds at which a clip of the file begins; ``None``: its beginning.
        end: seconds at which the clip ends; ``None``: the file's end.

    """

    key: str
    caption: str
    media: str
    sha256: str
    start: float | None = None
    end: float | None = None


def _schema(dimensions: int | None = None) -> Any:
    import pyarrow as pa

    kinds = {"start": pa.float64(), "end": pa.float64()}
    columns = [pa.field(entry.name, kinds.get(entry.name, pa.string())) for entry in fields(Record)]
    return pa.schema(columns if dimensions is None else [*columns, (_VECTOR, pa.list_(pa.float32(), dimensions))])


@dataclass(frozen=True)
class Part:
    """Some consecutive items of a gallery that is being built.

    Attributes:
        records: their Arrow batch.
        vectors: their compact vectors, ``(n, D)`` float32.
        skipped: why items between them were left out.

    """

    records: Any
    vectors: np.ndarray
    skipped: Sequence[str]


def record_batch(records: Sequence[Record]) -> Any:
    """The Arrow batch of records."""
    import pyarrow as pa

    columns: list[Any] = list(zip(*map(astuple, records), strict=True)) or [()] * len(fields(Record))
    schema = _schema()
    return pa.record_batch([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)


def write_part(path: Path, records: Sequence[Record], vectors: np.ndarray, skipped: Sequence[str]) -> None:
    """Write a :class:`Part` atomically; ``records`` may be empty, ``vectors`` are ``(n, D)`` float32."""
    import pyarrow as pa

    schema = _schema(vectors.shape[1]).with_metadata({_SKIPPED: json.dumps(skipped)})
    flat = pa.array(vectors.ravel(), pa.float32())
    arrays = [*record_batch(records).columns, pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])]
    with atomic_file(path) as scratch, pa.ipc.new_file(str(scratch), schema) as table:
        table.write_batch(pa.record_batch(arrays, schema=schema))


def read_part(path: Path) -> Part:
    """Read a part, memory-mapped.

    Raises:
        ArrowInvalid, OSError: the file is damaged.

    """
    import pyarrow as pa

    batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
    flat = batch.column(_VECTOR).flatten().to_numpy()
    vectors = flat.reshape(batch.num_rows, batch.schema.field(_VECTOR).type.list_size)
    records = pa.record_batch(batch.columns[:-1], schema=_schema())
    return Part(records, vectors, json.loads(batch.schema.metadata[_SKIPPED]))


def write_records(path: Path, parts: Iterator[Part]) -> None:
    """Write the records of all parts as one file, atomically."""
    import pyarrow as pa

    with atomic_file(path) as scratch, pa.ipc.new_file(str(scratch), _schema()) as table:
        for part in parts:
            if part.records.num_rows:
                table.write_batch(part.records)


class Records:
    """The memory-mapped records of a gallery; one is read at a time.

    Args:
        path: file of :func:`write_records`.
        count: number of its records.

    Raises:
        UserError: the file is damaged.

    """

    def __init__(self, path: Path, count: int) -> None:
        import pyarrow as pa

        try:
            reader = pa.ipc.open_file(pa.memory_map(str(path)))
            self._batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(f"{path}: not a readable Arrow file ({error})") from error
        self._starts = np.cumsum([0, *(batch.num_rows for batch in self._batches)])
        if not reader.schema.equals(_schema()) or int(self._starts[-1]) != count:
            raise UserError(f"{path}: {self._starts[-1]} records, expected {count}, with the columns of this version")

    def __getitem__(self, row: int) -> Record:
        """The record of a row from 0 to below the count."""
        which = int(np.searchsorted(self._starts, row, side="right")) - 1
        batch = self._batches[which].slice(row - int(self._starts[which]), 1)
        return Record(**batch.to_pylist()[0])
