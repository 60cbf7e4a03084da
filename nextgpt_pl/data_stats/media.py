"""What is counted of media, in worker processes: the headers of their files and hashes of their contents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace

import numpy as np

from nextgpt_pl.data_stats.loading import over_chunks
from nextgpt_pl.data_stats.rows import media_of, printable
from nextgpt_pl.datamodules.sources import Item
from nextgpt_pl.dialogue.conversation import Conversation
from nextgpt_pl.errors import UserError
from nextgpt_pl.features.keys import media_key
from nextgpt_pl.media.headers import Header, read_header

_CHUNK = 16  # media that a worker reads at a time
#: properties of a medium, by the names of :class:`~nextgpt_pl.media.headers.Header`
PROPERTIES = tuple(f.name for f in fields(Header))
#: a medium that could be opened: the position of its use, the hash of its content, its properties; NaN: it has none
MEDIUM = np.dtype([("use", "i8"), ("content", "u8"), *((name, "f8") for name in PROPERTIES)])


@dataclass
class MediaFacts:
    """Facts of a number of media.

    Attributes:
        read: number of media, also of those that cannot be opened.
        media: facts of those that can be opened, ``(n,)`` of :data:`MEDIUM`.
        faults: why the others cannot be opened.

    """

    read: int
    media: np.ndarray
    faults: list[str] = field(default_factory=list)


def sample_of(uses: np.ndarray, most: int) -> np.ndarray:
    """Positions of uses of ``most`` distinct media, ascending; of all if ``most`` is 0 or they are fewer.

    The media with the smallest hashes are chosen: a random sample, which holds the same media in each split.

    Args:
        uses: of :data:`~nextgpt_pl.data_stats.rows.USE`, ``(m,)``.
        most: size of the sample.

    """
    names, first = np.unique(uses["name"], return_index=True)
    first = first[names > 0]
    return np.sort(first[:most] if most else first)


def read_media(
    items: Sequence[Item], uses: np.ndarray, chosen: np.ndarray, conversation: Conversation, workers: int, title: str
) -> Iterator[MediaFacts]:
    """The facts of the media of chosen uses, in order, with a progress bar.

    Args:
        items: the items.
        uses: all uses, ``(m,)`` of :data:`~nextgpt_pl.data_stats.rows.USE`.
        chosen: positions in ``uses``, ``(n,)``.
        conversation: renders the items.
        workers: number of processes; 0: media are read in this one.
        title: of the progress bar.

    """
    opened = _Opened(items, uses[chosen][["row", "place"]], chosen, conversation)
    yield from over_chunks(opened, len(chosen), _CHUNK, workers, title)


@dataclass
class _Opened:
    """Gives the facts of a range of media."""

    items: Sequence[Item]
    places: np.ndarray
    uses: np.ndarray
    conversation: Conversation

    def __call__(self, numbers: range) -> MediaFacts:
        facts, faults = [], []
        for number in numbers:
            row, place = self.places[number].tolist()
            try:
                medium = media_of(self.items[row], self.conversation)[place]
                assert medium is not None
                values = asdict(read_header(medium)).values()
                content = int.from_bytes(media_key(replace(medium, start=None, end=None))[:8], "little")
            except UserError as error:
                faults.append(printable(str(error)))
                continue
            facts.append((self.uses[number], content, *(np.nan if value is None else value for value in values)))
        return MediaFacts(len(numbers), np.array(facts, MEDIUM), faults)
