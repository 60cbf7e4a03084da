"""Items as rows of shards, in the layouts ``pairs`` and ``messages``, which readers turn into equal items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nextgpt_pl.converting.media import Blob, blob_of, embedding_blob
from nextgpt_pl.datamodules.rows import checked
from nextgpt_pl.datamodules.sources import Item
from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import MODALITIES
from nextgpt_pl.readers.layouts.pairs import TEXTS
from nextgpt_pl.readers.turns import pieces
from nextgpt_pl.samples import CaptionedPair, Dialogue, Media, MediaPart, Message, Part, TextPart

MOST_CAPTIONS = 256  # of one sample

#: a row; its values are texts, numbers, lists and objects of these, and :class:`Blob`
Row = dict[str, Any]


@dataclass
class Samples:
    """Makes rows of items.

    Args:
        split: the split that the rows are marked with; ``None``: they are not.
        check: decode media to find unreadable ones.
        need_media: refuse pairs and replies without their medium's file; else they have their caption alone.

    Attributes:
        missing: number of media whose file does not exist, with ``need_media=False``.

    """

    split: str | None
    check: bool
    need_media: bool
    missing: int = 0

    def of(self, items: Sequence[Item]) -> Row:
        """The row of one dialogue, or of pairs with the same medium and texts.

        Raises:
            UserError: an item cannot be read from a shard, or a file is unusable; the message names the item.

        """
        first = items[0]
        try:
            checked(items)
            row = self._talk(first) if isinstance(first, Dialogue) else self._pair(first, items)
        except UserError as error:
            raise UserError(f"{first.key}: {error}") from error
        return {**row, "split": self.split} if self.split else row

    def _pair(self, pair: CaptionedPair, items: Sequence[Item]) -> Row:
        captions = [item.caption for item in items if isinstance(item, CaptionedPair)]
        texts = {key: getattr(pair, key) for key in TEXTS if getattr(pair, key) is not None}
        row: Row = {"modality": pair.modality.value, "caption": captions[0], "captions": captions, **texts}
        row |= self._medium(pair.media, pair.modality.value, needed=self.need_media)
        if pair.caption_embedding is not None:
            row["caption_embedding"] = embedding_blob(pair.caption_embedding)
        return row

    def _medium(self, media: Media | None, key: str, *, needed: bool) -> Row:
        if media is None:
            return {}
        if not needed and isinstance(media.source, Path) and not media.source.is_file():
            self.missing += 1
            return {}
        seconds = {"start": media.start, "end": media.end} if media.is_file else {}
        return {key: blob_of(media, check=self.check), **{k: v for k, v in seconds.items() if v is not None}}

    def _talk(self, dialogue: Dialogue) -> Row:
        return {"messages": [self._message(m, f"message {i}") for i, m in enumerate(dialogue.messages)]}

    def _message(self, message: Message, where: str) -> Row:
        try:
            content = [self._part(part, made=message.role == "assistant") for part in message.parts]
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
        return {"role": message.role, "content": content, **({} if message.learned else {"weight": 0})}

    def _part(self, part: Part, *, made: bool) -> Row:
        if isinstance(part, TextPart):
            if part.text and pieces(part.text) != (part.text,):
                known = ", ".join(spec.placeholder for spec in MODALITIES.values())
                raise UserError(f"its text has one of {known}, which readers take for the place of a medium")
            return {"type": "text", "text": part.text}
        return self._media_part(part, made=made)

    def _media_part(self, part: MediaPart, *, made: bool) -> Row:
        kind = part.modality.value
        row = {"type": kind, **self._medium(part.media, kind, needed=self.need_media or not made)}
        if not made and part.media is None:
            raise UserError(f"the source does not give the {kind} that is shown")
        if made:
            row["caption"] = part.caption
            if part.caption_embedding is not None:
                row["caption_embedding"] = embedding_blob(part.caption_embedding)
        return row


def one_row(first: Sequence[Item], *more: Item) -> bool:
    """Whether items belong into the row of other items: pairs that differ in their captions alone."""
    pair = first[0]
    if not isinstance(pair, CaptionedPair) or len(first) + len(more) > MOST_CAPTIONS:
        return False
    if pair.media is None or pair.caption_embedding is not None:
        return False
    return all(_same_but_caption(pair, other) for other in more)


def _same_but_caption(pair: CaptionedPair, other: Item) -> bool:
    if not isinstance(other, CaptionedPair):
        return False
    return replace(other, key=pair.key, caption=pair.caption, attributes=pair.attributes) == pair


def blobs_of(value: Any) -> list[Blob]:
    """All files in a row, in order."""
    if isinstance(value, Blob):
        return [value]
    values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [blob for inner in values for blob in blobs_of(inner)]
