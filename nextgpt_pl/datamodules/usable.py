"""Items as rows that a batch can hold: rendered, their files read. Runs in data-loader workers.

Whether an item can be used is known only here: it may be too long, or its media may not be readable. Where its source
says ``on_error: skip``, another item takes its place, so every batch of every process has its full size. Which one
depends on the item's number alone: a resumed run gets the same.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch.utils.data import Dataset

from nextgpt_pl.context import shortened
from nextgpt_pl.datamodules.rows import load_embedding
from nextgpt_pl.datamodules.sources import Item, OnError, Split
from nextgpt_pl.errors import UserError
from nextgpt_pl.samples import CaptionedPair, Dialogue, Rendered, RowNote

_TRIES = 100


@dataclass
class RowMaker:
    """Makes one item a row.

    Attributes:
        render: item to token ids, of the model.
        max_length: longest row in tokens.
        read: reads the files that the row's media are in, of the stage; ``None`` leaves them unread.

    """

    render: Callable[[CaptionedPair | Dialogue], Rendered]
    max_length: int
    read: Callable[[Rendered], Rendered] | None = None

    def __call__(self, item: Item, *, shorten: bool) -> tuple[Rendered, int]:
        """The row, and how many messages it lost.

        Args:
            item: a pair or a dialogue.
            shorten: whether a dialogue that is too long loses its oldest exchanges, instead of being an error.

        Raises:
            UserError: the row is too long or teaches nothing, or a file is missing, unreadable or not finite; names
                the item.

        """
        row, dropped = self.rendered(item, shorten=shorten)
        try:
            spans = tuple(
                replace(span, embedding=load_embedding(span.caption_embedding)) if span.caption_embedding else span
                for span in row.spans
            )
            row = replace(row, spans=spans)
            return (row if self.read is None else self.read(row)), dropped
        except UserError as error:
            raise UserError(f"{item.key}: {error}") from error

    def rendered(self, item: Item, *, shorten: bool) -> tuple[Rendered, int]:
        """The same without reading any file."""
        row, dropped = self.render(item), 0
        if len(row.input_ids) > self.max_length:
            if not shorten or isinstance(item, CaptionedPair):
                raise UserError(f"{item.key}: {len(row.input_ids)} tokens, data.max_length is {self.max_length}")
            row, positions = shortened(item, self.render, self.max_length)
            dropped = len(positions)
        if max(row.labels, default=-1) < 0:
            raise UserError(f"{item.key}: no token is to be learned")
        return row, dropped


@dataclass(frozen=True)
class UsableRow:
    """A row, and what was found on the way to it."""

    row: Rendered
    notes: tuple[RowNote, ...] = ()


class UsableRows(Dataset[UsableRow]):
    """One row per item of a split.

    Args:
        items: of the split.
        groups: what each is mixed by; an item's place is taken by one of its group.
        policies: what becomes of items that cannot be used: the first item's number and the policy, for each run of
            items of one source, ascending.
        make: makes an item a row.
        split: named in notes.

    """

    def __init__(
        self,
        items: Sequence[Item],
        groups: Sequence[Hashable],
        policies: Sequence[tuple[int, OnError]],
        make: RowMaker,
        split: Split,
    ) -> None:
        self.items, self.groups, self.make, self.split = items, groups, make, split
        self._starts = [start for start, _ in policies]
        self._skips = [policy == "skip" for _, policy in policies]
        self._members: dict[Hashable, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.items)

    def skips(self, index: int) -> bool:
        """Whether the item may be skipped or shortened."""
        return self._skips[bisect_right(self._starts, index) - 1]

    def __getitem__(self, index: int) -> UsableRow:
        """The item's row, or that of another one of its group, with the reasons.

        Raises:
            UserError: the item cannot be used and its source says ``raise``, or nearly its whole group cannot be used.

        """
        notes: list[RowNote] = []
        for attempt in range(_TRIES):
            candidate = index if attempt == 0 else self._substitute(index, attempt)
            item, skips = self.items[candidate], self.skips(candidate)
            try:
                row, dropped = self.make(item, shorten=skips)
            except UserError as error:
                if not skips:
                    raise
                notes.append(RowNote(self.split, "skipped", item.key, str(error)))
                continue
            if dropped:
                reason = f"{item.key}: its oldest {dropped} messages do not fit into {self.make.max_length} tokens"
                notes.append(RowNote(self.split, "shortened", item.key, reason))
            return UsableRow(row, tuple(notes))
        raise UserError(
            f"{self.split}: none of {_TRIES} rows drawn from {self.groups[index]!s} can be used; the last: "
            + notes[-1].reason
        )

    def _substitute(self, index: int, attempt: int) -> int:
        """The number of another item of the group, drawn by the item's number: neighbours are often broken alike."""
        group = self.groups[index]
        if group not in self._members:
            self._members[group] = np.array([i for i, g in enumerate(self.groups) if g == group], np.int64)
        members = self._members[group]
        return int(members[np.random.default_rng([index, attempt]).integers(len(members))])
