"""The table of layouts: which keys a row of a published data set has, and what they mean.

A new layout is a module with a function from a row to the row model, and a line in :data:`LAYOUTS`.
"""

from __future__ import annotations

from nextgpt_pl.readers.layouts.base import Layout, layout_of, without_unknown_keys
from nextgpt_pl.readers.layouts.table import LAYOUTS

__all__ = ["LAYOUTS", "Layout", "layout_of", "without_unknown_keys"]
