"""Configurations under flat dotted keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def flatten(config: Mapping[Any, Any], prefix: str = "", *, keep_empty: bool = False) -> dict[str, Any]:
    """``{"a": {"b": [1, {"c": 2}]}}`` as ``{"a.b.0": 1, "a.b.1.c": 2}``.

    Args:
        config: nested mappings and lists.
        prefix: in front of each key.
        keep_empty: keep empty mappings and lists as values; by default they are left out.

    """
    flat: dict[str, Any] = {}
    for name, value in config.items():
        key = f"{prefix}{name}"
        inner = dict(enumerate(value)) if isinstance(value, list | tuple) else value
        if isinstance(inner, Mapping) and (inner or not keep_empty):
            flat.update(flatten(inner, f"{key}.", keep_empty=keep_empty))
        else:
            flat[key] = value
    return flat
