"""Sources of captioned pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nextgpt_pl.datamodules.data_files import DataFiles
from nextgpt_pl.datamodules.rows import RowReport
from nextgpt_pl.datamodules.sources import MADE, OnError, Source, Split
from nextgpt_pl.errors import UserError, at_least
from nextgpt_pl.modality import GENERATED, MODALITIES, has_media_ending
from nextgpt_pl.pocket.world import items
from nextgpt_pl.pocket.world import scenes as world
from nextgpt_pl.pocket.world.sensed import SENSED
from nextgpt_pl.readers.files import is_hidden
from nextgpt_pl.readers.opened import not_utf8
from nextgpt_pl.samples import CaptionedPair


class PocketWorld(Source):
    """Items of the pocket world; validation has held-out combinations of attributes.

    Args:
        train_size: training items per modality.
        val_size: validation items per modality.
        modalities: modalities of the items; by default image, video and audio; depth, thermal and imu are known too.
        seed: another seed gives another set of items.

    """

    def __init__(
        self, train_size: int = 4096, val_size: int = 64, modalities: list[str] | None = None, seed: int = 0
    ) -> None:
        at_least(0, PocketWorld__seed=seed)
        at_least(0, MADE, PocketWorld__train_size=train_size, PocketWorld__val_size=val_size)
        self.sizes: dict[str, int] = {"train": train_size, "val": val_size}
        known = (*GENERATED, *SENSED)
        try:
            self.modalities = [known[known.index(m)] for m in (GENERATED if modalities is None else modalities)]
        except ValueError as error:
            raise UserError(f"PocketWorld.modalities={modalities}: known are {[m.value for m in known]}") from error
        self.seed = seed

    def read(self, split: Split) -> Sequence[CaptionedPair]:
        """All items of the split, one modality after the other."""
        side: world.Split = "train" if split == "train" else "heldout"
        size = self.sizes[split]
        self.report = RowReport("pocket world", size * len(self.modalities))
        return [items.captioned_pair(side, m, i, self.seed) for m in self.modalities for i in range(size)]


class OfficialJSON(DataFiles):
    """The official NExT-GPT data: ``*_generation.json``, ``*_comprehension.json``, and ``{caption, X_name}`` lists.

    Args:
        root, files, media, embeddings, plain_embeddings, need_media, on_error, val_fraction: see :class:`DataFiles`.

    """

    def __init__(
        self,
        root: Path,
        files: list[str],
        media: dict[str, str] | None = None,
        embeddings: str = "embed",
        plain_embeddings: bool = False,
        need_media: bool = True,
        on_error: OnError = "raise",
        val_fraction: float = 0.0,
    ) -> None:
        super().__init__(
            root,
            files,
            "official_pairs",
            media,
            embeddings=embeddings,
            plain_embeddings=plain_embeddings,
            need_media=need_media,
            on_error=on_error,
            val_fraction=val_fraction,
        )


class CaptionFolder(DataFiles):
    """Any folder of media: captions in ``name.txt`` beside ``name.jpg``, or in a JSONL of file and caption.

    Args:
        root: the folder.
        manifest: a JSONL file or table in it with ``file`` (or ``file_name``) and ``caption`` (or ``text``) per line;
            without one, side files are used.
        on_error: ``raise`` an error that lists all broken rows, or ``skip`` and count them.
        val_fraction: fraction of each file's rows in the held-out split; see :class:`FileSource`; 0: validate
            on the training rows.

    """

    def __init__(
        self, root: Path, manifest: str | None = None, on_error: OnError = "raise", val_fraction: float = 0.1
    ) -> None:
        self.manifest = manifest
        super().__init__(
            root,
            [manifest] if manifest else [],
            media=dict.fromkeys((m.value for m in MODALITIES), "."),
            on_error=on_error,
            val_fraction=val_fraction,
            name="",
        )

    def row_files(self) -> list[Path]:
        """The manifest, or the folder itself."""
        return super().row_files() if self.manifest else [self.root]

    def rows(self, file: Path) -> Iterator[Any]:
        """Lines of the manifest, or media files with their side files."""
        if self.manifest:
            yield from super().rows(file)
            return
        for medium in sorted(p for p in file.rglob("*") if has_media_ending(str(p.relative_to(file)))):
            name = str(medium.relative_to(self.root))
            if not is_hidden(name):
                yield _with_side_file(name, medium.with_suffix(".txt"))


def _with_side_file(name: str, side: Path) -> dict[str, str] | UserError:
    if not side.is_file():
        return UserError(f"{name} has no caption: {side.name} does not exist")
    try:
        return {"file": name, "caption": side.read_text(encoding="utf-8-sig")}
    except UnicodeDecodeError as error:
        return UserError(f"{side.name}: {not_utf8(side, error)}")
