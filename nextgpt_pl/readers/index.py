"""An index of a source's items in Arrow: made once, memory-mapped by all processes; items are built when asked for.

One entry per item: its row as JSON, the place of the row, the item's number within the row, its kind, and a number that
decides on which side of a held-out split it is. Rows that cannot be used have entries in a second table; remarks, such
as on rows that are left out on purpose, are counted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nextgpt_pl.utils.atomic import atomic_folder

VERSION = 1  # raise it when the tables change
ITEMS, BROKEN, REMARKS, META = "items.arrow", "broken.arrow", "remarks.json", "index.json"
_BATCH = 16_384  # entries per record batch


class Entry(NamedTuple):
    """A row that was read.

    Attributes:
        row: the row as JSON, or ``None`` if it could not be read.
        file: number of its file.
        number: its number in the file.
        hold: number from 0 to below 2**64; rows with a small number are held out. 0 if the row could not be read.
        kinds: kind of each of its items.
        fault: why it cannot be used; ``None`` if it can.
        missing: path of a file that it lacks, if that is the fault.
        side: code of the split that the data set gives; 0: ``hold`` decides.
        remark: a text that is counted; equal remarks of rows are one remark.

    """

    row: bytes | None
    file: int
    number: int
    hold: int
    kinds: Sequence[int]
    fault: str | None = None
    missing: str | None = None
    side: int = 0
    remark: str | None = None


def _schemas() -> tuple[Any, Any]:
    import pyarrow as pa

    place = [("file", pa.int32()), ("number", pa.int64()), ("hold", pa.uint64()), ("side", pa.int8())]
    items = pa.schema([("row", pa.binary()), *place, ("item", pa.int16()), ("kind", pa.int8())])
    broken = pa.schema([*place, ("read", pa.bool_()), ("fault", pa.string()), ("missing", pa.string())])
    return items, broken


class _Table:
    """Collects rows of a table and writes them in batches to a sink."""

    def __init__(self, sink: Any, schema: Any) -> None:
        import pyarrow as pa

        self._pa, self._schema = pa, schema
        self._writer = pa.ipc.new_file(sink, schema)
        self._rows: list[tuple[Any, ...]] = []

    def add(self, *values: Any) -> None:
        self._rows.append(values)
        if len(self._rows) >= _BATCH:
            self._write()

    def _write(self) -> None:
        columns = zip(*self._rows, strict=True)
        arrays = [self._pa.array(c, f.type) for c, f in zip(columns, self._schema, strict=True)]
        self._writer.write_batch(self._pa.record_batch(arrays, schema=self._schema))
        self._rows.clear()

    def close(self) -> None:
        if self._rows:
            self._write()
        self._writer.close()


def write(entries: Iterable[Entry], items: Any, broken: Any) -> dict[str, int]:
    """Write entries to two sinks: paths, or Arrow streams.

    Returns:
        Number of rows of each remark.

    """
    remarks = Counter[str]()
    item_schema, broken_schema = _schemas()
    item_table, broken_table = _Table(items, item_schema), _Table(broken, broken_schema)
    for entry in entries:
        place = (entry.file, entry.number, entry.hold, entry.side)
        if entry.remark is not None:
            remarks[entry.remark] += 1
        if entry.fault is not None:
            broken_table.add(*place, entry.row is not None, entry.fault, entry.missing)
            continue
        for item, kind in enumerate(entry.kinds):
            # the row is stored once, with its first item
            item_table.add(entry.row if item == 0 else None, *place, item, kind)
    item_table.close()
    broken_table.close()
    return dict(remarks)


@dataclass
class RowIndex:
    """The tables of an index.

    Args:
        folder: folder of the files, which are memory-mapped; ``None``: the tables are in ``buffers``.
        buffers: both tables in memory, for small sources.
        remarks: number of rows of each remark.

    """

    folder: Path | None
    buffers: tuple[bytes, bytes] | None = None
    remarks: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._open()

    def _open(self) -> None:
        self._items, self._broken = self._batches(0), self._batches(1)
        self._starts = np.cumsum([0, *(batch.num_rows for batch in self._items)])

    def _batches(self, which: int) -> list[Any]:
        import pyarrow as pa

        if self.buffers is not None:
            source: Any = pa.BufferReader(self.buffers[which])
        else:
            assert self.folder is not None
            source = pa.memory_map(str(self.folder / (ITEMS, BROKEN)[which]))
        reader = pa.ipc.open_file(source)
        return [reader.get_batch(i) for i in range(reader.num_record_batches)]

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "buffers": self.buffers, "remarks": self.remarks}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def __len__(self) -> int:
        return int(self._starts[-1])

    def column(self, name: str) -> np.ndarray:
        """A column of all items, as an array."""
        return _joined(self._items, name)

    def broken(self, name: str) -> np.ndarray:
        """A column of all broken rows, as an array."""
        return _joined(self._broken, name)

    def row(self, index: int) -> tuple[Any, int, int, int]:
        """The row of an item as an object, the numbers of its file and row, and the item's number within the row."""
        batch, place = self._place(index)
        file, number, item = (batch.column(name)[place].as_py() for name in ("file", "number", "item"))
        if item:
            batch, place = self._place(index - item)
        return json.loads(batch.column("row")[place].as_py()), file, number, item

    def _place(self, index: int) -> tuple[Any, int]:
        which = int(np.searchsorted(self._starts, index, side="right")) - 1
        return self._items[which], index - int(self._starts[which])

    def fault(self, index: int) -> tuple[int, int, bool, str]:
        """Numbers of the file and row of a broken row, whether it could be read, and its fault."""
        for batch in self._broken:
            if index < batch.num_rows:
                row = batch.slice(index, 1).to_pylist()[0]
                return row["file"], row["number"], row["read"], row["fault"]
            index -= batch.num_rows
        raise IndexError(index)


def _joined(batches: Sequence[Any], name: str) -> np.ndarray:
    parts = [batch.column(name).to_numpy(zero_copy_only=False) for batch in batches]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def in_memory(entries: Iterable[Entry]) -> RowIndex:
    """An index in memory, for small sources."""
    import pyarrow as pa

    sinks = pa.BufferOutputStream(), pa.BufferOutputStream()
    remarks = write(entries, *sinks)
    return RowIndex(None, tuple(sink.getvalue().to_pybytes() for sink in sinks), remarks)


def on_disk(folder: Path, key: dict[str, Any], entries: Callable[[], Iterable[Entry]]) -> RowIndex:
    """The index in a folder, which the first process makes while the others wait.

    Args:
        folder: the folder; an index of another key is replaced.
        key: what the index depends on.
        entries: reads all rows.

    """
    from filelock import FileLock

    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if _key_of(folder) != key or _now_there(folder):
            with atomic_folder(folder) as new:
                remarks = write(entries(), str(new / ITEMS), str(new / BROKEN))
                (new / REMARKS).write_text(json.dumps(remarks), encoding="utf-8")
                (new / META).write_text(json.dumps(key, sort_keys=True), encoding="utf-8")
    return RowIndex(folder, remarks=json.loads((folder / REMARKS).read_text(encoding="utf-8")))


def _key_of(folder: Path) -> Any:
    try:
        return json.loads((folder / META).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _now_there(folder: Path, tried: int = 1000) -> bool:
    """Whether a file that a broken row lacked exists by now."""
    missing = [path for path in RowIndex(folder).broken("missing").tolist() if path is not None]
    return any(Path(path).exists() for path in missing[:tried])
