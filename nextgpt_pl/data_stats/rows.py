"""What is counted of rows, in worker processes; media are not read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from nextgpt_pl.data_stats.loading import over_chunks
from nextgpt_pl.datamodules.sources import Item
from nextgpt_pl.datamodules.usable import RowMaker
from nextgpt_pl.dialogue.context import longest
from nextgpt_pl.dialogue.conversation import Conversation
from nextgpt_pl.errors import UserError
from nextgpt_pl.features.keys import media_name
from nextgpt_pl.modality import MODALITIES
from nextgpt_pl.samples import CaptionedPair, Dialogue, Media, MediaPart, TextPart
from nextgpt_pl.utils.minhash import HASHES, signature

_CHUNK = 256  # rows that a worker counts at a time
_LONGEST = 1000  # characters of a message
CODES = {modality: code for code, modality in enumerate(MODALITIES)}

#: lengths of an item: tokens of the longest row that the stage renders of it, turns of user and assistant, words
LENGTHS = ("tokens", "turns", "words")
#: a row that the stage can render: its number, and the hash of its text
ROW = np.dtype([("row", "i8"), ("text", "u8")])
#: a medium of such a row: the row, the medium's number in it, whether it is an input, its modality, the hash of its
#: file's name, that of its caption; a hash is 0 where there is no file or no caption
USE = np.dtype([("row", "i8"), ("place", "i2"), ("input", "?"), ("modality", "i1"), ("name", "u8"), ("caption", "u8")])


@dataclass
class RowFacts:
    """Facts of a number of successive rows.

    Attributes:
        read: number of rows, also unusable ones.
        rows: the usable ones, ``(n,)`` of :data:`ROW`.
        lengths: their :data:`LENGTHS`, ``(n, 3)`` int64.
        signatures: signatures of their texts, ``(n, 128)`` uint8: the lowest bytes of
            :func:`~nextgpt_pl.utils.minhash.signature`.
        uses: facts of their media, ``(m,)`` of :data:`USE`.
        faults: why the other rows are unusable.

    """

    read: int
    rows: np.ndarray
    lengths: np.ndarray
    signatures: np.ndarray
    uses: np.ndarray
    faults: list[str] = field(default_factory=list)


def read_rows(items: Sequence[Item], conversation: Conversation, workers: int, title: str) -> Iterator[RowFacts]:
    """The facts of all items, in order, with a progress bar.

    Args:
        items: the items.
        conversation: renders them.
        workers: number of processes; 0: they are counted in this one.
        title: of the progress bar.

    """
    yield from over_chunks(_Counted(items, conversation), len(items), _CHUNK, workers, title)


@dataclass
class _Counted:
    """Gives the facts of a range of rows."""

    items: Sequence[Item]
    conversation: Conversation

    def __call__(self, numbers: range) -> RowFacts:
        make = RowMaker(self.conversation.rows, np.iinfo(np.int32).max)
        rows, lengths, uses, signatures, faults = [], [], [], [], []
        for number in numbers:
            try:
                item = self.items[number]
                tokens = longest(make.rendered(item, shorten=False)[0])
            except UserError as error:
                faults.append(printable(str(error)))
                continue
            dialogue = self.conversation.as_dialogue(item)
            turns, text = sum(message.role != "system" for message in dialogue.messages), text_of(item)
            rows.append((number, _hash(text)))
            lengths.append((tokens, turns, _words(dialogue)))
            signatures.append(signature(text).astype(np.uint8))
            uses += [(number, place, *_use(*use, item.key, place)) for place, use in enumerate(_parts(dialogue))]
        return RowFacts(
            len(numbers),
            np.array(rows, ROW),
            np.array(lengths, np.int64).reshape(-1, len(LENGTHS)),
            np.array(signatures, np.uint8).reshape(-1, HASHES),
            np.array(uses, USE),
            faults,
        )


def text_of(item: Item) -> str:
    """What tells whether two items are duplicates: a pair's caption, or all texts and captions of a dialogue."""
    if isinstance(item, CaptionedPair):
        return item.caption
    parts = [part for message in item.messages for part in message.parts]
    return "\n".join(part.text if isinstance(part, TextPart) else part.caption or "" for part in parts)


def media_of(item: Item, conversation: Conversation) -> list[Media | None]:
    """The media of an item, in the order of :data:`USE`'s ``place``."""
    return [part.media for part, _ in _parts(conversation.as_dialogue(item))]


def _parts(dialogue: Dialogue) -> list[tuple[MediaPart, bool]]:
    """The media parts of a dialogue, and whether each is an input."""
    return [(p, m.role != "assistant") for m in dialogue.messages for p in m.parts if isinstance(p, MediaPart)]


def _use(part: MediaPart, is_input: bool, key: str, place: int) -> tuple[bool, int, int, int]:
    """Input or output, modality, name and caption, as in :data:`USE`; ``key`` is that of the item."""
    name, media = 0, part.media
    if media is not None and (media.is_file or hasattr(media.source, "content_key")):
        # two clips of a file are one medium here
        name = _number(media_name(replace(media, start=None, end=None)))
    elif media is not None:
        # a function alone would have to make the medium to tell it from others
        name = _hash(f"{key}: {place}")
    return is_input, CODES[part.modality], name, _hash(part.caption) if part.caption else 0


def _words(dialogue: Dialogue) -> int:
    texts = (part.text for message in dialogue.messages for part in message.parts if isinstance(part, TextPart))
    return sum(len(text.split()) for text in texts)


def printable(text: str) -> str:
    """The text without halves of characters, which file names of other encodings have, and cut to a bounded length."""
    return text[:_LONGEST].encode("utf-8", "replace").decode()


def _hash(text: str) -> int:
    return _number(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())


def _number(key: bytes) -> int:
    """A key's first eight bytes as a number above 0."""
    return int.from_bytes(key[:8], "little") or 1
