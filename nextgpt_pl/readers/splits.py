"""Splits that a data set gives in a column of its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from nextgpt_pl.errors import UserError, nearest
from nextgpt_pl.readers.model import LeftOut

SetSplit = Literal["train", "val", "test"]
_SPLITS: tuple[SetSplit, ...] = get_args(SetSplit)


@dataclass(frozen=True)
class Splits:
    """Which value of a column means which split.

    Attributes:
        column: the column.
        splits: pairs of value and split.
        required: whether each row must have the column.
        by_hash: whether the training rows are divided by ``val_fraction``, since no value means ``val``.

    """

    column: str
    splits: tuple[tuple[str, SetSplit], ...]
    required: bool = True
    by_hash: bool = False

    def of(self, row: Mapping[str, Any]) -> SetSplit | None:
        """The split of a row in training; ``None``: ``val_fraction`` decides.

        Raises:
            LeftOut, UserError: see :meth:`named`.

        """
        split = self.named(row)
        return None if split == "train" and self.by_hash else split

    def named(self, row: Mapping[str, Any]) -> SetSplit | None:
        """The split that a row names; ``None``: it names none.

        Raises:
            LeftOut: the value means no split.
            UserError: the row lacks the column.

        """
        if self.column not in row:
            if self.required:
                raise UserError(f"split: the row has no column {self.column!r}{nearest(self.column, map(str, row))}")
            return None
        value = row[self.column]
        if value is None and not self.required:  # Parquet files write all columns in all rows
            return None
        for known, split in self.splits:
            if value == known:
                return split
        raise LeftOut(f"{self.column} {value!r:.80}")


#: names of splits in published files; ``restval`` is the part of COCO's validation set that Karpathy's split trains on
PUBLISHED = Splits(
    "split",
    (
        *((name, "train") for name in ("train", "restval")),
        *((name, "val") for name in ("val", "validate", "validation")),
        ("test", "test"),
    ),
    required=False,
)


def splits_of(given: Mapping[str, str | Sequence[str]]) -> Splits:
    """From the YAML's ``split: {column: split, train: [train, restval], val: [val]}``.

    Raises:
        UserError: a key is unknown or missing, or a value means two splits.

    """
    for key in given:
        if key not in ("column", *_SPLITS):
            raise UserError(f"split: {key!r} is no key of it{nearest(key, ('column', *_SPLITS))}")
    column = given.get("column", "split")
    if not isinstance(column, str):
        raise UserError(f"split: column={column!r}: the name of one column is expected")
    pairs: list[tuple[str, SetSplit]] = []
    for split in _SPLITS:
        values = given.get(split, ())
        pairs += [(value, split) for value in ([values] if isinstance(values, str) else values)]
    named = [value for value, _ in pairs]
    for value in named:
        if named.count(value) > 1:
            raise UserError(f"split: {value!r} is named twice")
    if not pairs:
        raise UserError("split: values of train, val or test are expected, such as train: [train, restval]")
    return Splits(column, tuple(pairs), by_hash="val" not in [split for _, split in pairs])
