"""Rows that were skipped or shortened by data-loader workers, gathered from all batches and ranks."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Protocol, runtime_checkable

from nextgpt_pl.batches import RowNote
from nextgpt_pl.utils.atomic import write_atomic
from nextgpt_pl.utils.distributed import all_gather_objects

FILE = "skipped_rows.jsonl"
_LISTED = 20


class RowNotes:
    """Collects notes; each row counts once per split, however often it was drawn.

    Attributes:
        found: notes of all ranks as of the last :meth:`exchange`; at most one per skipped or shortened row.

    """

    def __init__(self) -> None:
        self.found: dict[RowNote, None] = {}
        self._new: dict[RowNote, None] = {}

    def take(self, notes: Sequence[RowNote]) -> None:
        """Add the notes of one batch of this rank."""
        self._new.update(dict.fromkeys(note for note in notes if note not in self.found))

    def exchange(self) -> list[RowNote]:
        """Gather the notes of all ranks and return the new ones. Collective: all ranks call this."""
        new = [note for of_process in all_gather_objects(list(self._new)) for note in of_process]
        new = [note for note in dict.fromkeys(new) if note not in self.found]
        self.found.update(dict.fromkeys(new))
        self._new.clear()
        return new

    def counts(self) -> Counter[tuple[str, str]]:
        """Number of rows per split and kind."""
        return Counter((note.split, note.kind) for note in self.found)

    def write(self, folder: Path) -> None:
        """Write ``skipped_rows.jsonl``: all notes, and those in the file of a run that is resumed.

        Without notes no file is written.
        """
        all_notes = {**_written(folder / FILE), **self.found}
        if all_notes:
            lines = [json.dumps(asdict(note), ensure_ascii=False) + "\n" for note in all_notes]
            # bytes of a file name that are not valid UTF-8 are escaped as in JSON
            text = "".join(lines).encode("utf-8", "backslashreplace").decode("utf-8")
            write_atomic(folder / FILE, text)


def _written(file: Path) -> dict[RowNote, None]:
    """The notes in a file; damaged lines are left out."""
    notes: dict[RowNote, None] = {}
    lines = file.read_text(encoding="utf-8", errors="replace").split("\n") if file.is_file() else ()
    for line in lines:
        with contextlib.suppress(ValueError, TypeError, RecursionError):
            notes[RowNote(**json.loads(line))] = None
    return notes


def listed(new: Sequence[RowNote]) -> list[str]:
    """Text that lists the number of rows per kind, and up to twenty of them."""
    lines = []
    for kind in ("skipped", "shortened"):
        reasons = [note.reason for note in new if note.kind == kind]
        if reasons:
            lines.append(f"{len(reasons)} more rows {kind}:")
            lines += [f"  {reason}" for reason in reasons[:_LISTED]]
            lines += [f"  and {len(reasons) - _LISTED} more"] if len(reasons) > _LISTED else []
    return lines


@runtime_checkable
class ReportsRows(Protocol):
    """Interface between a stage and a data module that counts rows."""

    def rows_used(self) -> dict[str, int]:
        """Number of rows per split, by outcome (used, skipped, shortened)."""

    def report_rows(self) -> RowNotes:
        """Print the new notes. Collective: all ranks call this."""
