"""Unique short names of the dotted keys of configurations."""

from __future__ import annotations

from collections.abc import Iterable

# parts of keys that reflect nesting only
_SILENT = ("init_args", "class_path")


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """The shortest unique ending of each dotted key.

    Args:
        keys: such as ``model.init_args.network.init_args.output_projection.init_args.width``, shortened to ``width``.

    """
    parts = {key: tuple(p for p in key.split(".") if p not in _SILENT) or (key,) for key in dict.fromkeys(keys)}
    endings = {}
    for key, words in parts.items():
        others = [other for name, other in parts.items() if name != key]
        # a list index alone is not meaningful
        lengths = (n for n in range(1, len(words) + 1) if not words[-n].isdigit())
        unique = (n for n in lengths if all(other[-n:] != words[-n:] for other in others))
        length = next(unique, None)
        endings[key] = ".".join(words[-length:]) if length else key
    return endings
