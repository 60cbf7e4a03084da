"""Render items as rows and read their files; replace unusable items. Runs in data-loader workers.

An item may turn out to be unusable only here: its row is too long, or its media cannot be read. With ``on_error: skip``
another item replaces it, so all batches on all ranks have full size. The replacement depends on the item's index only,
so a resumed run draws the same.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from torch.utils.data import Dataset

from nextgpt_pl.batches import Rendered, RowNote, SignalSpan
from nextgpt_pl.datamodules.kinds import Groups
from nextgpt_pl.datamodules.rows import load_embedding
from nextgpt_pl.datamodules.sources import Item, OnError, Split
from nextgpt_pl.datamodules.stream_order import Stream
from nextgpt_pl.dialogue.context import longest, shortened
from nextgpt_pl.errors import UserError
from nextgpt_pl.modality import Modality
from nextgpt_pl.samples import CaptionedPair, Dialogue

_TRIES = 100


@dataclass
class RowMaker:
    """Converts an item to its rows.

    Attributes:
        render: renders an item as token ids, see :meth:`~nextgpt_pl.dialogue.conversation.Conversation.rows`.
        max_length: maximum number of tokens per row.
        read: the stage's reader of a row's media files; ``None``: files are not read.
        embedding_shapes: expected shapes of precomputed caption embeddings, per modality.

    """

    render: Callable[[CaptionedPair | Dialogue], Sequence[Rendered]]
    max_length: int
    read: Callable[[Rendered], Rendered] | None = None
    embedding_shapes: Mapping[Modality, tuple[int, ...]] = field(default_factory=dict)

    def __call__(self, item: Item, *, shorten: bool) -> tuple[tuple[Rendered, ...], int]:
        """The rows, and the number of messages that were dropped.

        Args:
            item: a pair or a dialogue.
            shorten: drop the oldest exchanges of a dialogue that is too long, instead of raising an error.

        Raises:
            UserError: a row is too long or has no label, or a file is missing, unreadable or not finite; the message
                names the item.

        """
        rows, dropped = self.rendered(item, shorten=shorten)
        try:
            rows = tuple(map(self.with_embeddings, rows))
            return (rows if self.read is None else tuple(map(self.read, rows))), dropped
        except UserError as error:
            raise UserError(f"{item.key}: {error}") from error

    def check_embeddings(self, item: Item) -> None:
        """Read the caption embeddings of an item.

        Raises:
            UserError: one cannot be used; the message names the item.

        """
        rows = self.render(item)
        try:
            for row in rows:
                self.with_embeddings(row)
        except UserError as error:
            raise UserError(f"{item.key}: {error}") from error

    def with_embeddings(self, row: Rendered) -> Rendered:
        """The row with the precomputed caption embeddings that it names.

        Raises:
            UserError: one cannot be used.

        """
        return replace(row, spans=tuple(self._with_embedding(span) for span in row.spans))

    def _with_embedding(self, span: SignalSpan) -> SignalSpan:
        if span.caption_embedding is None:
            return span
        shape = self.embedding_shapes.get(span.modality)
        return replace(span, embedding=load_embedding(span.caption_embedding, shape))

    def rendered(self, item: Item, *, shorten: bool) -> tuple[tuple[Rendered, ...], int]:
        """The rows without their files, and the number of dropped messages."""
        rows, dropped = tuple(self.render(item)), 0
        length = longest(rows)
        if length > self.max_length:
            if not shorten or isinstance(item, CaptionedPair):
                raise UserError(f"{item.key}: {length} tokens, data.max_length is {self.max_length}")
            rows, positions = shortened(item, self.render, self.max_length)
            dropped = len(positions)
        if all(max(row.labels, default=-1) < 0 for row in rows):
            raise UserError(f"{item.key}: no token has a label, so there is nothing to learn")
        return rows, dropped


@dataclass(frozen=True)
class UsableRow:
    """The rows of an item.

    Attributes:
        rows: the rows.
        notes: on the items that were skipped or shortened for them.
        reading: seconds that it took to read and render them.

    """

    rows: tuple[Rendered, ...]
    notes: tuple[RowNote, ...] = ()
    reading: float = field(default=0.0, compare=False)


class UsableRows(Dataset[UsableRow]):
    """The rows of each item of a split, by the item's index.

    Args:
        items: items of the split.
        groups: sampling group of each item; an unusable item is replaced by one of the same group.
        policies: per source, the index of its first item and its policy for unusable items, in ascending order.
        make: converts an item to its rows.
        split: name of the split, for notes.
        streams: runs of items that are in shards; one of them is replaced by one of its shard.

    """

    def __init__(
        self,
        items: Sequence[Item],
        groups: Groups,
        policies: Sequence[tuple[int, OnError]],
        make: RowMaker,
        split: Split,
        streams: Sequence[Stream] = (),
    ) -> None:
        self.streams = list(streams)
        self.items, self.groups, self.make, self.split = items, groups, make, split
        self._starts = [start for start, _ in policies]
        self._skips = [policy == "skip" for _, policy in policies]
        self._members: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.items)

    def by_group(self) -> np.ndarray:
        """Positions of all items, ``(n,)`` int64, by group; streams come first, in the order of their shards."""
        codes = self.groups.codes.copy()
        for stream in self.streams:
            codes[stream.start : stream.start + len(stream)] = -1
        return np.argsort(codes, kind="stable")

    def skips(self, index: int) -> bool:
        """Whether the item may be skipped or shortened."""
        return self._skips[bisect_right(self._starts, index) - 1]

    def check_embeddings(self) -> None:
        """Read the caption embedding of each group's first item, where its source raises errors.

        Raises:
            UserError: it cannot be used, for example because it is another text encoder's.

        """
        for index in np.unique(self.groups.codes, return_index=True)[1].tolist():
            if self.make.embedding_shapes and not self.skips(index):
                self.make.check_embeddings(self.items[index])

    def __getitem__(self, index: int) -> UsableRow:
        """The item's rows, or those of a replacement with notes on the unusable items.

        Raises:
            UserError: the item is unusable and its source sets ``raise``, or no replacement was found in 100 draws.

        """
        notes: list[RowNote] = []
        begun = time.perf_counter()
        for attempt in range(_TRIES):
            candidate = index if attempt == 0 else self._substitute(index, attempt)
            skips, key = self.skips(candidate), None
            try:
                item = self.items[candidate]
                key = item.key
                rows, dropped = self.make(item, shorten=skips)
            except UserError as error:
                if not skips:
                    raise
                notes.append(RowNote(self.split, "skipped", key or str(error).partition(": ")[0], str(error)))
                continue
            if dropped:
                reason = f"{item.key}: its oldest {dropped} messages do not fit into {self.make.max_length} tokens"
                notes.append(RowNote(self.split, "shortened", item.key, reason))
            return UsableRow(rows, tuple(notes), time.perf_counter() - begun)
        raise UserError(
            f"{self.split}: none of {_TRIES} rows drawn from {self.groups[index]!s} can be used; the last: "
            + notes[-1].reason
        )

    def _substitute(self, index: int, attempt: int) -> int:
        """Index of another item of the group, drawn with the item's index as seed; neighbours often fail together."""
        for stream in self.streams:
            if 0 <= index - stream.start < len(stream):
                return stream.substitute(index, attempt)
        group = int(self.groups.codes[index])
        if group not in self._members:
            self._members[group] = self.groups.members(index)
        members = self._members[group]
        return int(members[np.random.default_rng([index, attempt]).integers(len(members))])
