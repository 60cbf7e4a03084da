"""Rows that were skipped or shortened while batches were made, gathered over batches, workers and processes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Protocol, runtime_checkable

from nextgpt_pl.atomic import write_whole
from nextgpt_pl.distributed import gathered
from nextgpt_pl.samples import RowNote

FILE = "skipped_rows.jsonl"
_LISTED = 20


class RowNotes:
    """Each row once per split, however often it was drawn.

    Attributes:
        found: of all processes, as of the last :meth:`exchange`; bounded by the number of rows that are not whole.

    """

    def __init__(self) -> None:
        self.found: dict[RowNote, None] = {}
        self._new: dict[RowNote, None] = {}

    def take(self, notes: Sequence[RowNote]) -> None:
        """Of one batch of this process."""
        self._new.update(dict.fromkeys(note for note in notes if note not in self.found))

    def exchange(self) -> list[RowNote]:
        """What no process had told before; the same on every process, all of which call this together."""
        new = [note for of_process in gathered(list(self._new)) for note in of_process]
        new = [note for note in dict.fromkeys(new) if note not in self.found]
        self.found.update(dict.fromkeys(new))
        self._new.clear()
        return new

    def counts(self) -> Counter[tuple[str, str]]:
        """Rows per split and kind."""
        return Counter((note.split, note.kind) for note in self.found)

    def write(self, folder: Path) -> None:
        """All of them, and those that the run had found before it was resumed, as ``skipped_rows.jsonl``.

        No file where there is none.
        """
        found = {**_written(folder / FILE), **self.found}
        if found:
            lines = [json.dumps(asdict(note), ensure_ascii=False) + "\n" for note in found]
            # bytes of a file's name that are no UTF-8, as JSON writes them
            text = "".join(lines).encode("utf-8", "backslashreplace").decode("utf-8")
            write_whole(folder / FILE, text)


def _written(file: Path) -> dict[RowNote, None]:
    if not file.is_file():
        return {}
    return {RowNote(**json.loads(line)): None for line in file.read_text(encoding="utf-8").split("\n") if line}


def listed(new: Sequence[RowNote]) -> list[str]:
    """The first twenty as lines for people, under a line with their number."""
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
    """What a stage asks of its data module, where that counts rows."""

    def rows_used(self) -> dict[str, int]:
        """Rows per split and what became of them."""

    def report_rows(self) -> RowNotes:
        """Print what is new; all processes together."""
