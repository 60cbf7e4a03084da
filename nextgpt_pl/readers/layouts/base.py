"""What a layout is, how it is recognised, and which keys a row may have."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nextgpt_pl.errors import UserError, nearest
from nextgpt_pl.readers.model import Row
from nextgpt_pl.readers.place import Place
from nextgpt_pl.readers.splits import Splits


@dataclass(frozen=True)
class By:
    """Names a row's medium by the first of some columns that has a value.

    Attributes:
        columns: the columns.

    """

    columns: tuple[str, ...]

    def __call__(self, row: Mapping[str, Any]) -> str:
        """The value as text; empty if there is none."""
        return next((str(row[column]) for column in self.columns if row.get(column) not in (None, "")), "")


@dataclass(frozen=True)
class Layout:
    """The rows of a published data set, or of a family of them.

    Attributes:
        name: its name in YAML and messages.
        needs: alternatives of keys that a row of it has; the first row of a file is compared with all layouts.
        keys: further keys that it reads.
        read: the row model of a row.
        metadata: keys that its published files have and that say nothing to learn.
        members: whether it reads the media members of a tar sample.
        medium: names the row's medium, so that all rows about it are in the same split; ``None`` or an empty name: see
            :func:`nextgpt_pl.datamodules.hold_out.row_key`.
        renames: whether the names of its media can be changed by ``media_name``.
        splits: the column of its rows that tells their split.
        open: whether other keys are counted instead of refused.

    """

    name: str
    needs: tuple[frozenset[str], ...]
    keys: frozenset[str]
    read: Callable[[dict[str, Any], Place], Sequence[Row]]
    metadata: frozenset[str] = frozenset()
    members: bool = False
    medium: Callable[[Mapping[str, Any]], str] | None = None
    renames: bool = False
    splits: Splits | None = None
    open: bool = False
    known: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        split = {self.splits.column} if self.splits else set()
        object.__setattr__(self, "known", self.keys.union(self.metadata, split, *self.needs))

    def fits(self, keys: Collection[str]) -> bool:
        """Whether a row with these keys may be of this layout."""
        return any(need <= set(keys) for need in self.needs)


def keys(text: str) -> frozenset[str]:
    """The names in a text, separated by spaces."""
    return frozenset(text.split())


def needs(*alternatives: str) -> tuple[frozenset[str], ...]:
    """Alternatives of keys, each a text of names."""
    return tuple(keys(alternative) for alternative in alternatives)


def layout_of(row: Mapping[str, Any], layouts: Sequence[Layout]) -> Layout:
    """The first layout that fits a row.

    Raises:
        UserError: none does; the message names the keys and the nearest layout.

    """
    for layout in layouts:
        if layout.fits(row):
            return layout

    present = set(row)
    share, _, name, need = max(
        (len(need & present) / len(need), len(layout.known & present), layout.name, sorted(need))
        for layout in layouts
        for need in layout.needs
    )
    hint = f"; nearest is {name}, which needs {' and '.join(need)}" if share else ""
    raise UserError(
        f"no known layout has the keys {sorted(map(str, row))}{hint}; columns: in the YAML says which column means what"
    )


def without_unknown_keys(
    row: Mapping[str, Any],
    known: Collection[str],
    ignored: Collection[str] | None,
    where: str = "",
    readers: Sequence[Layout] = (),
) -> None:
    """Refuse a row with a key that neither its layout nor the list ``ignore`` knows.

    Args:
        row: the row, or an object in it.
        known: keys of the layout.
        ignored: keys in the YAML's ``ignore``; ``*`` stands for all. ``None``: no YAML reads the row.
        where: which object of the row it is, for the message.
        readers: layouts; the message names one that reads all keys.

    Raises:
        UserError: there is such a key; the message names the nearest known one.

    """
    if row.keys() <= (known if isinstance(known, frozenset | set) else set(known)) or "*" in (ignored or ()):
        return
    for key in row:
        if key not in known and key not in (ignored or ()):
            advice = "" if ignored is None else f"; ignore: [{key}] if it holds nothing to learn"
            other = next((r.name for r in readers if r.fits(row) and row.keys() <= r.known), None)
            hint = f"; layout {other!r} reads all keys of the row" if other else ""
            raise UserError(f"{where}key {key!r} would not be read{nearest(str(key), known)}{advice}{hint}")
