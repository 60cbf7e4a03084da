"""The items of a source with files: indexed once, and built from the index when asked for."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from nextgpt_pl.datamodules.hold_out import SIDES, hold_number
from nextgpt_pl.errors import MissingFileError, UserError
from nextgpt_pl.readers import formats, index
from nextgpt_pl.readers.index import Entry, RowIndex
from nextgpt_pl.readers.model import LeftOut
from nextgpt_pl.utils.lazy_sequence import LazySequence

if TYPE_CHECKING:
    from nextgpt_pl.datamodules.sources import FileSource, Item

VERSION = 3  # raise it when a source's rows give other items
_BLOCK = 1 << 16  # bytes at each end of a data file that identify its content
_MEMORY = 1 << 24  # bytes of data files below which the index stays in memory
_SHOWN = 1000  # rows after which the progress bar moves
_ENTRIES = 50_000  # files in a folder above which its index is on disk

_NO_ARGUMENTS = ("report", "on_error", "val_fraction", "index_folder")  # the index does not depend on these
_ADDRESS = re.compile(r" at 0x[0-9a-f]{4,}>")
_SETS = (set, frozenset)

_ENCODE = json.JSONEncoder(ensure_ascii=False, check_circular=False, default=str).encode


def indexed(source: FileSource, files: Sequence[Path]) -> RowIndex:
    """The index of all rows of a source's files; on disk where the source is large."""
    entries = lambda: _entries(source, files)  # noqa: E731 - on_disk reads rows only without a valid index
    states = [state_of(file) for file in (*files, *source.further_files())]
    if sum(size for size, _ in states) < _MEMORY:
        return index.in_memory(entries())
    described = {
        "class": f"{type(source).__module__}.{type(source).__qualname__}",
        "code": _code(type(source)),
        "arguments": _arguments(source),
    }
    name = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]
    key = {"versions": [VERSION, formats.VERSION, index.VERSION], "files": [state for _, state in states], **described}
    return index.on_disk(source.index_folder / name, key, entries)


def _arguments(source: FileSource) -> dict[str, Any]:
    """What a source's rows and items depend on, as plain data.

    Raises:
        UserError: an attribute's text has its address in memory, so the index would not be found again.

    """
    arguments = {}
    for name, value in vars(source).items():
        if name.startswith("_") or name in _NO_ARGUMENTS:
            continue
        text = json.dumps(value, default=lambda other: sorted(other) if isinstance(other, _SETS) else str(other))
        if _ADDRESS.search(text):
            raise UserError(
                f"{type(source).__name__}.{name}={text:.120}: the index of the rows is named by it, but it has an "
                "address in memory: give its class a __repr__ that tells its value, or the attribute a name with a "
                "leading _ if rows and items do not depend on it"
            )
        arguments[name] = json.loads(text)
    return arguments


def _code(kind: type) -> str:
    """Hash of the code of a source that is not ours, whose author raises no version."""
    if kind.__module__.startswith("nextgpt_pl."):
        return ""
    try:
        return hashlib.sha256(Path(inspect.getfile(kind)).read_bytes()).hexdigest()
    except (OSError, TypeError):
        return ""


def state_of(file: Path) -> tuple[int, str]:
    """Bytes of a data file, and what tells its content from another's; for a folder those of its files."""
    if not file.exists():
        return 0, f"{file}: missing"
    sha256 = hashlib.sha256(str(file).encode("utf-8", "surrogateescape"))
    if file.is_dir():
        count = 0
        for folder, names, leaves in os.walk(file):
            names.sort()
            for leaf in sorted(leaves):
                status = os.lstat(os.path.join(folder, leaf))  # noqa: PTH118 - this runs for each file
                sha256.update(
                    f"{folder}/{leaf}:{status.st_size}:{status.st_mtime_ns}".encode("utf-8", "surrogateescape")
                )
                count += 1
        return _MEMORY if count > _ENTRIES else 0, sha256.hexdigest()
    status = file.stat()
    with file.open("rb") as opened:
        sha256.update(opened.read(_BLOCK))
        opened.seek(max(0, status.st_size - _BLOCK))
        sha256.update(opened.read(_BLOCK))
    sha256.update(f"{status.st_size}:{status.st_mtime_ns}".encode())
    return status.st_size, sha256.hexdigest()


