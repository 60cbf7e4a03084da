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
from itertools import chain, islice
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nextgpt_pl.utils.atomic import atomic_folder
from nextgpt_pl.utils.collection import frozen_objects

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


def write(entries: Iterable[Entry], items: Any, broken: Any) -> dict[str, int]:
    """Write entries to two sinks: paths, or Arrow streams.

    Returns:
        Number of rows of each remark.

    """
    import pyarrow as pa

    remarks = Counter[str]()
    item_schema, broken_schema = _schemas()
    entries = iter(entries)
    with (
        frozen_objects(),
        pa.ipc.new_file(items, item_schema) as item_table,
        pa.ipc.new_file(broken, broken_schema) as broken_table,
    ):
        while batch := list(islice(entries, _BATCH)):
            remarks.update(entry.remark for entry in batch if entry.remark is not None)
            if used := [entry for entry in batch if entry.kinds and entry.fault is None]:
                item_table.write_batch(_record_batch(_item_columns(used), item_schema))
            if faulty := [entry for entry in batch if entry.fault is not None]:
                broken_table.write_batch(_record_batch(_broken_columns(faulty), broken_schema))
    return dict(remarks)


def _record_batch(columns: Mapping[str, Any], schema: Any) -> Any:
    import pyarrow as pa

    return pa.record_batch([pa.array(columns[field.name], field.type) for field in schema], schema=schema)


def _places(entries: Sequence[Entry]) -> dict[str, np.ndarray]:
    """The columns of both tables, one value per entry."""
    types = {"file": np.int32, "number": np.int64, "hold": np.uint64, "side": np.int8}
    return {name: np.array(list(map(attrgetter(name), entries)), dtype) for name, dtype in types.items()}


def _item_columns(entries: Sequence[Entry]) -> dict[str, Any]:
    """Columns of the items of used rows."""
    kinds = [entry.kinds for entry in entries]
    counts = np.fromiter(map(len, kinds), np.int64, len(kinds))
    of_entry = np.arange(len(entries)).repeat(counts)
    item = np.arange(len(of_entry)) - (counts.cumsum() - counts)[of_entry]
    rows = np.array([entry.row for entry in entries], object)[of_entry]
    rows[item > 0] = None  # a row is stored once, with its first item
    places = {name: values[of_entry] for name, values in _places(entries).items()}
    return {**places, "row": rows, "item": item, "kind": list(chain.from_iterable(kinds))}


def _broken_columns(entries: Sequence[Entry]) -> dict[str, Any]:
    """Columns of the rows that cannot be used."""
    texts = {name: [getattr(entry, name) for entry in entries] for name in ("fault", "missing")}
    return {**_places(entries), "read": [entry.row is not None for entry in entries], **texts}


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
        return _joined(self._batches(0), name)

    def broken(self, name: str) -> np.ndarray:
        """A column of all broken rows, as an array."""
        return _joined(self._batches(1), name)

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
    """A column as an array, from batches of its own: the pages of their mapping are released with them."""
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
