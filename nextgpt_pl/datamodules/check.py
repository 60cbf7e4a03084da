"""Check all items of a data set in parallel, with the same code as training and ``test``, and report unusable ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from nextgpt_pl.batches import Rendered
from nextgpt_pl.datamodules.checked_media import CheckedMedia, OpenedFile
from nextgpt_pl.datamodules.sources import Item
from nextgpt_pl.datamodules.usable import RowMaker
from nextgpt_pl.errors import UserError
from nextgpt_pl.samples import CaptionedPair, Media, MediaPart

_BATCH = 16  # items per batch of a worker


@dataclass(frozen=True)
class Checked:
    """Result for one item.

    Attributes:
        key: name of the item.
        fault: why it cannot be used; ``None`` if it can.
        shortened: number of messages that are dropped because it is too long.
        files: results for the media files that this stage reads.
        unread: results for its other media files.

    """

    key: str
    fault: str | None = None
    shortened: int = 0
    files: tuple[OpenedFile, ...] = ()
    unread: tuple[OpenedFile, ...] = ()


@dataclass
class ItemCheck:
    """Checks an item of a training source.

    Attributes:
        make: renders an item as a row; reads no media.
        skips: whether the source skips or shortens unusable items.
        read: gives the media of a row that the stage reads.

    """

    make: RowMaker
    skips: bool
    read: Callable[[Rendered], Sequence[Media]]

    def __call__(self, item: Item, checked: CheckedMedia) -> Checked:
        """Check the row's length, its caption embeddings, and all media files."""
        media = files_of(item)
        try:
            rows, dropped = self.make.rendered(item, shorten=self.skips)
        except UserError as error:
            return Checked(item.key, str(error), unread=tuple(map(checked.open, media)))
        read = list(dict.fromkeys(medium for row in rows for medium in self.read(row)))
        result = Checked(
            item.key,
            shortened=dropped,
            files=tuple(map(checked.open, read)),
            unread=tuple(checked.open(m) for m in media if m not in read),
        )
        return replace(result, fault=self._first_fault(item.key, rows, result.files))

    def _first_fault(self, key: str, rows: Sequence[Rendered], files: Sequence[OpenedFile]) -> str | None:
        try:
            for row in rows:
                self.make.with_embeddings(row)
        except UserError as error:
            return f"{key}: {error}"
        return next((f"{key}: {file.fault}" for file in files if file.fault), None)


def files_of(item: Item) -> list[Media]:
    """An item's media that are files, without repetitions."""
    if isinstance(item, CaptionedPair):
        media = [item.media]
    else:
        media = [p.media for message in item.messages for p in message.parts if isinstance(p, MediaPart)]
    return list(dict.fromkeys(m for m in media if m is not None and m.is_file))


class _Checks(Dataset[Checked]):
    """The result for each item, by index."""

    def __init__(self, items: Sequence[Any], check: Callable[[Any, CheckedMedia], Checked], file: Path) -> None:
        self.items, self.check, self.file = items, check, file
        self._checked: CheckedMedia | None = None

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Checked:
        if self._checked is None:  # opened in the worker, since a connection must not be used after a fork
            self._checked = CheckedMedia(self.file)
        try:
            item = self.items[index]
        except UserError as error:  # a file has vanished since the rows were indexed
            return Checked(str(error).partition(": ")[0], str(error))
        return self.check(item, self._checked)


def check_all(
    items: Sequence[Any], check: Callable[[Any, CheckedMedia], Checked], file: Path, workers: int, title: str
) -> Iterator[Checked]:
    """Check all items in order, with a progress bar; results are added to the database ``file`` after each batch."""
    checked = CheckedMedia(file)
    loader = DataLoader(
        _Checks(items, check, file), batch_size=_BATCH, num_workers=workers, collate_fn=list, prefetch_factor=None
    )
    with tqdm(total=len(items), desc=title, unit="row") as bar:
        for results in loader:
            checked.add(f for result in results for f in (*result.files, *result.unread))
            yield from results
            bar.update(len(results))
    checked.close()