def _entries(source: FileSource, files: Sequence[Path]) -> Iterator[Entry]:
    """All rows of all files, checked."""
    bar = tqdm(
        desc=f"indexing {source.name or source.root.name}", unit=" rows", unit_scale=True, delay=2, mininterval=1
    )
    source = source.for_indexing()
    with bar:
        for number, file in enumerate(files):
            name = source.file_name(file)
            for position, row in enumerate(source.rows(file)):
                if position % _SHOWN == 0:
                    bar.update(_SHOWN)
                yield _entry(source, file, number, row, position, f"{name}, row {position}")


def _entry(source: FileSource, file: Path, number: int, row: Any, position: int, where: str) -> Entry:
    if isinstance(row, UserError):
        return Entry(None, number, position, 0, (), str(row))
    if isinstance(row, LeftOut):
        return Entry(None, number, position, 0, (), remark=row.remark)
    text, half_characters = _encoded(row)
    hold, side = hold_number(source.hold_key(row)), SIDES[None]
    try:
        split = source.split_of(row)
        if split not in SIDES:
            raise LeftOut(f"they are for {split}")
        side = SIDES[split]
        kinds = source.kinds(file, row, where, texts=half_characters)
    except LeftOut as reason:
        return Entry(None, number, position, hold, (), remark=reason.remark)
    except UserError as error:
        missing = error.path if isinstance(error, MissingFileError) else None
        fault = str(error).encode("utf-8", "replace").decode()
        return Entry(text, number, position, hold, (), fault, missing, side)
    return Entry(text, number, position, hold, kinds, None, None, side, source.remark(row))


def _encoded(row: Any) -> tuple[bytes, bool]:
    """The row as JSON, and whether a text in it has half of a character."""
    text = _ENCODE(row)
    try:
        return text.encode(), False
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass"), True


class IndexedItems(LazySequence["Item"]):
    """Items of one split; each is built from its row when it is asked for.

    Args:
        source: builds items from rows.
        files: its files.
        rows: the index of all rows.
        positions: positions of the split's items in the index.

    Attributes:
        kinds: kind of each item, ``(n,)`` int8; see :mod:`nextgpt_pl.datamodules.kinds`.

    """

    def __init__(self, source: FileSource, files: Sequence[Path], rows: RowIndex, positions: np.ndarray) -> None:
        self._source, self._files, self._rows, self._positions = source, files, rows, positions
        self.kinds = rows.column("kind").astype(np.int8)[positions]

    def __len__(self) -> int:
        return len(self._positions)

    def row_starts(self) -> np.ndarray:
        """Positions in this sequence of the first item of each row, ``(rows,)`` int64."""
        return np.flatnonzero(self._rows.column("item")[self._positions] == 0)

    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """Number of the file of each item, and of its row in the file, ``(n,)`` each."""
        return self._rows.column("file")[self._positions], self._rows.column("number")[self._positions]

    def shared_with(self, other: IndexedItems) -> tuple[IndexedItems, IndexedItems, IndexedItems]:
        """The items that two splits of a source share, those of this split alone, and those of the other one alone."""
        both = np.intersect1d(self._positions, other._positions, assume_unique=True)
        alone = [np.setdiff1d(split._positions, both, assume_unique=True) for split in (self, other)]
        shared, own, others = (self._at(positions) for positions in (both, *alone))
        return shared, own, others

    def _at(self, positions: np.ndarray) -> IndexedItems:
        return IndexedItems(self._source, self._files, self._rows, positions)

    def item(self, index: int) -> Item:
        """The item, built from its row.

        Raises:
            UserError: a file of the row does not exist any more.

        """
        row, file, number, of_row = self._rows.row(int(self._positions[index]))
        path = self._files[file]
        where = f"{self._source.file_name(path)}, row {number}"
        try:
            return self._source.items(path, row, where)[of_row]
        except UserError as error:
            raise UserError(f"{where}: {error}") from error


@dataclass(frozen=True)
class Faults(LazySequence[str]):
    """Messages for the broken rows of an index, read when asked for."""

    rows: RowIndex
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.rows.broken("file"))

    def item(self, index: int) -> str:
        """The message of one broken row."""
        file, number, read, fault = self.rows.fault(index)
        return f"{self.names[file]}, row {number}: {fault}" if read else f"{self.names[file]}: {fault}"
