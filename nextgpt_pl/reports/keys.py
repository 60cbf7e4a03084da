"""Dotted keys of configurations: flat, and as short as a reader can tell them apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

# these say how a configuration is nested, not what is configured
_SILENT = ("init_args", "class_path")


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": [1, {"c": 2}]}}`` as ``{"a.b.0": 1, "a.b.1.c": 2}``; empty mappings and lists are left out."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        key = f"{prefix}{name}"
        inner = dict(enumerate(value)) if isinstance(value, list | tuple) else value
        if isinstance(inner, Mapping):
            flat.update(flatten({str(k): v for k, v in inner.items()}, f"{key}."))
        else:
            flat[key] = value
    return flat


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """For each dotted key the shortest ending that no other of them has.

    Args:
        keys: such as ``model.init_args.network.init_args.output_projection.init_args.width``, alone: ``width``.

    """
    parts = {key: tuple(p for p in key.split(".") if p not in _SILENT) or (key,) for key in dict.fromkeys(keys)}
    found = {}
    for key, words in parts.items():
        others = [other for name, other in parts.items() if name != key]
        # a number alone names a place in a list, which says nothing without its list
        lengths = (n for n in range(1, len(words) + 1) if not words[-n].isdigit())
        unique = (n for n in lengths if all(other[-n:] != words[-n:] for other in others))
        length = next(unique, None)
        found[key] = ".".join(words[-length:]) if length else key
    return found
