"""Base classes of sources of items; every row is checked before training, and each broken row is named."""

from __future__ import annotations

import json
import logging
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from nextgpt_pl.datamodules.hold_out import held_out, row_key
from nextgpt_pl.datamodules.rows import RowReport, array_shape, check_answer, check_texts, inside
from nextgpt_pl.errors import UserError, nearest
from nextgpt_pl.modality import MODALITIES, Modality
from nextgpt_pl.samples import CaptionedPair, Dialogue, ItemSource, Media, Split

log = logging.getLogger(__name__)

OnError = Literal["raise", "skip"]
Shapes = dict[Modality, tuple[int, ...]]
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


class FileSource(Source):
    """A source that reads files; broken rows are listed in one error, or skipped and counted."""

    def __init__(self, root: Path, on_error: OnError, val_fraction: float) -> None:
        if not root.is_dir():
            raise UserError(
                f"root={str(root)!r}: no such folder; give it in the YAML or by --data.sources.init_args.root=FOLDER"
                " (the YAML may read it from an environment variable)"
            )
        if not 0 <= val_fraction < 1:
            raise UserError(f"val_fraction={val_fraction}: it is a share of the rows, from 0 to below 1")
        self.root, self.on_error, self.val_fraction = root.resolve(), on_error, val_fraction

    def read(self, split: Split, embedding_shapes: Shapes) -> Sequence[Item]:
        """Check and read all rows.

        Raises:
            UserError: broken rows and ``on_error`` is ``raise``; the message lists them.

        """
        self.report = RowReport(str(self.root))
        items: list[Item] = []
        for file in self.row_files():
            items += self._of_file(file, split, embedding_shapes)
        if self.report.broken and (self.on_error == "raise" or not self.report.used):
            raise UserError(self.report.message())
        log.info(self.report.message())
        return items

    def _of_file(self, file: Path, split: Split, embedding_shapes: Shapes) -> list[Item]:
        """The items of a file's rows that belong to the split; all rows are checked and counted."""
        name = file.relative_to(self.root) if file.is_relative_to(self.root) else file
        split_items: list[Item] = []
        used = split_used = split_broken = 0
        for index, row in enumerate(self.rows(file)):
            where = f"{name}, row {index}"
            if isinstance(row, UserError):
                self.report.broken.append(f"{name}: {row}")
                split_broken += 1  # its split is unknown, so it counts in both
                continue
            in_split = not self.val_fraction or held_out(row_key(row), self.val_fraction) == (split == "val")
            try:
                items = self.items(file, row, where, embedding_shapes)
                for item in items:
                    check_answer(item)
                    check_texts(item)
            except UserError as error:
                self.report.broken.append(f"{where}: {error}")
                split_broken += in_split
                continue
            used += 1
            if in_split:
                split_items += items
                split_used += 1
        self.report.used += used
        before = self.report.of_split or (0, 0)
        self.report.of_split = before[0] + split_used, before[1] + split_broken
        if used and not split_used:
            side = "validation" if split == "val" else "training"
            self.report.notes.append(f"{name}: none of its {used} rows is for {side}: val_fraction={self.val_fraction}")
        return split_items

    @abstractmethod
    def row_files(self) -> list[Path]:
        """The files with rows."""

    @abstractmethod
    def rows(self, file: Path) -> Iterator[Any]:
        """The rows of a file; for an unreadable file or line, a :class:`UserError` instead of the row."""

    @abstractmethod
    def items(self, file: Path, row: Any, where: str, embedding_shapes: Shapes) -> Sequence[Item]:
        """The items of one row.

        Raises:
            UserError: the row is broken.

        """

    def media_file(self, folder: Path, modality: Modality, name: str, *, needed: bool = True) -> Media:
        """A medium in ``folder``; if ``needed``, its file must exist."""
        path = inside(folder, name)
        if needed and not path.is_file():
            raise UserError(f"missing {modality} file {path}")
        return Media(modality, path)

    def embedding_file(self, folder: Path, names: list[str], index: int, shape: tuple[int, ...] | None) -> Path | None:
        """A caption embedding of the expected shape; ``None`` if the row names none."""
        if not names:
            return None
        if index >= len(names):
            raise UserError(f"caption embedding {index} is missing, there are {len(names)}")
        path = inside(folder, names[index])
        actual_shape = array_shape(path)
        if shape is not None and actual_shape != shape:
            raise UserError(
                f"caption embedding {path} is {_shape_text(actual_shape)},"
                f" the decoder's text encoder gives {_shape_text(shape)}"
            )
        return path


class JSONSource(FileSource):
    """Files that each hold a JSON list of objects.

    Args:
        root: folder of all files.
        files: the JSON files, relative to it.
        media: folders of the media per modality, relative to the JSON's folder (``images``, ``videos``, ``audios``).
        embeddings: folder of the caption embeddings, relative to root.
        need_media: check that the media files exist.
        on_error: ``raise`` an error that lists all broken rows, or ``skip`` and count them.
        val_fraction: fraction of each file's rows in the held-out split, chosen by a hash of the row's first medium (or
            of the whole row); 0: validate on the training rows.

    """

    def __init__(
        self,
        root: Path,
        files: list[str],
        media: dict[str, str] | None = None,
        embeddings: str = "embed",
        need_media: bool = True,
        on_error: OnError = "raise",
        val_fraction: float = 0.0,
    ) -> None:
        super().__init__(root, on_error, val_fraction)
        self.files, self.embeddings, self.need_media = files, self.root / embeddings, need_media
        self.media = {m: (media or {}).get(m.value, f"{m}s") for m in MODALITIES}
        self.name = files[0] if files else ""
        if on_error == "raise":
            for file in self.row_files():
                if not file.is_file():
                    raise UserError(f"files: {file.relative_to(self.root)}: {self._missing(file)}")

    def _missing(self, file: Path) -> str:
        # not recursive: the folder may be a whole disk
        known = [str(p.relative_to(self.root)) for p in file.parent.glob("*.json")]
        return f"no such file{nearest(str(file.relative_to(self.root)), known)}"

    def row_files(self) -> list[Path]:
        """The configured files."""
        return [inside(self.root, name) for name in self.files]

    def rows(self, file: Path) -> Iterator[Any]:
        """Items of the JSON list."""
        if not file.is_file():
            yield UserError(self._missing(file))
            return
        try:
            rows = json.loads(file.read_text(encoding="utf-8"))
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            yield UserError(f"unreadable JSON ({error})")
            return
        if not isinstance(rows, list):
            yield UserError(f"a JSON list of rows is expected, got {type(rows).__name__}")
            return
        yield from rows


def _shape_text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
