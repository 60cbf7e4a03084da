"""The rows of data files that evaluation uses: those of the test split, by the same readers as in training."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nextgpt_pl.datamodules.data_files import DataFiles
from nextgpt_pl.errors import UserError
from nextgpt_pl.evaluation.tasks import Item, Remark
from nextgpt_pl.readers.model import Captioned, LeftOut, Row
from nextgpt_pl.utils.distributed import rank


def rows_for_test(data: DataFiles) -> Iterator[tuple[str, Sequence[Row]] | Item | Remark]:
    """What each row of the test split holds, with the row's name; in place of a broken row an item with its fault.

    Rows are used if their data set says that they are for ``test``, or gives no split. Others are remarked on.
    Whether their media files exist is found out when these are read.
    """
    for file in data.row_files():
        name = data.file_name(file)
        shown = {"desc": f"reading {name}", "unit": " rows", "unit_scale": True, "delay": 2, "disable": rank() != 0}
        for number, row in enumerate(tqdm(data.rows(file), **shown)):
            where = f"{name}, row {number}"
            try:
                yield where, _records(data, file, row)
                remark = data.remark(row)
            except LeftOut as reason:
                remark = reason.remark
            except UserError as error:
                yield Item.broken(where, error)
                continue
            if remark is not None:
                yield Remark(remark)


def _records(data: DataFiles, file: Path, row: Any) -> Sequence[Row]:
    if isinstance(row, UserError | LeftOut):
        raise row
    split = data.named_split(row)
    if split not in (None, "test"):
        raise LeftOut(f"they are for {split}")
    return data.records(file, row, need_media=False)


def captioned_media(data: DataFiles) -> Iterator[tuple[str, Captioned] | Item | Remark]:
    """Each medium once, with its key and the captions of all its rows, in the order of the first ones."""
    media: dict[Hashable, tuple[str, Captioned] | Item] = {}
    for found in rows_for_test(data):
        if isinstance(found, Remark):
            yield found
        elif isinstance(found, Item):
            media[found.key] = found
        else:
            _add(media, *found)
    yield from media.values()


def _add(media: dict[Hashable, tuple[str, Captioned] | Item], where: str, records: Sequence[Row]) -> None:
    """Add the captions of a row to its media."""
    try:
        described = [_checked(record) for record in records]
    except UserError as error:
        media[where] = Item.broken(where, error)
        return
    for number, record in enumerate(described):
        # captions without a medium are an item of their own
        medium = record.media or (where, number)
        known = media.get(medium)
        if isinstance(known, tuple):
            key, before = known
            media[medium] = key, before._replace(captions=(*before.captions, *record.captions))
        else:
            media[medium] = _key(record, where), record


def _checked(record: Row) -> Captioned:
    if not isinstance(record, Captioned):
        kind = type(record).__name__.lower()
        raise UserError(f"a {kind}, but a medium and its captions are expected; QuestionAnswering reads such rows")
    if not all(caption.strip() for caption in record.captions):
        raise UserError("the caption is empty: there is nothing to compare with")
    return record


def _key(record: Captioned, where: str) -> str:
    if record.identity:
        return record.identity
    has_file = record.media is not None and isinstance(record.media.source, Path)
    return record.name if has_file else f"{where} ({record.name})"
