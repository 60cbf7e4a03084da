"""Rows of two files that have a key in common, such as questions and their answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nextgpt_pl.errors import UserError, nearest
from nextgpt_pl.readers.model import LeftOut


class Partners:
    """The rows of a file, by the value of a key.

    Args:
        file: the file.
        key: the key.
        rows: its rows.

    Raises:
        UserError: a row cannot be read or lacks the key, or two rows have the same value.

    """

    def __init__(self, file: Path, key: str, rows: Iterable[Any]) -> None:
        self.file, self.key = file, key
        self._rows: dict[Any, dict[str, Any]] = {}
        self._joined: set[Any] = set()
        for number, row in enumerate(rows):
            where = f"joins: {file.name}, row {number}"
            if isinstance(row, UserError):
                raise UserError(f"{where}: {row}")
            value = row.get(key) if isinstance(row, dict) else None
            if not isinstance(value, str | int):
                raise UserError(f"{where}: no {key!r}{nearest(key, map(str, row) if isinstance(row, dict) else ())}")
            if value in self._rows:
                raise UserError(f"{where}: another row has {key}={value!r:.80} too")
            self._rows[value] = row

    def join(self, row: Any) -> Any:
        """A row with the keys of its partner, if there is one; a :class:`UserError` if they contradict each other."""
        value = row.get(self.key) if isinstance(row, dict) else None
        partner = self._rows.get(value) if isinstance(value, str | int) else None
        if partner is None:
            return row
        self._joined.add(value)
        for key in row.keys() & partner.keys():
            if row[key] != partner[key]:
                return UserError(
                    f"{self.key}={value!r:.80}: {key}={row[key]!r:.80}, but {self.file.name} has {partner[key]!r:.80}"
                )
        return {**row, **partner}

    def without_row(self) -> Iterator[LeftOut]:
        """One for each row that was joined with none."""
        reason = f"rows of {self.file.name} whose {self.key} no other row has"
        yield from (LeftOut(reason) for value in self._rows if value not in self._joined)


def joined(rows: Iterable[Any], files: Mapping[str, Path], read: Callable[[Path], Iterable[Any]]) -> Iterator[Any]:
    """Rows with the keys of their partners; rows of other files without a partner are left out.

    Args:
        rows: the rows.
        files: by key, the file whose rows are joined on it.
        read: the rows of a file.

    """
    partners = [Partners(file, key, read(file)) for key, file in files.items()]
    for row in rows:
        for known in partners:
            row = known.join(row)
        yield row
    for known in partners:
        yield from known.without_row()
