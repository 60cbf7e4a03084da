"""Sources of dialogues: the pocket world, the official instruction files, LLaVA, Alpaca and VideoChat."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nextgpt_pl.datamodules.data_files import DataFiles
from nextgpt_pl.datamodules.rows import RowReport
from nextgpt_pl.datamodules.sources import MADE, OnError, Source, Split
from nextgpt_pl.errors import UserError, at_least, nearest
from nextgpt_pl.pocket.world import dialogues
from nextgpt_pl.samples import Dialogue


class PocketDialogues(Source):
    """Dialogues of the pocket world; validation has held-out combinations of attributes.

    Args:
        train_size: training dialogues per route.
        val_size: validation dialogues per route.
        routes: routes such as ``image->video``; by default all those of images, videos and audio.
        times: factor of the number of training dialogues, per route; above 1 for routes that are harder to learn.
        seed: another seed gives another set.
        name: name of the data set, for its weight.

    """

    def __init__(
        self,
        train_size: int = 512,
        val_size: int = 16,
        routes: list[str] | None = None,
        times: dict[str, int] | None = None,
        seed: int = 0,
        name: str = "pocket",
    ) -> None:
        for route in (*(routes or ()), *(times or ())):
            if route not in dialogues.ALL_ROUTES:
                raise UserError(f"PocketDialogues.routes: no route {route!r}{nearest(route, dialogues.ALL_ROUTES)}")
        at_least(0, MADE, PocketDialogues__train_size=train_size, PocketDialogues__val_size=val_size)
        at_least(0, PocketDialogues__seed=seed, **{f"PocketDialogues__times__{r}": n for r, n in (times or {}).items()})
        self.sizes: dict[str, int] = {"train": train_size, "val": val_size}
        self.routes, self.seed, self.name = tuple(routes or dialogues.ROUTES), seed, name
        self.times = dict(times or {})

    def read(self, split: Split) -> Sequence[Dialogue]:
        """All dialogues of the split, one route after the other."""
        side: Any = "train" if split == "train" else "heldout"
        times = self.times if split == "train" else {}
        sizes = {route: self.sizes[split] * times.get(route, 1) for route in self.routes}
        self.report = RowReport("pocket dialogues", sum(sizes.values()))
        return [dialogues.dialogue(route, side, i, self.seed) for route, size in sizes.items() for i in range(size)]


class _Dialogues(DataFiles):
    """Data files of one layout.

    Args:
        root, files, media, embeddings, need_media, on_error, val_fraction, media_roots, ignore: see :class:`DataFiles`.
        name: name of the data set, for its weight.

    """

    layout_name: str | None

    def __init__(
        self,
        root: Path,
        files: list[str],
        media: dict[str, str] | None = None,
        embeddings: str = "embed",
        need_media: bool = True,
        on_error: OnError = "raise",
        val_fraction: float = 0.0,
        name: str | None = None,
        media_roots: list[Path] | None = None,
        ignore: list[str] | None = None,
    ) -> None:
        super().__init__(
            root,
            files,
            self.layout_name,
            media,
            media_roots,
            embeddings=embeddings,
            need_media=need_media,
            on_error=on_error,
            val_fraction=val_fraction,
            name=name,
            ignore=ignore,
        )


class OfficialDialogues(_Dialogues):
    """The official instruction data (T+X to T, T to T+X, MosIT), as published or prepared by the official code."""

    layout_name = None  # recognised: the published and the prepared files have different keys


class LLaVA(_Dialogues):
    """LLaVA's instruction data: ``image`` and ``conversations``; media are in the folder ``images``."""

    layout_name = "conversations"

    def __init__(
        self,
        root: Path,
        files: list[str],
        images: str = "images",
        need_media: bool = True,
        on_error: OnError = "raise",
        val_fraction: float = 0.0,
        name: str = "llava",
        media_roots: list[Path] | None = None,
        ignore: list[str] | None = None,
    ) -> None:
        folders = {"image": images}
        super().__init__(root, files, folders, "embed", need_media, on_error, val_fraction, name, media_roots, ignore)


class Alpaca(_Dialogues):
    """Alpaca's instructions: ``instruction``, ``input`` (may be empty) and ``output``; text only."""

    layout_name = "alpaca"

    def __init__(
        self,
        root: Path,
        files: list[str],
        on_error: OnError = "raise",
        val_fraction: float = 0.0,
        name: str = "alpaca",
    ) -> None:
        super().__init__(root, files, on_error=on_error, val_fraction=val_fraction, name=name)


class VideoChat(_Dialogues):
    """VideoChat's and VideoChat2-IT's: ``video`` and ``QA``, a list of ``q`` and ``a`` with an instruction ``i``."""

    layout_name = "videochat"

    def __init__(
        self,
        root: Path,
        files: list[str],
        videos: str = "videos",
        need_media: bool = True,
        on_error: OnError = "raise",
        val_fraction: float = 0.0,
        name: str = "videochat",
        media_roots: list[Path] | None = None,
        ignore: list[str] | None = None,
    ) -> None:
        folders = {"video": videos}
        super().__init__(root, files, folders, "embed", need_media, on_error, val_fraction, name, media_roots, ignore)
