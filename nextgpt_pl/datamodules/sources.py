"""Base classes of sources of items; every row is checked before training, and each broken row is named."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nextgpt_pl.datamodules.hold_out import on_side, row_key
from nextgpt_pl.datamodules.indexed_items import Faults, IndexedItems, indexed, state_of
from nextgpt_pl.datamodules.kinds import kind_code
from nextgpt_pl.datamodules.rows import RowReport, checked
from nextgpt_pl.errors import MissingFileError, UserError
from nextgpt_pl.modality import Modality
from nextgpt_pl.readers.files import located
from nextgpt_pl.readers.index import RowIndex
from nextgpt_pl.readers.model import LeftOut
from nextgpt_pl.readers.splits import SetSplit
from nextgpt_pl.samples import CaptionedPair, Dialogue, ItemSource, Media, Split

log = logging.getLogger(__name__)

#: maximum number of items of a kind that a source makes; they are made at once, and stay in memory
MADE = 1_000_000

OnError = Literal["raise", "skip"]
Item = CaptionedPair | Dialogue


class Source(ItemSource):
    """A source of items; ``report`` counts what the last :meth:`read` used and skipped.

    Attributes:
        name: name of the data set, for its weight.
        on_error: policy for an item that is found to be unusable when it is rendered or its media are read: ``raise``
            ends the run, ``skip`` replaces it by another item and counts it.

    """

    report: RowReport
    name: str = ""
    on_error: OnError = "raise"

    @property
    def need_media(self) -> bool:
        """Whether the media files of its items must exist."""
        return True

    def states(self) -> dict[str, str]:
        """What tells the present content of its data files from another, by their names."""
        return {}

    def validates_on_training(self) -> bool:
        """Whether both splits have the same items."""
        return False

    def check_files(self) -> None:
        """Refuse missing folders and data files; a data module calls it before any weights are read.

        Raises:
            UserError: something is missing; the message lists it.

        """


class FileSource(Source):
    """A source that reads files; broken rows are listed in one error, or skipped and counted.

    All rows are read and checked once, for both splits. Of a large source an index is kept on disk, which all processes
    map into memory; items are built from it when they are asked for.

    Args:
        root: folder of all files.
        on_error: ``raise`` an error that lists all broken rows, or ``skip`` and count them.
        val_fraction: fraction of the rows in the held-out split, chosen by a hash of the row's first medium (or of the
            whole row); 0: validate on the training rows.
        index_folder: folder of the indices of large sources.

    """

    def __init__(
        self, root: Path, on_error: OnError, val_fraction: float, index_folder: Path = Path("outputs/rows")
    ) -> None:
        if not 0 <= val_fraction < 1:
            raise UserError(f"val_fraction={val_fraction}: it is a share of the rows, from 0 to below 1")
        self.root, self.on_error, self.val_fraction = root.resolve(), on_error, val_fraction
        self.index_folder = index_folder
        self._indexed: tuple[list[Path], RowIndex] | None = None

    def file_name(self, file: Path) -> str:
        """Name of a file in messages and keys: relative to the root, if it is there; of the root itself its name."""
        inside = file.is_relative_to(self.root) and file != self.root
        return str(file.relative_to(self.root)) if inside else file.name if file == self.root else str(file)

    def missing(self) -> list[str]:
        """A message for each folder and data file that does not exist."""
        return [] if self.root.is_dir() else [f"root={str(self.root)!r}: no such folder"]

    def check_files(self) -> None:
        """See :meth:`Source.check_files`; missing files are refused also if broken rows are skipped."""
        missing = self.missing()
        if missing:
            hint = (
                "; give it in the YAML or by --data.sources.init_args.root=FOLDER (the YAML may read it from an "
                "environment variable)"
            )
            raise UserError("; ".join(missing) + ("" if self.root.is_dir() else hint))

    def _index(self) -> tuple[list[Path], RowIndex]:
        """The files, and the index of their rows; made once."""
        if self._indexed is None:
            self.check_files()
            # the index counts files, so they are listed once
            listed = self.row_files()
            self._indexed = listed, indexed(self, listed)
        return self._indexed

    def states(self) -> dict[str, str]:
        """Of all files with rows, or that rows are made of."""
        return {self.file_name(file): state_of(file)[1] for file in (*self.row_files(), *self.further_files())}

    def read(self, split: Split) -> IndexedItems:
        """The items of a split.

        Raises:
            UserError: a folder or file is missing, or there are broken rows and ``on_error`` is ``raise``; the message
                lists them.

        """
        files, rows = self._index()
        names = [self.file_name(file) for file in files]
        self.report = RowReport(str(self.root), broken=Faults(rows, names))
        first = rows.column("item") == 0
        inside_split = on_side(rows.column("hold"), rows.column("side"), split, self.val_fraction)
        self.report.used = int(first.sum())
        broken = on_side(rows.broken("hold"), rows.broken("side"), split, self.val_fraction)
        broken_in_split = broken | ~rows.broken("read").astype(bool)
        self.report.of_split = int((first & inside_split).sum()), int(broken_in_split.sum())
        self.report.notes += [f"{count} rows {remark}" for remark, count in rows.remarks.items()]
        self.report.left_out = sum(
            count for remark, count in rows.remarks.items() if remark.startswith(LeftOut.BEGINNING)
        )
        if self.val_fraction or not inside_split.any():
            self._note_empty_files(names, rows.column("file")[first], inside_split[first], split)
        if self.report.broken and (self.on_error == "raise" or not self.report.used):
            raise UserError(self.report.message())
        log.info(self.report.message())
        return IndexedItems(self, files, rows, np.flatnonzero(inside_split))

    def validates_on_training(self) -> bool:
        """Whether both splits have the same items: nothing is held out, and the data set gives no row a split."""
        return not self.val_fraction and not self._index()[1].column("side").any()

    def _note_empty_files(self, names: Sequence[str], of_row: np.ndarray, used: np.ndarray, split: Split) -> None:
        """Note the files of which no row is in the split."""
        total = np.bincount(of_row, minlength=len(names))
        of_split = np.bincount(of_row[used], minlength=len(names))
        side = "validation" if split == "val" else "training"
        for i in np.flatnonzero((total > 0) & (of_split == 0)).tolist():
            self.report.notes.append(
                f"{names[i]}: none of its {total[i]} rows is for {side}: val_fraction={self.val_fraction}, which "
                "divides only rows whose data set gives no split"
            )

    @abstractmethod
    def row_files(self) -> list[Path]:
        """The files with rows."""

    def further_files(self) -> list[Path]:
        """Other files that the rows are made of."""
        return []

    @abstractmethod
    def rows(self, file: Path) -> Iterator[Any]:
        """The rows of a file, as plain data.

        In place of a row there may be a :class:`UserError` that says why it cannot be read, or a
        :class:`~nextgpt_pl.readers.model.LeftOut`.
        """

    @abstractmethod
    def items(self, file: Path, row: Any, where: str) -> Sequence[Item]:
        """The items of one row; always the same for the same row.

        Raises:
            UserError: the row is broken.
            LeftOut: the row is not used on purpose.

        """

    def for_indexing(self) -> FileSource:
        """The source, or a copy that checks rows faster, of which only :meth:`kinds` and what tells splits is used."""
        return self

    def kinds(self, file: Path, row: Any, where: str, *, texts: bool) -> Sequence[int]:
        """Codes of the kinds of a row's items, which are checked.

        Args:
            file, row, where: see :meth:`items`.
            texts: whether the row's texts may be such that no tokenizer accepts them.

        Raises:
            UserError: the row is broken, or an item has nothing to learn.
            LeftOut: the row is not used on purpose.

        """
        return [kind_code(item) for item in checked(self.items(file, row, where), texts=texts)]

    def hold_key(self, row: Any) -> str:
        """Name of what a row is about; rows with equal names are in the same split."""
        return row_key(row)

    def split_of(self, row: Any) -> SetSplit | None:
        """The split that the data set gives to a row; ``None``: ``val_fraction`` decides."""
        return None

    def remark(self, row: Any) -> str | None:
        """A remark on a row that is used, which is counted in the report."""
        return None

    def media_file(self, folder: Path, modality: Modality, name: str, *, needed: bool = True) -> Media:
        """A medium in ``folder``; if ``needed``, its file must exist."""
        path, exists = located(str(folder), name)
        if needed and not exists:
            raise MissingFileError(f"missing {modality} file {path}", path)
        return Media(modality, Path(path))
