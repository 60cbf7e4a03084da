"""One source for data files of all formats and published layouts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

from nextgpt_pl.datamodules.kinds import PAIR_CODES, kind_code
from nextgpt_pl.datamodules.rows import check_caption, checked
from nextgpt_pl.datamodules.sources import FileSource, Item, OnError
from nextgpt_pl.errors import MissingFileError, UserError, nearest
from nextgpt_pl.modality import MODALITIES
from nextgpt_pl.readers.files import expanded
from nextgpt_pl.readers.formats import rows_of
from nextgpt_pl.readers.joins import joined
from nextgpt_pl.readers.layouts.choice import LayoutChoice
from nextgpt_pl.readers.listings import Listings
from nextgpt_pl.readers.model import Captioned, Row, items_of
from nextgpt_pl.readers.names import NamePattern
from nextgpt_pl.readers.packed import unpacked
from nextgpt_pl.readers.place import Place
from nextgpt_pl.readers.splits import SetSplit, Splits, splits_of


class DataFiles(FileSource):
    """Rows of data files: JSON, JSON Lines, CSV, TSV, Parquet, Arrow, tar shards; also compressed.

    The format of a file is recognised by its content, the layout of a row by its keys; the layouts are listed in
    :data:`nextgpt_pl.readers.layouts.LAYOUTS`. A JSON object that holds lists of a published data set, such as COCO's
    images and annotations, gives their rows.

    Args:
        root: folder of all files.
        files: names of the data files, relative to it; globs and ranges such as ``{00000..00331}.tar`` are expanded.
        layout: name of the layout of all rows; ``None``: recognised row by row.
        media: folders of the media per modality, relative to the data file's folder or to the root (``images``,
            ``videos``, ``audios``); other files are looked for in the data file's folder, the root and ``media_roots``.
        media_roots: further folders that media may lie in, also by absolute paths or links.
        embeddings: folder of the caption embeddings, relative to ``root``; ``compute``: precomputed ones are ignored.
        plain_embeddings: use the embedding ``<media name>.npy`` where a row names none.
        need_media: check that the media files exist.
        ignore: keys of rows that hold nothing to learn, ``*`` for all unknown ones; other unknown keys are errors.
        on_error, val_fraction, index_folder: see :class:`~nextgpt_pl.datamodules.sources.FileSource`.
        name: name of the data set, for its weight; by default the first file.
        columns: which column means what, for rows of no known layout: ``image``, ``video``, ``audio`` or ``file`` (a
            column, or a pattern such as ``"{page_dir}/{videoid}.mp4"``), ``caption`` and ``answer`` (a column or a
            list), ``question`` and ``key``. Columns that are not named are listed in the report.
        media_name: name of a row's medium as a pattern of its columns, where it is not that of the published files.
        split: which value of a column means which split, such as
            ``{column: split, train: [train, restval], val: [val], test: [test]}``; rows with other values are left out
            and counted. By default the column ``split`` of published data sets counts.
        joins: further files whose rows have a key in common with the rows of ``files``, by that key:
            ``{question_id: annotations.json}``.

    """

    def __init__(
        self,
        root: Path,
        files: list[str],
        layout: str | None = None,
        media: dict[str, str] | None = None,
        media_roots: list[Path] | None = None,
        embeddings: str = "embed",
        plain_embeddings: bool = False,
        need_media: bool = True,
        ignore: list[str] | None = None,
        on_error: OnError = "raise",
        val_fraction: float = 0.0,
        name: str | None = None,
        index_folder: Path = Path("outputs/rows"),
        columns: dict[str, str | list[str]] | None = None,
        media_name: str | None = None,
        split: dict[str, str | list[str]] | None = None,
        joins: dict[str, str] | None = None,
    ) -> None:
        super().__init__(root, on_error, val_fraction, index_folder)
        known = [m.value for m in MODALITIES]
        for modality in media or ():
            if modality not in known:
                raise UserError(f"media: {modality!r} is no modality{nearest(modality, known)}")
        self.files, self.joins, self.media = list(files), dict(joins or {}), dict(media or {})
        self.layouts = LayoutChoice(layout, columns, ignore or ())
        self.splits = splits_of(split) if split is not None else None
        self.name = name or (files[0] if files else "")
        self.place = Place(
            file=self.root,
            root=self.root,
            folders={m: (media or {}).get(m.value, f"{m}s") for m in MODALITIES},
            media_roots=tuple(folder.resolve() for folder in media_roots or ()),
            embeddings=None if embeddings == "compute" else self.root / embeddings,
            plain_embeddings=plain_embeddings,
            need_media=need_media,
            ignore=self.layouts.ignore,
            media_name=NamePattern(media_name) if media_name is not None else None,
        )
        self._places: dict[tuple[Path, bool], Place] = {}

    def missing(self, *, media: bool = False) -> list[str]:
        """A message for each folder and data file that does not exist.

        Args:
            media: include the folders that the argument ``media`` names. Training does not need them, since it can run
                on caption embeddings alone, and skips rows with missing media.

        """
        missing = super().missing()
        if missing:
            return missing
        missing += [
            f"media_roots: {folder}: no such folder" for folder in self.place.media_roots if not folder.is_dir()
        ]
        folders = [self.root]
        for name in (*self.files, *self.joins.values()):
            try:
                folders += [file.parent for file in expanded(self.root, [name])]
            except MissingFileError as error:
                missing.append(str(error))
        for modality, name in self.media.items() if media else ():
            if not any((folder / name).is_dir() for folder in dict.fromkeys(folders)):
                missing.append(f"media: {modality}: {self.root / name}: no such folder")
        return missing

    @property
    def need_media(self) -> bool:
        """As given."""
        return self.place.need_media

    def row_files(self) -> list[Path]:
        """The files, with patterns expanded.

        Raises:
            UserError: one is missing, also if broken rows are skipped, or there are several beside ``joins``.

        """
        files = expanded(self.root, self.files)
        if self.joins and len(files) != 1:
            raise UserError(
                f"joins: with it, files names one file, but these are {len(files)}; give each its own source"
            )
        return files

    def further_files(self) -> list[Path]:
        """The files of ``joins``.

        Raises:
            UserError: one is missing.

        """
        return list(self._partners().values())

    def _partners(self) -> dict[str, Path]:
        return {key: expanded(self.root, [name])[0] for key, name in self.joins.items()}

    def rows(self, file: Path) -> Iterator[Any]:
        """The rows of a file, joined with those of other files."""
        rows = self._rows(file)
        return joined(rows, self._partners(), self._rows) if self.joins else rows

    def _rows(self, file: Path) -> Iterator[Any]:
        rows = rows_of(file)
        first = next(rows, None)
        try:
            of_object = unpacked(first, self.layouts.ignore)
        except UserError as error:
            yield error
            return
        if of_object is not None:
            yield from of_object
        elif first is not None:
            yield first
        yield from rows

    def for_indexing(self) -> DataFiles:
        """A copy that checks files and makes no path of them."""
        source = copy(self)
        source.place, source._places = replace(self.place, only_checks=Listings()), {}
        return source

    def kinds(self, file: Path, row: Any, where: str, *, texts: bool) -> Sequence[int]:
        """See :meth:`FileSource.kinds`; no pairs are made of captions."""
        if type(self).items is not DataFiles.items:  # of a class of the user
            return super().kinds(file, row, where, texts=texts)
        kinds: list[int] = []
        for record in self.records(file, row):
            if isinstance(record, Captioned) and not texts:
                for caption in record.captions:
                    check_caption(caption)
                    kinds.append(PAIR_CODES[record.modality])
            else:
                kinds += map(kind_code, checked(record.items(where), texts=texts))
        return kinds

    def items(self, file: Path, row: Any, where: str) -> Sequence[Item]:
        """The training items of a row."""
        return items_of(self.records(file, row), where)

    def records(self, file: Path, row: Any, *, need_media: bool | None = None) -> Sequence[Row]:
        """The row model of a row.

        Args:
            file: its file.
            row: the row.
            need_media: whether its media files must exist; by default as configured.

        Raises:
            UserError: the row is broken, or has an unknown key.
            LeftOut: the row is not used on purpose.

        """
        layout = self.layouts.of(row)
        need_media = self.place.need_media if need_media is None else need_media
        place = self._places.get((file, need_media))
        if place is None:
            place = self._places[file, need_media] = replace(self.place, file=file, need_media=need_media)
        if place.media_name is not None and not layout.renames:
            raise UserError(f"media_name: rows of the layout {layout.name} name their media themselves")
        return layout.read(row, place)

    def hold_key(self, row: Any) -> str:
        """Name of the row's medium."""
        try:
            medium = self.layouts.of(row).medium
            name = medium(row) if medium else ""
        except UserError:  # the row is broken
            name = ""
        return name or super().hold_key(row)

    def split_of(self, row: Any) -> SetSplit | None:
        """The split that a column of the row tells.

        Raises:
            LeftOut, UserError: see :meth:`named_split`.

        """
        splits = self._splits_of(row)
        return splits.of(row) if splits else None

    def named_split(self, row: Any) -> SetSplit | None:
        """The split that a column of the row names, which evaluation goes by; ``None``: it names none.

        Raises:
            UserError: the row lacks the column of ``split``.
            LeftOut: the column's value means no split.

        """
        splits = self._splits_of(row)
        return splits.named(row) if splits else None

    def _splits_of(self, row: Any) -> Splits | None:
        """As given, or those that the row's layout has."""
        return self.splits or self.layouts.of(row).splits

    def remark(self, row: Any) -> str | None:
        """Names the columns that are not read."""
        unread = self.layouts.unread(row)
        return f"have columns that are not read: {', '.join(unread)}" if unread else None
