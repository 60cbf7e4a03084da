"""Check whether an item's files can be read; items with unreadable files are recorded as failed."""

from __future__ import annotations

from collections.abc import Iterator

from nextgpt_pl.datamodules.check import Checked
from nextgpt_pl.datamodules.checked_media import CheckedMedia
from nextgpt_pl.dialogue.template_tokens import check_text
from nextgpt_pl.errors import UserError
from nextgpt_pl.evaluation.tasks import Item
from nextgpt_pl.media.reading import check_readable
from nextgpt_pl.samples import Media


def shown(item: Item) -> Iterator[Media]:
    """The media files of an item's question."""
    for message in item.messages:
        content = message["content"]
        for part in content if isinstance(content, (list, tuple)) else ():
            medium = part.get(part["type"])
            if isinstance(medium, Media) and medium.is_file:
                yield medium


def reference(item: Item) -> Iterator[Media]:
    """The reference medium, if it is a file or inside one."""
    if item.reference is not None and item.reference.is_file:
        yield item.reference


def _check_texts(item: Item) -> None:
    for message in item.messages:
        content = message["content"]
        for text in [content] if isinstance(content, str) else [part.get("text") for part in content]:
            check_text(text or "", item.key)
    for text in item.references:
        check_text(text, item.key)


def fault(item: Item, *, question: bool = True) -> str | None:
    """Why an item's row cannot be used, or its files or texts cannot be read; ``None`` if they can.

    Args:
        item: item of a task.
        question: read the question's media as well as the reference medium.

    """
    if item.fault is not None:
        return item.fault
    try:
        _check_texts(item)
        for medium in [*(shown(item) if question else ()), *reference(item)]:
            check_readable(medium)
    except UserError as error:
        return str(error)
    return None


def check_item(item: Item, checked: CheckedMedia) -> Checked:
    """Open all files of an item for ``data check``."""
    try:
        if item.fault is not None:
            raise UserError(item.fault)
        _check_texts(item)
        files = tuple(checked.open(medium) for medium in [*shown(item), *reference(item)])
    except UserError as error:
        return Checked(item.key, f"{item.key}: {error}")
    return Checked(item.key, next((f"{item.key}: {f.fault}" for f in files if f.fault), None), files=files)
