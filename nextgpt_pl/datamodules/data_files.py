"""One source for data files of all formats and published layouts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nextgpt_pl.datamodules.sources import FileSource, Item, OnError
from nextgpt_pl.errors import UserError, nearest
from nextgpt_pl.modality import MODALITIES
from nextgpt_pl.readers.files import expanded
from nextgpt_pl.readers.formats import rows_of
from nextgpt_pl.readers.layouts.base import Layout, layout_of, without_unknown_keys
from nextgpt_pl.readers.layouts.table import BY_NAME, LAYOUTS
from nextgpt_pl.readers.model import Row, items_of
from nextgpt_pl.readers.place import Place
from nextgpt_pl.readers.tars import media_members

_REMEMBERED = 1000  # sets of keys whose layout is remembered


class DataFiles(FileSource):
    """Rows of data files: JSON, JSON Lines, CSV, TSV, Parquet, Arrow, tar shards; also compressed.

    The format of a file is recognised by its content, the layout of a row by its keys; the layouts are listed in
    :data:`nextgpt_pl.readers.layouts.LAYOUTS`.

    Args:
        root: folder of all files.
        files: names of the data files, relative to it; globs and ranges such as ``{00000..00331}.tar`` are expanded.
        layout: name of the layout of all rows; ``None``: recognised row by row.
        media: folders of the media per modality, relative to the data file's folder (``images``, ``videos``,
            ``audios``); other files are looked for in the data file's folder, the root and ``media_roots``.
        media_roots: further folders that media may lie in, also by absolute paths or links.
        embeddings: folder of the caption embeddings, relative to ``root``; ``compute``: precomputed ones are ignored.
        plain_embeddings: use the embedding ``<media name>.npy`` where a row names none.
        need_media: check that the media files exist.
        ignore: keys of rows that hold nothing to learn, ``*`` for all unknown ones; other unknown keys are errors.
        on_error, val_fraction, index_folder: see :class:`~nextgpt_pl.datamodules.sources.FileSource`.
        name: name of the data set, for its weight; by default the first file.

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
    ) -> None:
        super().__init__(root, on_error, val_fraction, index_folder)
        if layout is not None and layout not in BY_NAME:
            raise UserError(f"layout={layout!r}: no such layout{nearest(layout, BY_NAME)}")
        for folder in media_roots or ():
            if not folder.is_dir():
                raise UserError(f"media_roots: {folder}: no such folder")
        known = [m.value for m in MODALITIES]
        for modality in media or ():
            if modality not in known:
                raise UserError(f"media: {modality!r} is no modality{nearest(modality, known)}")
        self.files, self.ignore = list(files), tuple(ignore or ())
        self.layouts = (BY_NAME[layout],) if layout else LAYOUTS
        self.name = name or (files[0] if files else "")
        self.place = Place(
            file=self.root,
            root=self.root,
            folders={m: (media or {}).get(m.value, f"{m}s") for m in MODALITIES},
            media_roots=tuple(folder.resolve() for folder in media_roots or ()),
            embeddings=None if embeddings == "compute" else self.root / embeddings,
            plain_embeddings=plain_embeddings,
            need_media=need_media,
            ignore=self.ignore,
        )
        self._places: dict[Path, Place] = {}
        self._layouts: dict[tuple[str, ...], Layout] = {}
        if on_error == "raise":
            expanded(self.root, self.files)  # a missing file is named before any weights are read

    def row_files(self) -> list[Path]:
        """The files, with patterns expanded.

        Raises:
            UserError: one is missing, also if broken rows are skipped.

        """
        return expanded(self.root, self.files)

    def rows(self, file: Path) -> Iterator[Any]:
        """The rows of a file."""
        return rows_of(file)

    def items(self, file: Path, row: Any, where: str) -> Sequence[Item]:
        """The training items of a row."""
        return items_of(self.records(file, row), where)

    def records(self, file: Path, row: Any) -> Sequence[Row]:
        """The row model of a row.

        Raises:
            UserError: the row is broken, or has an unknown key.

        """
        if not isinstance(row, dict):
            raise UserError(f"an object is expected, got {row!r:.80}")
        if file not in self._places:
            self._places[file] = replace(self.place, file=file)
        layout = self._layouts.get(tuple(row))
        if layout is None:
            layout = self.layouts[0] if len(self.layouts) == 1 else layout_of(row, self.layouts)
            known = layout.known.union(media_members(row)) if layout.members else layout.known
            without_unknown_keys(row, known, self.ignore, readers=LAYOUTS)
            if len(self._layouts) < _REMEMBERED:
                self._layouts[tuple(row)] = layout
        return layout.read(row, self._places[file])
