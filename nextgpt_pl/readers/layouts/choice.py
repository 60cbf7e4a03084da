"""Which layout reads a row: the one that the YAML names or describes, or the one that its keys tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nextgpt_pl.errors import UserError, nearest
from nextgpt_pl.readers.layouts.base import Layout, layout_of, without_unknown_keys
from nextgpt_pl.readers.layouts.columns_of import layout_of_columns
from nextgpt_pl.readers.layouts.table import BY_NAME, LAYOUTS
from nextgpt_pl.readers.tars import named_members

_REMEMBERED = 1000  # sets of keys whose layout is remembered


class LayoutChoice:
    """Chooses the layout of rows.

    Args:
        name: name of the layout of all rows; ``None``: recognised row by row.
        columns: which column means what, instead of a known layout; see
            :func:`~nextgpt_pl.readers.layouts.columns_of.layout_of_columns`.
        ignore: keys of rows that hold nothing to learn, ``*`` for all unknown ones.

    Raises:
        UserError: there is no such layout, or both are given.

    """

    def __init__(
        self, name: str | None, columns: Mapping[str, str | Sequence[str]] | None, ignore: Sequence[str]
    ) -> None:
        if name is not None and columns:
            raise UserError(f"layout={name!r} and columns: only one of them can say what the columns mean")
        if name is not None and name not in BY_NAME:
            raise UserError(f"layout={name!r}: no such layout{nearest(name, BY_NAME)}")
        self.name, self.columns, self.ignore = name, dict(columns or {}), tuple(ignore)
        self._only = layout_of_columns(columns) if columns else BY_NAME[name] if name else None
        self._known: dict[tuple[str, ...], Layout] = {}
        self._unread: dict[tuple[str, ...], tuple[str, ...]] = {}

    def __repr__(self) -> str:
        return f"LayoutChoice({self.name!r}, {self.columns!r}, {self.ignore!r})"

    def of(self, row: Any) -> Layout:
        """The layout of a row.

        Raises:
            UserError: the row is no object, no layout has its keys, or one of them would not be read.

        """
        if not isinstance(row, dict):
            raise UserError(f"an object is expected, got {row!r:.80}")
        names = tuple(row)
        layout = self._known.get(names)
        if layout is None:
            layout = self._only or layout_of(row, LAYOUTS)
            if not layout.open:
                known = layout.known.union(named_members(row)) if layout.members else layout.known
                without_unknown_keys(row, known, self.ignore, readers=LAYOUTS)
            if len(self._known) < _REMEMBERED:
                self._known[names] = layout
        return layout

    def unread(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        """The columns of a row that the YAML's ``columns`` do not name; other layouts refuse such columns."""
        if self._only is None or not self._only.open:
            return ()
        names = tuple(row)
        unread = self._unread.get(names)
        if unread is None:
            known = self._only.known.union(self.ignore)
            unread = () if "*" in known else tuple(sorted(name for name in names if name not in known))
            if len(self._unread) < _REMEMBERED:
                self._unread[names] = unread
        return unread
