"""Rows of Parquet and Arrow files. Bytes stay in the file: a row refers to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from nextgpt_pl.readers.stored import reference

_ROWS = 4096  # rows that are converted at a time


def parquet(path: Path) -> Iterator[Any]:
    """The rows of a Parquet file; bytes are not read."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        leaves = [file.schema.column(i) for i in range(len(file.schema))]
        # a list of which all fields are bytes has to be read to know its length
        names = [leaf.path for leaf in leaves if not _is_bytes_leaf(leaf) or leaf.path.endswith((".element", ".item"))]
        for group in range(file.num_row_groups):
            first = 0
            if not names:
                rows = file.metadata.row_group(group).num_rows
                yield from (_with_references({}, file.schema_arrow, group, row) for row in range(rows))
                continue
            for batch in file.iter_batches(_ROWS, row_groups=[group], columns=names):
                for number, row in enumerate(batch.to_pylist(), first):
                    yield _with_references(row, file.schema_arrow, group, number)
                first += batch.num_rows


def _is_bytes_leaf(leaf: Any) -> bool:
    return leaf.physical_type == "BYTE_ARRAY" and leaf.logical_type.type == "NONE"


def arrow_file(path: Path) -> Iterator[Any]:
    """The rows of an Arrow IPC file."""
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        for group in range(reader.num_record_batches):
            yield from _of_batch(reader.get_batch(group), group)


def arrow_stream(path: Path) -> Iterator[Any]:
    """The rows of an Arrow stream, the format in which ``datasets`` saves to disk."""
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        for group, batch in enumerate(pa.ipc.open_stream(source)):
            yield from _of_batch(batch, group)


def _of_batch(batch: Any, group: int) -> Iterator[dict[str, Any]]:
    batch.validate(full=True)  # Arrow trusts the offsets in a file, and a damaged one ends the process
    for start in range(0, batch.num_rows, _ROWS):
        for number, row in enumerate(batch.slice(start, _ROWS).to_pylist(), start):
            yield _with_references(row, batch.schema, group, number)


def _with_references(row: dict[str, Any], schema: Any, group: int, number: int) -> dict[str, Any]:
    """The row with a reference in place of each value of bytes."""
    return {f.name: _referring(row.get(f.name), f.type, group, number, (f.name,)) for f in schema}


def _referring(value: Any, kind: Any, group: int, row: int, place: tuple[str | int, ...]) -> Any:
    import pyarrow as pa

    if _is_bytes(kind):
        return reference("cell", group, row, list(place))
    if pa.types.is_struct(kind):
        if value is None and any(not _is_bytes(field.type) for field in kind):
            return None
        fields = value or {}
        return {f.name: _referring(fields.get(f.name), f.type, group, row, (*place, f.name)) for f in kind}
    if isinstance(value, list) and (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        return [_referring(v, kind.value_type, group, row, (*place, i)) for i, v in enumerate(value)]
    return value


def _is_bytes(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


@lru_cache(2)
def _column(path: str, group: int, column: str, _size: int, _changed: int) -> Any:
    """A column of a row group; neighbouring rows are often read together."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with Path(path).open("rb") as file:
        start = file.read(6)
    if start.startswith(b"PAR1"):
        with pq.ParquetFile(path) as parquet_file:
            return parquet_file.read_row_group(group, columns=[column]).column(0)
    source = pa.memory_map(path)
    if start.startswith(b"ARROW1"):
        values = pa.ipc.open_file(source).get_batch(group).column(column)
    else:
        values = next((b.column(column) for n, b in enumerate(pa.ipc.open_stream(source)) if n == group), None)
    if values is None:
        raise LookupError(f"no record batch {group}")
    values.validate(full=True)  # as in _of_batch
    return values


def cell(path: Path, group: int, row: int, place: Sequence[str | int]) -> Any:
    """The value of a cell.

    Args:
        path: the Parquet or Arrow file.
        group: number of its row group or record batch.
        row: number of the row within it.
        place: name of the column, then names of fields and positions in lists.

    Raises:
        LookupError: there is no such cell.

    """
    status = path.stat()
    value = _column(str(path), group, str(place[0]), status.st_size, status.st_mtime_ns)[row].as_py()
    for step in place[1:]:
        if value is None:
            raise LookupError(f"row {row} is empty at {step}")
        value = value[step]
    return value
